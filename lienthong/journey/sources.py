"""Dossiers that a system holds and the hub never saw: the keys of both sides, by digests of buckets first."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.postgres import Connection, Cursor, connect, rows, sql, streamed, transaction
from lienthong.journey.targets import CONNECT_SECONDS, ask_each
from lienthong.layout import Layout
from lienthong.settings import Settings

BUCKETS = 1024
"""A hundred thousand keys make a hundred in a bucket: one that is missing costs a hundred keys to find."""
POLL_SECONDS = 0.2
MARGIN_SECONDS = 2
"""Between the clocks of a source and the hub, and for what is in a topic and not fetched."""

_SUMS = """
SELECT (hashtextextended(local_key, 0) & {mask})::int, count(*), sum(hashtextextended(local_key, 0)) FROM hub.contribution
WHERE system = %s AND entity = 'dossier' AND op = 's' GROUP BY 1
"""
_KNOWN = "SELECT local_key FROM hub.contribution WHERE system = %s AND entity = 'dossier' AND op <> 'p' AND local_key = ANY(%s)"
_PARKED = """
SELECT DISTINCT ON (local_key) local_key, reason, field FROM hub.parked
WHERE system = %s AND entity = 'dossier' AND state = 'open' AND local_key = ANY(%s) ORDER BY local_key, id DESC
"""
_BEHIND = """
SELECT EXISTS (SELECT FROM hub.line WHERE state = 'running' AND beat > now() - INTERVAL '10 s' AND through <= %(at)s
  AND (stage = 'capture' AND system = ANY(%(systems)s) OR stage = 'merge' AND system = '*'))
"""
_OURS = "SELECT local_key FROM lienthong.applied WHERE entity = 'dossier' AND local_key = ANY(%s)"


@dataclass(frozen=True, slots=True)
class Unseen:
    """A row that the hub does not know, with what its system says about when it was submitted (µs; None: not in a form that sorts)."""

    system: str
    key: str
    submitted_at: int | None
    procedure: str | None


class Keys:
    """The dossiers' local keys in one system's own tables."""

    def __init__(self, cursor: Cursor, settings: Settings, system: str) -> None:
        layout = Layout.of(cursor, settings.profile_of(system), "dossier")
        self.is_whole = layout.mapping.each is None
        self._key = layout.local_key
        self._rows = sql.SQL("FROM {} WHERE {} AND NOT {}").format(layout.source, layout.constants, layout.deleted)
        known = [name in layout.mapping.fields and layout.is_native(name) for name in ("submitted_at", "procedure_code")]
        null = sql.SQL("NULL")
        self._more = [layout.value(n) if k else null for n, k in zip(("submitted_at", "procedure_code"), known, strict=True)]

    def sums(self, cursor: Cursor) -> dict[int, tuple[int, int]]:
        """Bucket: number of keys, and the sum of their hashes."""
        statement = sql.SQL("SELECT (h & {})::int, count(*), sum(h) FROM (SELECT hashtextextended({}, 0) AS h {}) k GROUP BY 1").format(
            sql.Literal(BUCKETS - 1), self._key, self._rows
        )
        return {bucket: (count, int(total)) for bucket, count, total in rows(cursor, statement)}

    def listed(self, cursor: Cursor, buckets: Collection[int]) -> dict[str, tuple[Any, Any]]:
        """Key: when submitted and under which procedure, of the rows in some buckets."""
        statement = sql.SQL("SELECT {}, {} {} AND (hashtextextended({}, 0) & {})::int = ANY(").format(
            self._key, sql.SQL(", ").join(self._more), self._rows, self._key, sql.Literal(BUCKETS - 1)
        )
        text = statement.as_string(cursor).replace("%", "%%") + "%(buckets)s)"
        return {key: (submitted, procedure) for key, submitted, procedure in streamed(cursor, text, {"buckets": list(buckets)})}


def unseen(settings: Settings, hub: Connection, systems: Sequence[str]) -> tuple[list[Unseen], list[str]]:
    """The dossiers of some systems that the hub does not know, and which systems could not be asked."""
    known = {system: _sums(hub, system) for system in systems}
    answers, silent = ask_each(systems, lambda system: _candidates(settings, system, known[system]))
    found = [row for rows_ in answers.values() for row in rows_]
    return _not_known(hub, found), silent


def still_unseen(settings: Settings, hub: Connection, found: Sequence[Unseen], wait_seconds: Mapping[str, float]) -> list[Unseen]:
    """What is still not known when the lines have passed this moment: a row may be on its way. A line that is behind has so many seconds."""
    looked_at, until = datetime.now(UTC), time.monotonic() + max((wait_seconds[row.system] for row in found), default=0.0)
    left, is_over = list(found), False
    while left:
        is_over = is_over or time.monotonic() >= until or not _are_behind(hub, {row.system for row in left}, looked_at)
        left = _not_known(hub, left)
        if is_over:
            break
        time.sleep(POLL_SECONDS)
    return left


def _are_behind(hub: Connection, systems: Collection[str], looked_at: datetime) -> bool:
    """Whether a line that runs may still bring what was there when it was looked."""
    with transaction(hub) as cursor:
        found = rows(cursor, _BEHIND, {"systems": sorted(systems), "at": looked_at + timedelta(seconds=MARGIN_SECONDS)})
    return bool(found[0][0])


def parked(hub: Connection, found: Sequence[Unseen]) -> dict[tuple[str, str], tuple[str, str | None]]:
    """System and key: why the hub has parked it, and for which field."""
    out: dict[tuple[str, str], tuple[str, str | None]] = {}
    with transaction(hub) as cursor:
        for system in sorted({row.system for row in found}):
            keys = [row.key for row in found if row.system == system]
            out |= {(system, key): (reason, field) for key, reason, field in rows(cursor, _PARKED, [system, keys])}
    return out


def _sums(hub: Connection, system: str) -> dict[int, tuple[int, int]]:
    with transaction(hub) as cursor:
        found = rows(cursor, _SUMS.format(mask=BUCKETS - 1), [system])
    return {bucket: (count, int(total)) for bucket, count, total in found}


def _candidates(settings: Settings, system: str, known: Mapping[int, tuple[int, int]]) -> list[Unseen]:
    """Rows in buckets that are not the same on both sides, without those that we wrote ourselves."""
    connection = connect(settings.dsn_of(system), application_name="lienthong lost", connect_timeout_seconds=CONNECT_SECONDS)
    try:
        with transaction(connection) as cursor:
            keys = Keys(cursor, settings, system)
            if not keys.is_whole:
                return []
            buckets = [bucket for bucket, sums in keys.sums(cursor).items() if known.get(bucket) != sums]
            listed = keys.listed(cursor, buckets) if buckets else {}
            ours = _ours(cursor, list(listed)) if listed else set()
    finally:
        connection.close()
    return [Unseen(system, key, *more) for key, more in listed.items() if key not in ours]


def _ours(cursor: Cursor, keys: list[str]) -> set[str]:
    """Those that we wrote there, where we write at all."""
    if rows(cursor, "SELECT to_regclass('lienthong.applied') IS NULL") == [(True,)]:
        return set()
    return {key for (key,) in rows(cursor, _OURS, [keys])}


def _not_known(hub: Connection, found: Sequence[Unseen]) -> list[Unseen]:
    left = []
    with transaction(hub) as cursor:
        for system in sorted({row.system for row in found}):
            mine = [row for row in found if row.system == system]
            known = {key for (key,) in rows(cursor, _KNOWN, [system, [row.key for row in mine]])}
            left += [row for row in mine if row.key not in known]
    return left
