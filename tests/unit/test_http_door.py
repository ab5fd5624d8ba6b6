"""The door to HTTP against servers that answer badly: raw sockets, because a library would not misbehave so."""

from __future__ import annotations

import contextlib
import gzip
import logging
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors.errors import ConfigError, FatalError, TransientError
from connectors.http import Answer, Busy, CertificateWrong, HttpDoor, Limits, NotSent, UnknownOutcome

SECONDS = 0.6
FINE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

Talk = Callable[[socket.socket], None]


class Server:
    """A listener that does with each connection what the test says, and remembers what it was sent."""

    def __init__(self, talk: Talk) -> None:
        self.requests: list[bytes] = []
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            with contextlib.suppress(OSError):
                self._talk(connection)
            connection.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


@contextlib.contextmanager
def serving(talk: Talk) -> Iterator[Server]:
    server = Server(talk)
    try:
        yield server
    finally:
        server.close()


def asked(connection: socket.socket) -> bytes:
    """Read one request's head."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError
        head += piece
    return head


def answering(*pieces: bytes, pause_seconds: float = 0.0) -> Talk:
    def talk(connection: socket.socket) -> None:
        asked(connection)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause_seconds)

    return talk


def ask(server: Server, *, seconds: float = SECONDS, bytes_max: int = 1_000_000, path: str = "/x", content: bytes = b"") -> Answer:
    door = HttpDoor(f"http://127.0.0.1:{server.port}", limits=Limits(seconds, bytes_max))
    try:
        return door.send("POST", path, content=content)
    finally:
        door.close()


def test_an_answer_comes_whole_with_its_status_and_headers() -> None:
    with serving(answering(b"HTTP/1.1 404 No\r\ncontent-length: 4\r\nX-Word: yes\r\n\r\nbody")) as server:
        answer = ask(server)
    assert (answer.status, answer.body, answer.headers["x-word"]) == (404, b"body", "yes")


# ------------------------------------------------------------------ the deadline
def drips(connection: socket.socket, head: bytes) -> None:
    connection.sendall(head)
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b"HTTP/1.1 200 OK\r\nx-long: "], ids=["body", "headers"])
def test_an_answer_that_drips_ends_at_the_deadline(head: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        asked(connection)
        drips(connection, head)

    with serving(talk) as server:
        began = time.monotonic()
        with pytest.raises(UnknownOutcome, match="within 0.6 s"):
            ask(server)
        assert time.monotonic() - began < SECONDS + 0.4


def test_interim_answers_without_end_end_at_the_deadline() -> None:
    with serving(answering(*[b"HTTP/1.1 102 Processing\r\n\r\n"] * 100, pause_seconds=0.05)) as server, pytest.raises(UnknownOutcome, match="within"):
        ask(server)


def test_a_tls_handshake_that_drips_ends_at_the_deadline_and_nothing_has_left() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        drips(connection, b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03")  # a server hello of 16 KB, byte by byte

    with serving(talk) as server:
        door = HttpDoor(f"https://127.0.0.1:{server.port}", limits=Limits(SECONDS))
        began = time.monotonic()
        with pytest.raises(NotSent):
            door.send("GET", "/")
        assert time.monotonic() - began < SECONDS + 0.4
        door.close()


def test_one_slow_answer_takes_nobody_elses_turn() -> None:
    with serving(lambda c: drips(c, b"HTTP/1.1 200 OK\r\nx: ")) as slow:
        stuck = threading.Thread(target=lambda: pytest.raises(UnknownOutcome, ask, slow, seconds=2))
        stuck.start()
        with serving(answering(FINE)) as quick:
            began = time.monotonic()
            assert ask(quick).body == b"ok"
            assert time.monotonic() - began < 1
        stuck.join()


# ------------------------------------------------------------------ size
def head_of(encoding: bytes, length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-encoding: " + encoding + b"\r\ncontent-length: " + str(length).encode() + b"\r\n\r\n"


def test_a_packed_answer_is_unpacked() -> None:
    packed = gzip.compress(b"word " * 1000)
    with serving(answering(head_of(b"gzip", len(packed)), packed)) as server:
        assert ask(server).body == b"word " * 1000


def test_a_packed_answer_is_counted_after_unpacking() -> None:
    packed = gzip.compress(bytes(50_000_000))
    with serving(answering(head_of(b"gzip", len(packed)), packed)) as server, pytest.raises(UnknownOutcome, match="more than 1,000,000 bytes"):
        ask(server)


def test_a_body_without_end_is_cut_at_the_limit() -> None:
    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(65536))

    with serving(talk) as server, pytest.raises(UnknownOutcome, match="more than 1,000,000 bytes"):
        ask(server, seconds=5)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip, gzip", gzip.compress(gzip.compress(b"deep"))),
        (b"br", b"anything"),
        (b"gzip", gzip.compress(b"word" * 100)[:-12]),
        (b"gzip", gzip.compress(b"word") + b"more"),
        (b"gzip", b"no gzip at all"),
        (b"deflate", zlib.compress(b"word")[:-2]),
    ],
    ids=("packed twice", "unknown packing", "cut", "more behind the end", "not packed", "end missing"),
)
def test_what_cannot_be_unpacked_whole_is_no_answer(encoding: bytes, body: bytes) -> None:
    with serving(answering(head_of(encoding, len(body)), body)) as server, pytest.raises(UnknownOutcome):
        ask(server)


# ------------------------------------------------------------------ the classes of failure
def test_a_port_nobody_listens_at_means_not_sent() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        door = HttpDoor(f"http://127.0.0.1:{free.getsockname()[1]}", limits=Limits(SECONDS))
        with pytest.raises(NotSent) as caught:
            door.send("POST", "/")
        door.close()
    assert isinstance(caught.value, TransientError)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf",
        b"SSH-2.0\r\n\r\n",
    ],
)
def test_a_connection_that_breaks_after_the_request_left_is_an_unknown_outcome(answer: bytes) -> None:
    with serving(answering(answer)) as server, pytest.raises(UnknownOutcome):
        ask(server)


@pytest.mark.parametrize(
    ("status", "said", "expected"), [(429, b"7", 7.0), (503, b"Wed, 21 Oct 2026 07:28:00 GMT", None), (503, b"9999999999", 3600.0)]
)
def test_busy_says_how_long_to_wait(status: int, said: bytes, expected: float | None) -> None:
    head = b"HTTP/1.1 %d No\r\ncontent-length: 0\r\nretry-after: %s\r\n\r\n" % (status, said)
    with serving(answering(head)) as server, pytest.raises(Busy) as caught:
        ask(server)
    assert caught.value.retry_after == expected


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(status: int) -> None:
    with serving(answering(FINE)) as other:
        head = b"HTTP/1.1 %d Moved\r\ncontent-length: 0\r\nlocation: http://127.0.0.1:%d/\r\n\r\n" % (status, other.port)
        reached = []
        other._talk = lambda c: reached.append(asked(c))  # noqa: SLF001
        with serving(answering(head)) as server, pytest.raises(UnknownOutcome, match="never followed"):
            ask(server)
    assert reached == []


# ------------------------------------------------------------------ what leaves
def test_neither_proxies_nor_netrc_nor_cookies_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heads: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        heads.append(asked(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nset-cookie: a=b\r\nconnection: close\r\n\r\n")

    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serving(talk) as server:
        door = HttpDoor(f"http://127.0.0.1:{server.port}/base", limits=Limits(SECONDS))
        door.send("POST", "/path", headers={"x-own": "yes"}, content=b"12")
        door.send("POST")
        door.close()
    first, second = (head.lower() for head in heads)
    assert first.startswith(b"post /base/path http/1.1\r\n")
    assert second.startswith(b"post /base http/1.1\r\n")
    assert b"x-own: yes" in first
    assert b"cookie" not in second
    assert b"authorization" not in first


def test_addresses_and_bodies_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), serving(answering(FINE)) as server:
        ask(server, path="/canary-path", content=b"canary-body")
    assert "canary" not in caplog.text


@pytest.mark.parametrize("address", ["ftp://host", "host:80", "https://user:word@host", "https://", "http://host:port", "file:///etc/passwd"])
def test_an_address_that_is_none_is_a_wrong_configuration(address: str) -> None:
    with pytest.raises(ConfigError):
        HttpDoor(address, limits=Limits())


def test_a_path_cannot_name_another_host() -> None:
    with serving(answering(FINE)) as server, pytest.raises(ConfigError):
        ask(server, path="@other.example/")


# ------------------------------------------------------------------ certificates
class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {folder.name}")])
        builder = self._builder(self.name, self.key, timedelta(days=1)).add_extension(x509.BasicConstraints(True, None), True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
        builder = builder.add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), True)
        self.certificate = builder.sign(self.key, hashes.SHA256())
        self.file = folder / "ca.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, lives: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key.public_key())
        return builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=2)).not_valid_after(now + lives)

    def issue(self, name: str, *, address: str = "127.0.0.1", lives: timedelta = timedelta(days=1)) -> tuple[str, str]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, lives)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(address))]), False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        self.last = builder.sign(self.key, hashes.SHA256())
        certificate, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(self.last.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return str(certificate), str(private)

    def revoke_last(self) -> None:
        """Put the certificate issued last on a list beside the authority's own."""
        now = datetime.now(UTC)
        revoked = x509.RevokedCertificateBuilder().serial_number(self.last.serial_number).revocation_date(now - timedelta(hours=1)).build()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now - timedelta(hours=1))
        listed = builder.next_update(now + timedelta(days=1)).add_revoked_certificate(revoked).sign(self.key, hashes.SHA256())
        self.file.write_bytes(self.file.read_bytes() + listed.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(certificate: tuple[str, str], *, clients: Path | None = None, newest: ssl.TLSVersion | None = None) -> Talk:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if newest is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = newest
    if clients is not None:
        context.load_verify_locations(str(clients))
        context.verify_mode = ssl.CERT_REQUIRED

    def talk(connection: socket.socket) -> None:
        with connection.dup() as raw:
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as inside:
                asked(inside)
                inside.sendall(FINE)
            # Read to the end: a socket closed with something unread resets, and what it said last may be lost.
            raw.settimeout(5)
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    pass

    return talk


def ask_tls(server: Server, authority: Authority, certificate: tuple[str, str] | None = None) -> bytes:
    door = HttpDoor(f"https://127.0.0.1:{server.port}", limits=Limits(5), verify=authority.file, certificate=certificate)
    try:
        return door.send("GET", "/").body
    finally:
        door.close()


def test_both_sides_show_their_certificates(authority: Authority) -> None:
    with serving(tls(authority.issue("server"), clients=authority.file)) as server:
        assert ask_tls(server, authority, authority.issue("us")) == b"ok"


@pytest.mark.parametrize("wrong", ["expired", "host", "authority", "revoked"])
def test_a_certificate_that_is_not_right_stops_the_line(authority: Authority, tmp_path: Path, wrong: str) -> None:
    issuer = authority
    if wrong == "authority":
        (tmp_path / "other").mkdir()
        issuer = Authority(tmp_path / "other")
    address = "127.0.0.2" if wrong == "host" else "127.0.0.1"
    certificate = issuer.issue("server", address=address, lives=timedelta(days=-1 if wrong == "expired" else 1))
    if wrong == "revoked":
        authority.revoke_last()
    with serving(tls(certificate)) as server, pytest.raises(CertificateWrong) as caught:
        ask_tls(server, authority)
    assert isinstance(caught.value, FatalError)


def test_a_service_that_wants_our_certificate_and_gets_none_stops_the_line(authority: Authority) -> None:
    with serving(tls(authority.issue("server"), clients=authority.file)) as server, pytest.raises(CertificateWrong):
        ask_tls(server, authority)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_is_not_spoken(authority: Authority) -> None:
    with serving(tls(authority.issue("server"), newest=ssl.TLSVersion.TLSv1_1)) as server, pytest.raises(NotSent):
        ask_tls(server, authority)


def test_the_check_of_certificates_cannot_be_switched_off() -> None:
    with pytest.raises(ConfigError):
        HttpDoor("https://127.0.0.1", limits=Limits(), verify=False)
