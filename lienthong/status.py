"""Where every line stands: state, lag in seconds against its limit, what is waiting, parked, refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from connectors.postgres import Cursor, connect, rows, transaction
from lienthong import hub, probe
from lienthong.national import desk
from lienthong.settings import Settings

_LINES = """
SELECT system, stage, part, extract(epoch FROM clock_timestamp() - through)::float8, extract(epoch FROM clock_timestamp() - beat)::float8,
       state, reason, since, beat
FROM hub.line ORDER BY system, stage, part
"""
HEARTBEAT_LIMIT_SECONDS = 10
_PARKED = """
SELECT system, kind, reason, records, oldest, greatest(extract(epoch FROM clock_timestamp() - oldest)::float8, 0) FROM (
  SELECT system, kind, reason, count(*) AS records, min(parked_at) AS oldest FROM hub.parked WHERE state = 'open' GROUP BY 1, 2, 3
  UNION ALL SELECT system, 'apply', reason, records, oldest FROM hub.parked_at_target) p ORDER BY 1, 2, 3
"""
# A day counts when the newest certificate of each entity says so; forty days are looked at, because this is asked at every scrape.
_CLOSED = """
SELECT system, extract(epoch FROM (max(day) + 1)::timestamp AT TIME ZONE 'Asia/Ho_Chi_Minh')::float8 FROM (
  SELECT system, day, bool_and(state = 'closed') AS is_closed FROM (
    SELECT DISTINCT ON (day, system, entity) day, system, state FROM hub.certificate WHERE day > current_date - 40
    ORDER BY day, system, entity, issue DESC
  ) newest GROUP BY 1, 2) days WHERE is_closed GROUP BY 1 ORDER BY 1
"""


@contextmanager
def hub_cursor(settings: Settings) -> Iterator[Cursor]:
    """One transaction at the hub, to look at how things stand."""
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong status")
        try:
            with transaction(connection) as cursor:
                yield cursor
        finally:
            connection.close()


def lines(settings: Settings) -> list[dict[str, Any]]:
    """Every (system, stage): lag, limit and state; merge and route count for every system, so theirs is the worst part's."""
    with hub_cursor(settings) as cursor:
        found = rows(cursor, _LINES)
    shared = {stage: _worst([f for f in found if f[0] == "*" and f[1] == stage]) for stage in ("merge", "route")}
    own = {(f[0], f[1]): f for f in found if f[0] != "*"}
    out = []
    for name, system in sorted(settings.systems.items()):
        stages = {"capture": own.get((name, "capture")) if system.capture != "none" else None, **shared}
        if system.apply and (settings.contract_of(name) or (name, "apply") in own):
            stages["apply"] = own.get((name, "apply"))
        if (name, "deliver") in own or name == _portal(settings):
            stages["deliver"] = own.get((name, "deliver"))
        for stage, line in stages.items():
            if stage == "capture" and system.capture == "none":
                continue
            out.append(_line(name, stage, line, system.lag_limit_seconds))
    return out


def _portal(settings: Settings) -> str | None:
    """The system that stands for the national portal, where one is configured."""
    portal = settings.national.portal if settings.national is not None else None
    return None if portal is None else portal.system


def delivery(settings: Settings) -> dict[str, Any] | None:
    """How many messages to the national portal stand where; None where none is configured."""
    portal = _portal(settings)
    if portal is None:
        return None
    with hub_cursor(settings) as cursor:
        return desk.counts(cursor, portal)


def probes(settings: Settings) -> list[dict[str, Any]]:
    """How the probe of each leg of each line stands; nothing where nobody has ever watched."""
    with hub_cursor(settings) as cursor:
        return probe.standing(cursor, settings)


def _worst(parts: list[tuple[Any, ...]]) -> tuple[Any, ...] | None:
    return max(parts, key=lambda p: p[3], default=None)


def _line(system: str, stage: str, line: tuple[Any, ...] | None, limit: int) -> dict[str, Any]:
    if line is None:
        found = {"system": system, "stage": stage, "lag_seconds": None, "limit_seconds": limit, "state": "not started"}
        return {**found, "reason": None, "since": None, "heartbeat_at": None}
    lag, silent, state, reason = max(line[3], 0.0), line[4], line[5], line[6]
    if state == "running" and silent > HEARTBEAT_LIMIT_SECONDS:
        state, reason = "silent", f"no sign of life for {silent:.0f} s: is `lienthong run {stage}` running?"
    elif state == "running":
        state = "normal" if lag <= limit else "late" if lag <= 2 * limit else "broken"
    return {
        "system": system,
        "stage": stage,
        "lag_seconds": round(lag, 3),
        "limit_seconds": limit,
        "state": state,
        "reason": reason,
        "since": line[7].isoformat(),
        "heartbeat_at": line[8].isoformat(),
    }


def overview(settings: Settings) -> dict[str, Any]:
    """The whole picture as one document."""
    with hub_cursor(settings) as cursor:
        counts = rows(cursor, "SELECT system, entity, outcome, n FROM hub.counter ORDER BY 1, 2, 3")
        parked = rows(cursor, _PARKED)
        waiting = rows(cursor, "SELECT count(*) FROM hub.changed")
        probes = probe.standing(cursor, settings)
        corrections = rows(cursor, "SELECT system, count(*) FROM hub.correction WHERE state = 'open' GROUP BY 1 ORDER BY 1")
    return {
        "schema": "lienthong/status/1",
        "lines": lines(settings),
        "probes": probes,
        "changes_waiting_for_router": waiting[0][0],
        "counts": [{"system": s, "entity": e, "outcome": o, "records": n} for s, e, o, n in counts],
        "parked": _reasons(parked),
        "corrections_open": [{"system": s, "fields": n} for s, n in corrections],
        "without_database": settings.without_database(),
        "delivery": delivery(settings),
    }


def parked_reasons(settings: Settings) -> list[dict[str, Any]]:
    """How many records are parked per system, kind and reason, at the hub and at targets, since when and for how many seconds."""
    with hub_cursor(settings) as cursor:
        return _reasons(rows(cursor, _PARKED))


def _reasons(parked: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [
        {"system": s, "kind": k, "reason": r, "records": n, "oldest": at.isoformat(), "oldest_age_seconds": round(age, 3)}
        for s, k, r, n, at, age in parked
    ]


def parked_by_kind(settings: Settings) -> list[dict[str, Any]]:
    """How many records are parked per system and kind, at the hub and at targets, since when and for how many seconds."""
    with hub_cursor(settings) as cursor:
        found = rows(
            cursor,
            f"SELECT system, kind, sum(records)::bigint, min(oldest), max(greatest) FROM ({_PARKED}) p GROUP BY 1, 2 ORDER BY 1, 2",  # noqa: S608
        )
    return [{"system": s, "kind": k, "records": n, "oldest": at, "oldest_age_seconds": age} for s, k, n, at, age in found]


def differences(settings: Settings) -> list[tuple[str, str, int]]:
    """System, entity and number of the differences that the last comparisons have found and nobody has repaired."""
    with hub_cursor(settings) as cursor:
        return rows(cursor, "SELECT system, entity, count(*) FROM hub.difference GROUP BY 1, 2 ORDER BY 1, 2")


def closed_days(settings: Settings) -> list[tuple[str, float]]:
    """System and the end of the newest day that is closed for all of its entities, in seconds of the epoch."""
    with hub_cursor(settings) as cursor:
        return rows(cursor, _CLOSED)
