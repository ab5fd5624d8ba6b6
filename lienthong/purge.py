"""Purging: what is kept about people for a time only is erased when that time is over, in small transactions, and what was erased is written down.

| What | Goes when | Stays |
|---|---|---|
| `answers` | nothing can be answered from it any more | nothing |
| `accesses` | older than `retention.access_days` | nothing |
| `views` | older than `retention.view_days` | nothing |
| `payloads` | its parked record was closed longer than `retention.closed_days` ago | the record's reason, position and dates |
| `edits` | as payloads | who did what, when and why |
| `history` | the record was deleted longer than `retention.deleted_days` ago | that it existed, and when it was deleted |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from connectors.postgres import Connection, connect, one, transaction
from lienthong import hub
from lienthong.settings import Settings

AT_ONCE = 5_000
ANSWERS_DAYS = 30.0  # where no population database is configured any more


@dataclass(frozen=True, slots=True)
class Purge:
    """One kind of data: where it stands and which rows are over, by which key, and what is done with them."""

    what: str
    over: str
    key: str
    erase: str
    lock: str = "FOR UPDATE SKIP LOCKED"

    def counting(self) -> str:
        """How many rows are over."""
        return f"SELECT count(*) FROM {self.over}"  # noqa: S608 - statements of our own

    def erasing(self) -> str:
        """Some of those rows are erased."""
        some = f"SELECT {self.key} FROM {self.over} ORDER BY {self.key} LIMIT %(n)s {self.lock}"  # noqa: S608 - statements of our own
        return f"{self.erase} WHERE ({self.key.replace('x.', '')}) IN ({some})"


PURGES = (
    Purge("answers", """hub.remembered x
            WHERE coalesce(answered_at, asking_until) < %(before)s AND (asking_until IS NULL OR asking_until < %(before)s)""",
          "x.question", "DELETE FROM hub.remembered"),
    Purge("accesses", "hub.access x WHERE at < %(before)s", "x.id", "DELETE FROM hub.access"),
    Purge("views", "hub.view_audit x WHERE at < %(before)s", "x.id", "DELETE FROM hub.view_audit"),
    Purge("payloads", "hub.parked x WHERE state <> 'open' AND closed_at < %(before)s AND payload IS NOT NULL",
          "x.id", "UPDATE hub.parked SET payload = NULL"),
    Purge("edits", """hub.parked_action x WHERE x.edited IS NOT NULL AND x.at < %(before)s AND NOT EXISTS (
            SELECT FROM hub.parked p WHERE x.place = 'hub' AND p.id = x.parked AND (p.state = 'open' OR p.closed_at >= %(before)s))""",
          "x.id", "UPDATE hub.parked_action SET edited = NULL"),
    Purge("history", """hub.history x JOIN hub.record r USING (record)
            WHERE r.deleted AND r.updated_at < %(before)s AND (x.before IS NOT NULL OR x.who IS NOT NULL)""",
          "x.record, x.version", "UPDATE hub.history SET before = NULL, who = NULL", "FOR UPDATE OF x SKIP LOCKED"),
)  # fmt: skip


def limits(settings: Settings, now: datetime) -> dict[str, datetime]:
    """Before which moment each kind of data is over."""
    population = settings.national.population if settings.national is not None else None
    answers = ANSWERS_DAYS if population is None else max(population.remember_days, population.remember_missing_days)
    days = {
        "answers": answers,
        "accesses": settings.retention.access_days,
        "views": settings.retention.view_days,
        "payloads": settings.retention.closed_days,
        "edits": settings.retention.closed_days,
        "history": settings.retention.deleted_days,
    }
    return {what: now - timedelta(days=each) for what, each in days.items()}


def purge(settings: Settings, *, officer: str, now: datetime, dry_run: bool, told: Callable[[str, int], None] = lambda *_: None) -> dict[str, int]:
    """Erase everything whose time is over; how many rows of each kind. A dry run only counts."""
    before = limits(settings, now)
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong purge")
        try:
            return {each.what: _purge(connection, each, before[each.what], officer, told, dry_run=dry_run) for each in PURGES}
        finally:
            connection.close()


def _purge(connection: Connection, each: Purge, before: datetime, officer: str, told: Callable[[str, int], None], *, dry_run: bool) -> int:
    if dry_run:
        with transaction(connection) as cursor:
            found = one(cursor, each.counting(), {"before": before})
        return int(found[0]) if found else 0
    total, erased = 0, AT_ONCE
    while erased == AT_ONCE:
        with transaction(connection) as cursor:
            cursor.execute(each.erasing(), {"before": before, "n": AT_ONCE})
            erased = int(cursor.rowcount)
            if erased:
                statement = "INSERT INTO hub.purged (officer, what, rows, before) VALUES (%s, %s, %s, %s)"
                cursor.execute(statement, [officer, each.what, erased, before])
        total += erased
        told(each.what, total)
    return total
