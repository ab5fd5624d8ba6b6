"""The chain in the hub: certificates are added at its end, and found by system, entity and day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from connectors.postgres import Connection, Cursor, one, rows, streamed, transaction
from lienthong.certificates.form import NONE_BEFORE, OUTCOMES, Counts, Signed, Statement, body_of, hash_of
from lienthong.certificates.keys import Signer

Place = tuple[str, str, date]  # system, entity, day

_LAST = """
SELECT DISTINCT ON (system, entity, day) system, entity, day, number, issue, state, captured, body, key, signature FROM hub.certificate
WHERE (%(systems)s::text[] IS NULL OR system = ANY(%(systems)s)) AND day BETWEEN coalesce(%(first)s, day) AND coalesce(%(last)s, day)
ORDER BY system, entity, day, issue DESC
"""
_LATE = f"""
SELECT l.system, l.entity, l.day, d.n - l.captured FROM ({_LAST}) l JOIN hub.day_count d USING (system, entity, day)
WHERE d.outcome = 'captured' AND d.n <> l.captured
"""  # noqa: S608 - a statement of our own
_COUNTED = """
SELECT entity, day, outcome, n, reading FROM hub.day_count
WHERE system = %s AND outcome = ANY(%s) AND day BETWEEN coalesce(%s::date, '2000-01-01') AND %s::date ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as the chain holds it."""

    number: int
    issue: int
    state: str
    captured: int
    signed: Signed


def last_issues(cursor: Cursor, *, systems: Sequence[str] | None = None, first: date | None = None, last: date | None = None) -> dict[Place, Issued]:
    """The newest issue of every certificate, of some systems and days."""
    found = rows(cursor, _LAST, _which(systems, first, last))
    return {
        (system, entity, day): Issued(number, issue, state, captured, Signed(body, key, bytes(signature)))
        for system, entity, day, number, issue, state, captured, body, key, signature in found
    }


def late(cursor: Cursor, *, systems: Sequence[str] | None = None, first: date | None = None, last: date | None = None) -> dict[Place, int]:
    """How many entries of a day have come after its newest certificate."""
    found = rows(cursor, _LATE, _which(systems, first, last))
    return {(system, entity, day): n for system, entity, day, n in found}


def _which(systems: Sequence[str] | None, first: date | None, last: date | None) -> dict[str, Any]:
    return {"systems": None if systems is None else list(systems), "first": first, "last": last}


def counted(cursor: Cursor, system: str, first: date | None, last: date) -> dict[tuple[str, date], tuple[Counts, int]]:
    """What was counted of a system, by entity and day, with the newest reading that spoke about the day."""
    sums: dict[tuple[str, date], dict[str, int]] = {}
    readings: dict[tuple[str, date], int] = {}
    for entity, day, outcome, n, reading in rows(cursor, _COUNTED, [system, ["captured", *OUTCOMES], first, last]):
        sums.setdefault((entity, day), {})[outcome] = n
        readings[entity, day] = max(readings.get((entity, day), 0), reading)
    return {place: (Counts(**outcomes), readings[place]) for place, outcomes in sums.items()}


def add(connection: Connection, signer: Signer, statements: Iterable[Statement], now: datetime) -> list[Signed]:
    """Sign statements and put them at the end of the chain, all or none; one process at a time."""
    made = []
    with transaction(connection) as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('lienthong.certificate'))")
        found = one(cursor, "SELECT number, body FROM hub.certificate ORDER BY number DESC LIMIT 1")
        number, previous = (found[0], hash_of(found[1])) if found else (0, NONE_BEFORE)
        for statement in statements:
            number += 1
            place = [statement.system, statement.entity, statement.day]
            known = one(cursor, "SELECT max(issue) FROM hub.certificate WHERE (system, entity, day) = (%s, %s, %s)", place)
            issue = ((known and known[0]) or 0) + 1
            body = body_of(statement, number=number, previous=previous, issue=issue, issued_at=f"{now:%Y-%m-%dT%H:%M:%SZ}")
            signed = Signed(body, signer.name, signer.sign(body))
            cursor.execute(
                """INSERT INTO hub.certificate (number, system, entity, day, issue, state, captured, body, key, signature)
                   VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
                [number, *place, issue, statement.state, statement.counts.captured, body, signed.key, signed.signature],
            )
            previous = signed.hash
            made.append(signed)
    return made


def export(connection: Connection, first: int, last: int | None) -> Iterator[Signed]:
    """The certificates from one number to another, in order."""
    statement = "SELECT body, key, signature FROM hub.certificate WHERE number >= %(first)s AND number <= coalesce(%(last)s, number) ORDER BY number"
    with transaction(connection) as cursor:
        for body, key, signature in streamed(cursor, statement, {"first": first, "last": last}):
            yield Signed(body, key, bytes(signature))
