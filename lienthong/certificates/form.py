"""The form of a certificate: the bytes that are signed, and the line of JSON in which they travel."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import sha256
from typing import Any, Literal

import orjson

SCHEMA = "lienthong/certificate/1"
NONE_BEFORE = "0" * 64
"""What the first certificate names as the hash of the one before it."""

OUTCOMES = ("merged", "unchanged", "older", "duplicate", "refused", "parked")
"""Every captured entry ends in exactly one of these at the hub."""

State = Literal["closed", "open"]


class NoCertificate(ValueError):
    """These bytes are not a certificate, or not in its one form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What has become of the entries that a system's capture sent about one day."""

    captured: int = 0
    merged: int = 0
    unchanged: int = 0
    older: int = 0
    duplicate: int = 0
    refused: int = 0
    parked: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether captured is the sum of all outcomes."""
        return bool(self.captured == sum(getattr(self, outcome) for outcome in OUTCOMES))


@dataclass(frozen=True, slots=True)
class Holding:
    """A set of records: how many, and the sum of their digests (`lienthong.digest`) as 32 hexadecimal digits."""

    records: int
    digest: str


@dataclass(frozen=True, slots=True)
class Target:
    """What a party is entitled to, and what it holds of that."""

    entitled: Holding
    held: Holding


@dataclass(frozen=True, slots=True, order=True)
class Reason:
    """Why a day is open: a code of docs/certificates.md, and how many records it concerns (0: not a matter of records)."""

    code: str
    records: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is certified about one system, entity and day."""

    system: str
    entity: str
    day: date
    reading: int
    counts: Counts
    target: Target | None
    reasons: tuple[Reason, ...]

    @property
    def state(self) -> State:
        """Closed when nothing speaks against it."""
        return "open" if self.reasons else "closed"


def body_of(statement: Statement, *, number: int, previous: str, issue: int, issued_at: str) -> str:
    """The text that is signed; `issued_at` is an instant in UTC, `2026-11-23T01:00:00Z`."""
    said = asdict(statement) | {"day": statement.day.isoformat(), "state": statement.state}
    return canonical({"schema": SCHEMA, "number": number, "previous": previous, "issue": issue, "issued_at": issued_at, **said})


def canonical(document: Mapping[str, Any]) -> str:
    """JSON with sorted names, without blanks; texts, integers, null, lists and objects only. Raises `NoCertificate` for anything else."""
    _check(document)
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode()


def _check(value: Any) -> None:
    if isinstance(value, Mapping):
        for one in value.values():
            _check(one)
    elif isinstance(value, list | tuple):
        for one in value:
            _check(one)
    elif not (value is None or isinstance(value, str) or type(value) is int):
        raise NoCertificate(f"a value that is neither text nor an integer ({type(value).__name__})")


def hash_of(body: str) -> str:
    """SHA-256 of a body in UTF-8: what the next certificate holds as `previous`."""
    return sha256(body.encode()).hexdigest()


# ------------------------------------------------------------------ how it travels
@dataclass(frozen=True, slots=True)
class Signed:
    """A body with its signature (Ed25519) and the name of the key that made it."""

    body: str
    key: str
    signature: bytes

    @property
    def hash(self) -> str:
        """The hash of the body."""
        return hash_of(self.body)

    def document(self) -> dict[str, Any]:
        """The body as values; raises `NoCertificate` when it is not one in canonical form."""
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise NoCertificate("its body is not JSON") from None
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise NoCertificate(f"its body is not a {SCHEMA}")
        if canonical(document) != self.body:
            raise NoCertificate("its body is not in canonical form")
        return document

    def line(self) -> bytes:
        """As one line of JSON, without the line break: in files and as the value of a Kafka message."""
        return orjson.dumps({"body": self.body, "key": self.key, "signature": base64.b64encode(self.signature).decode()})


def read_line(line: bytes) -> Signed:
    """One line as it was written; raises `NoCertificate`."""
    try:
        found = orjson.loads(line)
        body, key, signature = found["body"], found["key"], found["signature"]
        signed = Signed(body, key, base64.b64decode(signature, validate=True))
    except (orjson.JSONDecodeError, KeyError, TypeError, binascii.Error):
        raise NoCertificate("not a line with body, key and signature") from None
    if not isinstance(body, str) or not isinstance(key, str) or signed.line() != line.strip():
        raise NoCertificate("not a line with body, key and signature as it was written")
    return signed
