"""Commands about deadlines and scorecards: sla, scorecard."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

import typer

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, known, out, print_json, settings_of, table
from lienthong.days import date_of, day_number, end_micros
from lienthong.errors import ConfigError
from lienthong.readers import from_micros
from lienthong.settings import DEFAULT_ZONE

if TYPE_CHECKING:
    from lienthong.deadlines.published import Recomputed
    from lienthong.settings import Settings

_ZONE = ZoneInfo(DEFAULT_ZONE)
AsCsv = Annotated[bool, typer.Option("--csv", help="CSV on stdout, one line for each row.")]
Month = Annotated[str | None, typer.Option("--month", metavar="YYYY-MM", help="Only this month.")]
SLA_SHOWN = {
    "received": "received", "ended": "ended", "on_time": "on time", "late": "late", "on_time_percent": "on time %",
    "late_only_known": "late only to the city", "open_in_time": "open", "open_paused": "paused", "open_overdue": "overdue",
    "extended": "extended", "without_due": "no due date", "handling_late_hours": "late by handling, h",
    "synchronisation_late_hours": "by synchronisation, h", "official_percent": "official %",
}  # fmt: skip
CARD_SHOWN = {
    "system": "system", "closed_days": "closed days", "completeness_percent": "complete %", "freshness_p50_seconds": "fresh p50 s",
    "freshness_p95_seconds": "p95 s", "freshness_p99_seconds": "p99 s", "divergence_found": "differed", "refused_percent": "refused %",
    "parked_percent": "parked %", "repair_p50_seconds": "repair p50 s", "on_time_percent": "on time %", "digitised_percent": "digitised %",
    "reused_percent": "reused %", "online_percent": "online %", "rating_average": "rating",
}  # fmt: skip

SMALL_SHARES = ("refused_percent", "parked_percent")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("sla")(sla)
    app.command("scorecard")(scorecard)


# ------------------------------------------------------------------ sla
def sla(
    config: ConfigFolder = DEFAULT_CONFIG,
    as_of: Annotated[str | None, typer.Option("--as-of", help="Day (to its end) or local time; default: now.")] = None,
    by: Annotated[Literal["agency", "procedure", "unit"], typer.Option("--by", help="What a row is.")] = "agency",
    month: Month = None,
    store: Annotated[bool, typer.Option("--store", help="Keep the month: the running one for the pages, one that is over as published.")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> int:
    """How many dossiers were ended on time, as of any instant. A published month that gives other figures now ends it with 1."""
    from lienthong.deadlines.figures import compute, period
    from lienthong.deadlines.published import recompute

    _one_form(as_json=as_json, as_csv=as_csv)
    settings, first, now = settings_of(config), _month(month), datetime.now(UTC)
    if store:
        return _store(settings, first, now, as_json=as_json)
    again = recompute(settings, first) if first is not None and as_of is None else None
    computed = again.now if again is not None else compute(settings, period(_instant(as_of) if as_of else now, first))
    rows = computed.rows[by]
    head = {"as_of": _local(computed.period.at), "month": month, "by": by, "calendar": computed.calendar, "digest": computed.digest}
    if as_json:
        print_json({"schema": "lienthong/sla/1", **head, "rows": rows, "published": _published(again)})
    elif as_csv:
        _write_csv(rows)
    else:
        out.print(table(f"as of {head['as_of']}", [by, *SLA_SHOWN.values()], [[row["key"], *_cells(row, SLA_SHOWN)] for row in rows], number_from=1))
        _say_published(again)
    return Exit.FINE if again is None or again.is_same else Exit.FOUND_WRONG


def _store(settings: Settings, first: date | None, now: datetime, *, as_json: bool) -> int:
    from lienthong.deadlines.published import store as keep

    if first is None:
        raise ConfigError("give the month to keep by --month YYYY-MM")
    number, computed = keep(settings, first, now)
    if as_json:
        print_json({"schema": "lienthong/sla-stored/1", "month": f"{first:%Y-%m}", "issue": number, "digest": computed.digest})
    else:
        what = f"issue {number}" if number else "running: kept until it is computed again"
        out.print(f"{first:%Y-%m}: {what}, digest {computed.digest}", highlight=False)
    return Exit.FINE


def _published(again: Recomputed | None) -> dict[str, Any] | None:
    if again is None:
        return None
    return {
        "issue": again.issue.number, "computed_at": again.issue.computed_at.isoformat(), "digest": again.issue.digest, "same": again.is_same,
        "calendar": again.issue.calendar, "dossiers_with_later_steps": again.dossiers_with_later_steps,
        "differences": [{"by": d.by, "key": d.key, "figure": d.figure, "published": d.published, "now": d.now} for d in again.differences],
    }  # fmt: skip


def _say_published(again: Recomputed | None) -> None:
    if again is None:
        return
    issue = again.issue
    if again.is_same:
        out.print(f"as published (issue {issue.number}, digest {issue.digest})", highlight=False)
        return
    lines = [[d.by, d.key, d.figure, d.published, d.now] for d in again.differences]
    out.print(table(f"other than published (issue {issue.number})", ["by", "key", "figure", "published", "now"], lines, number_from=3))
    why = f"steps of {again.dossiers_with_later_steps} dossiers arrived after it was published"
    if issue.calendar != again.now.calendar:
        why += f"; the calendar is another ({issue.calendar}, now {again.now.calendar})"
    out.print(why, highlight=False)


# ------------------------------------------------------------------ scorecards
def scorecard(
    config: ConfigFolder = DEFAULT_CONFIG,
    month: Month = None,
    day_from: Annotated[str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First day.")] = None,
    day_to: Annotated[str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day; it must be over.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="Only this system's.")] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> int:
    """How each agency and ward did in a range of days, and the city (*): computed and kept; without days, as last kept."""
    from lienthong import scorecards

    _one_form(as_json=as_json, as_csv=as_csv)
    settings = settings_of(config)
    if system is not None:
        known("system", system, [*settings.systems, scorecards.CITY])
    days = _range(_month(month), _day(day_from), _day(day_to))
    cards = scorecards.newest(settings, system) if days is None else scorecards.compute(settings, *days)
    cards = [card for card in cards if system in (None, card["system"])]
    if not cards:
        raise ConfigError("no scorecard was ever computed: give --month YYYY-MM, or --from and --to")
    if as_json:
        print_json({"schema": "lienthong/scorecards/1", "scorecards": cards})
    elif as_csv:
        _write_csv(cards)
    elif system is not None:
        out.print(
            table(f"{system}, {cards[0]['day_from']} to {cards[0]['day_to']}", ["figure", ""], [[*item] for item in cards[0].items()], number_from=1)
        )
    else:
        title = f"{cards[0]['day_from']} to {cards[0]['day_to']}, computed {cards[0]['computed_at'][:16]}"
        out.print(table(title, list(CARD_SHOWN.values()), [_cells(card, CARD_SHOWN) for card in cards], number_from=1))
    return Exit.FINE


def _range(month: date | None, first: date | None, last: date | None) -> tuple[date, date] | None:
    """The days asked for: a month as far as it is over, or from one to another; None where nothing was."""
    if month is not None:
        if first is not None or last is not None:
            raise ConfigError("give --month, or --from and --to")
        end = (month.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        return month, min(end, date_of(day_number(int(datetime.now(UTC).timestamp() * 1_000_000)) - 1))
    if (first is None) != (last is None):
        raise ConfigError("give --from and --to together")
    return (first, last) if first is not None and last is not None else None


# ------------------------------------------------------------------ what is given, and what is shown
def _month(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise ConfigError(f"{text} is no month: give it as YYYY-MM") from None


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text} is no day: give it as YYYY-MM-DD") from None


def _instant(text: str) -> datetime:
    """A day to its end, or a local time, with or without its zone."""
    try:
        if len(text) == len("YYYY-MM-DD"):
            return from_micros(end_micros(date.fromisoformat(text)) - 1)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text} is no time: give it as YYYY-MM-DD or YYYY-MM-DDThh:mm") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=_ZONE)


def _local(micros: int) -> str:
    return from_micros(micros).astimezone(_ZONE).isoformat(timespec="seconds")


def _one_form(*, as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise ConfigError("give --json or --csv, not both")


def _cells(row: Mapping[str, Any], shown: Mapping[str, str]) -> list[Any]:
    return [_cell(name, row.get(name)) for name in shown]


def _cell(name: str, value: Any) -> Any:
    """Shares with all their decimals, so that they can be compared down a column."""
    if value is None or not name.endswith("_percent"):
        return value
    return f"{value:.4f}" if name in SMALL_SHARES else f"{value:.2f}"


def _write_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
