"""Lost and stuck dossiers: the sweep finds what has not made an expected hop in time, and stores it; pages read what it stored."""

from __future__ import annotations

from typing import Any

from connectors.postgres import connect, rows, transaction
from lienthong import hub
from lienthong.journey.sweep import Swept, by_kind, sweep
from lienthong.settings import Settings

__all__ = ["Swept", "by_kind", "found", "last_sweep", "sweep"]

_FOUND = """
SELECT kind, system, record, local_key, local_code, procedure_code, agency, unit, since, limit_at, holder, cause, reason, advice, found_at
FROM hub.lost_dossier WHERE limit_at <= (SELECT at FROM hub.lost_sweep ORDER BY id DESC LIMIT 1) AND (%(system)s::text IS NULL OR system = %(system)s)
ORDER BY limit_at, id LIMIT %(limit)s
"""
_COLUMNS = (
    "kind", "system", "record", "local_key", "local_code", "procedure_code", "agency", "unit", "since", "limit_at", "holder", "cause", "reason",
    "advice", "found_at",
)  # fmt: skip


def found(settings: Settings, *, system: str | None = None, limit: int = 1000) -> list[dict[str, Any]]:
    """What the last sweep has found, longest overdue first."""
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong lost")
        try:
            with transaction(connection) as cursor:
                return [dict(zip(_COLUMNS, each, strict=True)) for each in rows(cursor, _FOUND, {"system": system, "limit": limit})]
        finally:
            connection.close()


def last_sweep(settings: Settings) -> dict[str, Any] | None:
    """When the last sweep looked, as of when, how long it took, and who could not be asked; None before the first."""
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong lost")
        try:
            with transaction(connection) as cursor:
                got = rows(cursor, "SELECT at, took_seconds, dossiers, found, unasked FROM hub.lost_sweep ORDER BY id DESC LIMIT 1")
        finally:
            connection.close()
    return dict(zip(("at", "took_seconds", "dossiers", "found", "unasked"), got[0], strict=True)) if got else None
