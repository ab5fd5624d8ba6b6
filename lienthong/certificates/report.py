"""The sums of a month: by system and entity from the certificates, by unit from the hub as last reconciled."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from connectors.postgres import Connection, rows, transaction
from lienthong.certificates import chain
from lienthong.certificates.form import Counts
from lienthong.days import end_micros, start_micros
from lienthong.settings import Settings

NO_UNIT = "-"
_BY_UNIT = """
WITH dossier AS (
  SELECT record, coalesce(body->>'processing_unit', %(none)s) AS unit FROM hub.record
  WHERE entity = 'dossier' AND merged_into IS NULL AND NOT deleted
  AND coalesce(body->>'received_at', body->>'submitted_at')::bigint >= %(first)s
  AND coalesce(body->>'received_at', body->>'submitted_at')::bigint < %(end)s
), party AS (
  SELECT system, record FROM hub.entitled JOIN dossier USING (record) WHERE state = 's'
  UNION SELECT c.system, record FROM hub.contribution c JOIN dossier USING (record) LEFT JOIN hub.entitled e USING (system, record)
  WHERE c.op = 's' AND coalesce(e.state NOT IN ('w', 'd'), true)  -- a row that was withdrawn there is not expected any more
)
SELECT d.unit, p.system, count(*), count(*) FILTER (WHERE EXISTS (
  SELECT 1 FROM hub.proof f WHERE f.system = p.system AND f.entity = 'dossier' AND f.record = p.record AND f.local IS NOT NULL))
FROM dossier d JOIN party p USING (record) GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(slots=True)
class Sum:
    """One system and entity in a month: how its days stand, and their counts together."""

    system: str
    entity: str
    units: list[str]
    closed: int = 0
    open: int = 0
    missing: int = 0
    counts: dict[str, int] = field(default_factory=lambda: asdict(Counts()))

    @property
    def is_complete(self) -> bool:
        """Whether every day of the month that is over is closed."""
        return not self.open and not self.missing


@dataclass(frozen=True, slots=True)
class OfUnit:
    """The dossiers that one unit processes and that were received in the month, at one system: known to be there, and proved equal there."""

    unit: str
    system: str
    dossiers: int
    equal: int


@dataclass(frozen=True, slots=True)
class Report:
    """A month."""

    month: str
    days: int
    sums: list[Sum]
    units: list[OfUnit]


def report(settings: Settings, hub: Connection, first: date, yesterday: date) -> Report:
    """Sum up the month that begins at a day, as far as it is over."""
    last = min(date(first.year, first.month, monthrange(first.year, first.month)[1]), yesterday)
    days = max((last - first).days + 1, 0)
    with transaction(hub) as cursor:
        cursor.execute("SET LOCAL work_mem = '256MB'; SET LOCAL jit = off")
        issues = chain.last_issues(cursor, first=first, last=last) if days else {}
        came = chain.late(cursor, first=first, last=last) if days else {}
        units = rows(cursor, _BY_UNIT, {"none": NO_UNIT, "first": start_micros(first), "end": end_micros(last)}) if days else []
    sums = {
        (system, entity): Sum(system, entity, list(settings.systems[system].units))
        for system in settings.with_database()
        for entity in settings.profile_of(system).entities
    }
    unproved = set(settings.without_database())  # what they have made of their topic is not ours to see
    for place, issued in issues.items():
        system, entity, _ = place
        party = settings.systems.get(system)
        one = sums.setdefault((system, entity), Sum(system, entity, list(party.units) if party else []))
        if issued.state == "closed" and place not in came:
            one.closed += 1
        else:
            one.open += 1
        for outcome, n in issued.signed.document()["counts"].items():
            one.counts[outcome] += n
    for one in sums.values():
        one.missing = max(days - one.closed - one.open, 0) if one.entity in _profiled(settings, one.system) else 0
    return Report(f"{first:%Y-%m}", days, [sums[place] for place in sorted(sums)], [OfUnit(*row) for row in units if row[1] not in unproved])


def _profiled(settings: Settings, system: str) -> set[str]:
    return set(settings.profile_of(system).entities) if system in settings.with_database() else set()


def as_document(found: Report) -> dict[str, Any]:
    """A report as plain data."""
    return {
        "schema": "lienthong/certificate-report/1", "month": found.month, "days": found.days,
        "sums": [asdict(one) | {"complete": one.is_complete} for one in found.sums],
        "units": [asdict(one) for one in found.units],
    }  # fmt: skip
