"""Verifying a chain of certificates offline: from the lines and the public keys alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lienthong.certificates.form import NONE_BEFORE, OUTCOMES, NoCertificate, Signed, read_line
from lienthong.certificates.keys import PublicKeys, is_signed
from lienthong.errors import ConfigError

Line = tuple[str, bytes]  # where it stands, and what


@dataclass(frozen=True, slots=True)
class Bad:
    """The first entry that is not right: where it stands, which certificate it says it is, and what is wrong."""

    place: str
    what: str
    certificate: str | None = None


@dataclass(slots=True)
class Verified:
    """How many certificates were found right, up to the first bad one, and the hash of the last of them."""

    certificates: int = 0
    first: int | None = None
    last: int | None = None
    last_hash: str = NONE_BEFORE
    bad: Bad | None = None


def lines_of(files: Iterable[Path]) -> Iterator[Line]:
    """The lines of some files, one after the other as one chain; raises `ConfigError` for a file that cannot be read."""
    for file in files:
        try:
            with file.open("rb") as opened:
                yield from ((f"{file}:{number}", line) for number, line in enumerate(opened, 1) if line.strip())
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from None


def verify(lines: Iterable[Line], keys: PublicKeys, *, previous: str | None = None, last: str | None = None) -> Verified:
    """Check signatures, order, links and sums, up to the first that is wrong.

    A chain begins with number 1, unless `previous` names the hash of the certificate before the first line. That some are missing at
    the end shows only against `last`, the hash of the newest certificate as somebody else holds it.
    """
    chain = _Chain(keys, previous)
    place = "the end"
    for place, line in lines:
        try:
            chain.take(line)
        except NoCertificate as problem:
            chain.found.bad = Bad(place, str(problem), chain.named)
            return chain.found
    if last is not None and chain.found.last_hash != last:
        chain.found.bad = Bad(place, f"the chain does not end with the certificate whose hash is {last}: some are missing after this line")
    return chain.found


@dataclass(slots=True)
class _Chain:
    keys: PublicKeys
    previous: str | None
    found: Verified = field(default_factory=Verified)
    named: str | None = None
    _seen: dict[int, str] = field(default_factory=dict)
    _issues: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def take(self, line: bytes) -> None:
        """The next line; raises `NoCertificate` when it is not right."""
        self.named = None
        signed = read_line(line)
        document = self._signed(signed)
        number = document["number"]
        if self._seen.get(number) == signed.hash:
            return  # the very same again, as after a crash in the middle of publishing
        self._linked(number, document["previous"])
        self._issued(document)
        _sound(document)
        found = self.found
        found.certificates, found.first, found.last, found.last_hash = found.certificates + 1, found.first or number, number, signed.hash
        self._seen[number] = signed.hash

    def _signed(self, signed: Signed) -> dict[str, Any]:
        problem = None
        key = self.keys.get(signed.key)
        if key is None:
            problem = f"it says that key {signed.key[:16]!r} has signed it, and the public keys given are {', '.join(self.keys)}"
        elif not is_signed(key, signed.body, signed.signature):
            problem = "its signature does not fit: it was altered, or somebody else has made it"
        try:
            document = signed.document()
            self.named = f"number {document['number']} ({document['system']} {document['entity']} {document['day']} issue {document['issue']})"
        except (NoCertificate, KeyError) as error:
            raise NoCertificate(problem or str(error)) from None
        if problem is not None:
            raise NoCertificate(problem)
        return document

    def _linked(self, number: int, previous: str) -> None:
        last, found = self.found.last, self.found
        if last is None and self.previous is not None:
            if previous != self.previous:
                raise NoCertificate("it does not follow the certificate whose hash was given")
            return
        expected = (last or 0) + 1
        if number > expected:
            missing = f"number {expected} is" if number == expected + 1 else f"numbers {expected} to {number - 1} are"
            raise NoCertificate(f"{missing} missing before it: removed, or in another order")
        if number < expected:
            raise NoCertificate(f"number {expected} was to come here: another certificate of this number, or in another order")
        if previous != found.last_hash:
            raise NoCertificate("it does not hold the hash of the certificate before it: one of the two was replaced")

    def _issued(self, document: Mapping[str, Any]) -> None:
        place = (document["system"], document["entity"], document["day"])
        before = self._issues.get(place, 0 if self.previous is None else None)
        if before is not None and document["issue"] != before + 1:
            raise NoCertificate(f"issue {before + 1} was to come, and it is issue {document['issue']}")
        self._issues[place] = document["issue"]


def _sound(document: Mapping[str, Any]) -> None:
    """What a certificate says must agree with itself."""
    counts, target, reasons = document["counts"], document["target"], document["reasons"]
    if document["state"] != ("open" if reasons else "closed"):
        raise NoCertificate("its state and its reasons contradict each other")
    if document["state"] == "open":
        return
    if counts["captured"] != sum(counts[outcome] for outcome in OUTCOMES):
        raise NoCertificate("it is closed, and captured is not the sum of the outcomes")
    if target is not None and target["entitled"] != target["held"]:
        raise NoCertificate("it is closed, and what the party holds is not what it is entitled to")
