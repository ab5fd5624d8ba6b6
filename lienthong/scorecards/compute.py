"""Computing scorecards from the hub, in one snapshot, and keeping them: the same inputs give the same digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any, Final

import orjson

from connectors.postgres import Cursor, connect, copy_rows, rows, snapshot, transaction
from lienthong import hub, hub_schema
from lienthong.authority import Authority
from lienthong.days import end_micros, start_micros, yesterday
from lienthong.deadlines.facts import WHOLE_HUB
from lienthong.deadlines.figures import Period, Tally, percent, sums
from lienthong.errors import ConfigError
from lienthong.scorecards import counts
from lienthong.scorecards.counts import Days
from lienthong.settings import Settings

CITY: Final = "*"
NOBODY: Final = "-"
_SYSTEM: Final = "system"


@dataclass(frozen=True, slots=True)
class Counted:
    """All that scorecards are made of."""

    places: dict[str, dict[str, list[int]]]
    systems: dict[str, dict[str, tuple[Any, ...]]]
    tallies: dict[str, Tally]
    days: dict[str, Days]
    length: int


def compute(settings: Settings, day_from: date, day_to: date, *, now: datetime | None = None) -> list[dict[str, Any]]:
    """The scorecards of a range of days that are over, kept in `hub.scorecard` in place of those of the same range.

    The city's (system `*`) comes first. Raises `ConfigError` for a range that is empty or not over.
    """
    if day_from > day_to or day_to > yesterday(now or datetime.now(UTC)):
        raise ConfigError(f"{day_from} to {day_to}: give days that are over in Asia/Ho_Chi_Minh, the first one first")
    with hub.named():
        hub_schema.install(settings.hub.dsn)
        connection = connect(settings.hub.dsn, application_name="lienthong scorecard")
        try:
            with snapshot(connection) as cursor:
                counted = _count(cursor, settings, day_from, day_to)
            cards = [_card(settings, name, counted) for name in (CITY, *sorted(settings.systems))]
            with transaction(connection) as cursor:
                _keep(cursor, cards, day_from, day_to)
                return _read(cursor, None, day_from, day_to)
        finally:
            connection.close()


def newest(settings: Settings, system: str | None = None) -> list[dict[str, Any]]:
    """The scorecards of the range that ended last (of those the longest), of all systems or of one; empty when none were ever computed."""
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong scorecard")
        try:
            with transaction(connection) as cursor:
                found = rows(cursor, "SELECT day_from, day_to FROM hub.scorecard ORDER BY day_to DESC, day_from LIMIT 1")
                return _read(cursor, system, *found[0]) if found else []
        finally:
            connection.close()


def _keep(cursor: Cursor, cards: Iterable[Mapping[str, Any]], day_from: date, day_to: date) -> None:
    cursor.execute("DELETE FROM hub.scorecard WHERE (day_from, day_to) = (%s, %s)", [day_from, day_to])
    made = [(day_from, day_to, card["system"], digest_of(card, day_from, day_to), orjson.dumps(card).decode()) for card in cards]
    copy_rows(cursor, "hub.scorecard", ("day_from", "day_to", "system", "digest", "body"), made)


def digest_of(card: Mapping[str, Any], day_from: date, day_to: date) -> str:
    """SHA-256 of a scorecard of a range, whatever the order of its names."""
    return sha256(orjson.dumps([day_from, day_to, card], option=orjson.OPT_SORT_KEYS)).hexdigest()


def _read(cursor: Cursor, system: str | None, day_from: date, day_to: date) -> list[dict[str, Any]]:
    found = rows(
        cursor,
        """SELECT day_from::text, day_to::text, computed_at::text, digest, body::text FROM hub.scorecard
           WHERE (day_from, day_to) = (%s, %s) AND system = coalesce(%s, system) ORDER BY system <> '*', system""",
        [day_from, day_to, system],
    )
    names = ("day_from", "day_to", "computed_at", "digest")
    return [orjson.loads(body) | dict(zip(names, head, strict=True)) for *head, body in found]


# ------------------------------------------------------------------ counting
def _count(cursor: Cursor, settings: Settings, day_from: date, day_to: date) -> Counted:
    first, end = start_micros(day_from), end_micros(day_to)
    span = {"first": first, "end": end, "from": day_from, "to": day_to}
    cursor.execute(WHOLE_HUB)
    authority = Authority(settings)

    def holder(agency: str | None, unit: str | None) -> str:
        return authority.roles({"processing_agency_code": agency, "processing_unit": unit})[0] or NOBODY

    places = {name: _by_holder(found, holder) for name, found in counts.by_place(cursor, span).items()}
    tallied = sums(
        cursor, settings, Period(month=None, first=first, at=end - 1),
        lambda case: ((_SYSTEM, holder(case.agency, case.unit)), (_SYSTEM, CITY)),
    )  # fmt: skip
    return Counted(
        places, counts.by_system(cursor, span), {system: tally for (_, system), tally in tallied.tallies.items()},
        counts.closed_days(cursor, settings.with_database(), day_from, day_to), counts.length(day_from, day_to),
    )  # fmt: skip


def _by_holder(found: Iterable[tuple[Any, ...]], holder: Any) -> dict[str, list[int]]:
    """Sums by the system that is responsible, and over all."""
    out: dict[str, list[int]] = {}
    for agency, unit, *numbers in found:
        for name in (holder(agency, unit), CITY):
            before = out.get(name, [0] * len(numbers))
            out[name] = [one + int(other) for one, other in zip(before, numbers, strict=True)]
    return out


# ------------------------------------------------------------------ one card
def _card(settings: Settings, system: str, counted: Counted) -> dict[str, Any]:
    party = settings.systems.get(system)
    return {
        "system": system,
        "kind": party.kind if party else "city",
        **_proof(system, counted),
        **_delays(system, counted),
        **_handling(system, counted),
    }


def _proof(system: str, counted: Counted) -> dict[str, Any]:
    """What needs proof: from the certificates of closed days."""
    days = _city_days(counted.days) if system == CITY else counted.days.get(system, Days(set()))
    divergence = counted.systems["divergence"]
    found = sum(int(n) for (n,) in divergence.values()) if system == CITY else int(divergence.get(system, (0,))[0])
    taken = days.captured - days.refused - days.parked
    return {
        "days": counted.length, "closed_days": len(days.closed), "captured": days.captured, "taken": taken,
        "completeness_percent": percent(taken, days.captured), "refused": days.refused, "parked": days.parked,
        "refused_percent": share(days.refused, days.captured), "parked_percent": share(days.parked, days.captured),
        "entitled": days.entitled, "held": days.held, "divergence_found": found,
    }  # fmt: skip


def _city_days(systems: Mapping[str, Days]) -> Days:
    """The city's closed days are those that are closed at every system; its counts are the sums of the systems' closed days."""
    city = Days(set.intersection(*(days.closed for days in systems.values())) if systems else set())
    for days in systems.values():
        city.captured, city.refused, city.parked = city.captured + days.captured, city.refused + days.refused, city.parked + days.parked
        if days.entitled is not None and days.held is not None:
            city.entitled, city.held = (city.entitled or 0) + days.entitled, (city.held or 0) + days.held
    return city


def _delays(system: str, counted: Counted) -> dict[str, Any]:
    """Freshness and time to repair, in seconds."""
    changes, measured, fresh = counted.systems["freshness"].get(system, (0, 0, None))
    repaired, took, still_open = counted.systems["repairs"].get(system, (0, None, 0))
    p50, p95, p99 = (None if value is None else float(value) for value in fresh or (None, None, None))
    repair50, repair95 = (None if value is None else float(value) for value in took or (None, None))
    return {
        "changes": changes, "measured": measured, "freshness_p50_seconds": p50, "freshness_p95_seconds": p95, "freshness_p99_seconds": p99,
        "repaired": repaired, "repair_p50_seconds": repair50, "repair_p95_seconds": repair95, "not_repaired": still_open,
    }  # fmt: skip


def _handling(system: str, counted: Counted) -> dict[str, Any]:
    """What became of the dossiers that the system is responsible for."""
    tally = counted.tallies.get(system, Tally())
    dossiers, online = counted.places["dossiers"].get(system, [0, 0])
    papers, digitised, reused = counted.places["papers"].get(system, [0, 0, 0])
    ratings, score, content = counted.places["ratings"].get(system, [0, 0, 0])
    return {
        "ended": tally.ended, "on_time": tally.on_time, "on_time_percent": percent(tally.on_time, tally.ended),
        "official_percent": percent(tally.official_on_time, tally.official_on_time + tally.official_late), "open_overdue": tally.open_overdue,
        "dossiers": dossiers, "online": online, "online_percent": percent(online, dossiers),
        "papers": papers, "digitised": digitised, "digitised_percent": percent(digitised, papers),
        "reused": reused, "reused_percent": percent(reused, papers),
        "ratings": ratings, "rating_average": score * 100 // ratings / 100 if ratings else None, "content_percent": percent(content, ratings),
    }  # fmt: skip


def share(part: int, whole: int) -> float | None:
    """A small share in percent, with four decimals, rounded up: 0.0 means none."""
    return -(-part * 1_000_000 // whole) / 10_000 if whole else None
