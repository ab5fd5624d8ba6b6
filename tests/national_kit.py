"""The stand-ins of the national services for tests: started beside an embedded PostgreSQL, filled with synthetic people, made faulty, counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from connectors.postgres import connect, sql
from lienthong.embedded.national import faults
from lienthong.embedded.national.population import PATHS
from lienthong.embedded.national.process import StandIn
from lienthong.embedded.national.unit_register import PATH as UNIT_REGISTER_PATH

MAI: dict[str, Any] = {
    "personal_number": "079190000001",
    "old_identity_number": "020000001",
    "full_name": "NGUYỄN THỊ MAI",
    "sex": 2,
    "birth_date": "1990-05-04",
    "ethnicity": "01",
    "religion": "00",
    "marital_status": "2",
    "blood_type": "01",
    "birth_place": {"province": "79", "district": "760", "ward": "26740", "detail": "Phường Bến Nghé"},
    "home_place": {"province": "79", "district": "760"},
    "residence": {"province": "79", "ward": "26740", "detail": "12 Đường Số 1"},
    "father": {"number": "079060000002", "name": "NGUYỄN VĂN AN", "nationality": "VN"},
    "head": {"relation": "01", "number": "079060000002", "name": "NGUYỄN VĂN AN"},
    "as_of": "2026-10-01T08:00:00+07:00",
}
"""Everything known; the residence already without a district."""
BA: dict[str, Any] = {
    "personal_number": "079038000003",
    "full_name": "TRẦN VĂN BA",
    "sex": 1,
    "birth_date": "1938",
    "residence": {"province": "79", "district": "772", "ward": "27232", "detail": "Tổ 5"},
    "as_of": "2025-02-01T00:00:00+07:00",
}
"""Only the year of birth is known, and the address is from before the districts went."""
CALL = {"MaYeuCau": "11111111-1111-4111-8111-111111111111", "MaDVC": "000.00.00.H29", "MaTichHop": "033", "MaCanBo": "canbo01"}
ASK_MAI = {"SoDinhDanh": MAI["personal_number"], "HoVaTen": MAI["full_name"], "NgayThangNamSinh": {"NgayThangNam": "19900504"}}
ASK_BA = {"SoDinhDanh": BA["personal_number"], "HoVaTen": BA["full_name"], "NgayThangNamSinh": {"Nam": "1938"}}


class National:
    """A running stand-in and its tables."""

    def __init__(self, server: StandIn, dsn: str, schema: str) -> None:
        self.server, self.schema, self.address = server, schema, server.address
        self._connection = connect(dsn, application_name="test", autocommit=True)
        self.sql(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))

    def url(self, profile: str = "practice") -> str:
        """The endpoint of a message profile of the population database."""
        return self.address + PATHS[profile]

    @property
    def register_url(self) -> str:
        """The endpoint of the unit register."""
        return self.address + UNIT_REGISTER_PATH

    def sql(self, statement: Any, arguments: Any = None) -> list[tuple[Any, ...]]:
        """Run a statement in the service's schema; its rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, arguments)
            return cursor.fetchall() if cursor.description else []

    def people(self, *rows: Mapping[str, Any]) -> None:
        """Put people in, or change them."""
        self._put("person", "personal_number", rows)

    def account(self, name: str, secret: str | None = None, certificate: str | None = None) -> None:
        """Let somebody in, by the profile the server was started with."""
        self._put("account", "name", [{"name": name, "secret": secret, "certificate": certificate}])

    def fault(self, kind: str, times: int = 1, *, operation: str | None = None, **argument: Any) -> None:
        """Let the next requests meet a fault of `faults.KINDS`."""
        faults.moment(kind)
        self.sql("INSERT INTO fault (kind, times, argument, operation) VALUES (%s, %s, %s, %s)", (kind, times, json.dumps(argument), operation))

    def heal(self) -> None:
        """Play no fault any more."""
        self.sql("DELETE FROM fault")

    def forget(self) -> None:
        """Forget the requests that were seen."""
        self.sql("TRUNCATE seen")

    def seen(self, operation: str | None = None) -> list[dict[str, Any]]:
        """Requests that arrived, in order; those of `?wsdl` too."""
        found = [row for (row,) in self.sql("SELECT to_jsonb(seen) FROM seen ORDER BY number")]
        return [row for row in found if operation in (None, row["operation"])]

    def processed(self, operation: str | None = None) -> int:
        """Requests whose effect is committed."""
        return sum(row["processed"] for row in self.seen(operation))

    def most_in_a_second(self, seconds: float = 1.0) -> int:
        """The most requests that arrived within any `seconds`."""
        ((found,),) = self.sql(
            """WITH w AS (SELECT count(*) OVER (ORDER BY at RANGE BETWEEN make_interval(secs => %s) PRECEDING AND CURRENT ROW) AS c FROM seen)
            SELECT coalesce(max(c), 0) FROM w""",
            (seconds,),
        )
        return int(found)

    def close(self) -> None:
        """Leave the tables."""
        self._connection.close()

    def _put(self, table: str, key: str, rows: Any) -> None:
        for row in rows:
            values = [json.dumps(value) if isinstance(value, dict) else value for value in row.values()]
            names = [sql.Identifier(name) for name in row]
            self.sql(
                sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}").format(
                    sql.Identifier(table),
                    sql.SQL(", ").join(names),
                    sql.SQL(", ").join(sql.Placeholder() * len(names)),
                    sql.Identifier(key),
                    sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(name) for name in names),
                ),
                values,
            )


@contextmanager
def population(folder: Path, dsn: str, *arguments: str) -> Iterator[National]:
    """A population database of its own, with Mai and Ba in it; `arguments` as of its command line (`--auth`, `--rate`, `--tls`, `--sign`)."""
    with StandIn(folder, module="population", dsn=dsn, arguments=arguments) as server:
        made = National(server, dsn, "population")
        made.people(MAI, BA)
        try:
            yield made
        finally:
            made.close()


@contextmanager
def unit_register(folder: Path, dsn: str, *arguments: str) -> Iterator[National]:
    """A unit register that holds what was published."""
    with StandIn(folder, module="unit_register", dsn=dsn, arguments=arguments) as server:
        made = National(server, dsn, "unit_register")
        try:
            yield made
        finally:
            made.close()


class Authority:
    """A certificate authority for tests; `ca` is its certificate's file."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        self.folder, self.name = folder, name
        folder.mkdir(parents=True, exist_ok=True)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        now = datetime.now(UTC)
        made = self._builder(name, self._key, now - timedelta(days=1), now + timedelta(days=30))
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, expired: bool = False) -> tuple[Path, Path]:
        """Files of a key and a certificate for this name, good for localhost."""
        key, now = rsa.generate_private_key(public_exponent=65537, key_size=2048), datetime.now(UTC)
        until = now - timedelta(hours=1) if expired else now + timedelta(days=1)
        hosts = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        made = self._builder(name, key, now - timedelta(hours=12), until).add_extension(hosts, critical=False)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = made.add_extension(issuer, critical=False)
        files = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        files[0].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        files[1].write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return files

    def _builder(self, name: str, key: rsa.RSAPrivateKey, first: datetime, until: datetime) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(_named(name)).issuer_name(_named(self.name)).public_key(key.public_key())
        return made.serial_number(x509.random_serial_number()).not_valid_before(first).not_valid_after(until)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
