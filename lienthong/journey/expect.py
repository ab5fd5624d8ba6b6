"""When a hop is late: limits of expectations.yaml on the state calendar."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any

from lienthong.config_expectations import Hop, Within
from lienthong.deadlines import Calendar
from lienthong.readers import from_micros
from lienthong.settings import Settings

RECEIVED, SUPPLEMENT, PAYMENT, FINISHED, RETURNED = 2, 5, 6, 9, 10
OVER = (3, 7, 8, 10)
"""Statuses after which nothing more happens to a dossier."""


@cache
def words() -> dict[int, str]:
    """The official Vietnamese words of the ten statuses (`data/README.md`)."""
    text = resources.files("lienthong").joinpath("data", "dossier_status_codes.csv").read_text(encoding="utf-8-sig")
    return {int(row["code"]): row["name_vi"] for row in csv.DictReader(text.splitlines())}


def shown(status: int | None) -> str:
    """A status as people read it."""
    return "-" if status is None else f"{status} {words().get(status, '?')}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The expectations of a configuration with its calendar."""

    settings: Settings
    calendar: Calendar

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Those of a configuration."""
        return cls(settings, Calendar.load(settings.deadlines))

    def by(self, hop: Hop, since: datetime, values: Mapping[str, Any]) -> datetime | None:
        """By when a dossier must have made a hop that it could make since then; None where that is not expected of it."""
        limit = self.settings.expectations.of(hop, values.get("procedure_code"), values.get("channel"))
        return None if limit is None else self.after(since, limit.within)

    def after(self, since: datetime, within: Within) -> datetime:
        """The end of a limit that began then."""
        if within.working_days is not None:
            return self.calendar.add_working_days(since, within.working_days)
        if within.working_hours is not None:
            return self.calendar.add_working_hours(since, within.working_hours)
        return since + timedelta(hours=within.hours or 0)


def finished_since(values: Mapping[str, Any], known_at: datetime) -> datetime:
    """Since when the result of a finished dossier can be shown: its end, but not before the hub knew."""
    ended = values.get("finished_at") or values.get("status_at")
    return known_at if ended is None else max(from_micros(ended), known_at)
