"""Commands for records that could not be processed: list, show, replay, discard."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.markup import escape

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, err, known, out, print_json, settings_of, table
from lienthong.errors import ConfigError, FatalError

if TYPE_CHECKING:
    from lienthong.parked import Wanted
    from lienthong.parked_desk import Desk
    from lienthong.parked_replay import Order, Replayer, Result
    from lienthong.settings import Settings

parked_app = typer.Typer(no_args_is_help=True, help="Records that could not be processed.")

KINDS = ("refused", "held", "damaged", "link", "ghost", "apply", "route")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Refs = Annotated[list[str] | None, typer.Argument(help="Numbers as in the list: 17, or SYSTEM/3 for what is parked at a target.")]
OfSystem = Annotated[str | None, typer.Option("--system", help="Only of this system.")]
OfEntity = Annotated[str | None, typer.Option("--entity", help="Only of this entity.")]
ForReason = Annotated[str | None, typer.Option("--reason", help="Only for this reason, as in `lienthong status`.")]
OfKind = Annotated[str | None, typer.Option("--kind", help="Only of this kind: refused, held, damaged, link, ghost or apply.")]
Older = Annotated[str | None, typer.Option("--older-than", metavar="AGE", help="Only parked longer ago: 30m, 8h, 2d.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Why = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="The reason; it is recorded with your name.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(parked_app, name="parked")


@parked_app.command("list")
def parked_list(
    config: ConfigFolder = DEFAULT_CONFIG,
    system: OfSystem = None,
    entity: OfEntity = None,
    reason: ForReason = None,
    kind: OfKind = None,
    older_than: Older = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> int:
    """Open parked records, oldest first: where, which field, why, and what to do. Never a value."""
    from lienthong.advice import advice

    settings = settings_of(config)
    with _desk(settings) as desk:
        found = desk.find(_wanted(settings, system, entity, reason, kind, older_than, limit))
    for record in found:
        record["advice"] = advice(record["reason"], record["system"])
    is_all = not any((system, entity, reason, kind, older_than))
    refused = _refused_by_portal(settings) if is_all else 0
    if as_json:
        print_json({"schema": "lienthong/parked/1", "records": found, "refused_by_national_portal": refused})
    else:
        body = [[p["ref"], p["kind"], p["system"], p["entity"], _place(p), p["field"], p["message"], p["advice"]] for p in found]
        out.print(table("", ["id", "kind", "system", "entity", "record", "field", "why", "do"], body, number_from=9))
        out.print(f"{len(found)} open", highlight=False)
        if refused:
            out.print(f"{refused:,} messages that the national portal would not take: lienthong national outbox --state refused", highlight=False)
    return Exit.FOUND_WRONG if found or refused else Exit.FINE


@parked_app.command("show")
def parked_show(
    ref: Annotated[str, typer.Argument(help="A number as in the list: 17, or SYSTEM/3.")],
    config: ConfigFolder = DEFAULT_CONFIG,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show its values; needs --purpose, and both are recorded with your name.")] = False,
    purpose: Annotated[str | None, typer.Option("--purpose", metavar="TEXT", help="What you need the values for.")] = None,
    as_json: AsJson = False,
) -> int:
    """One parked record: what is known of it, its payload (masked), and everything that was done with it."""
    from lienthong.advice import advice

    if reveal != bool((purpose or "").strip()):
        raise ConfigError("values are shown with --reveal and --purpose TEXT together")
    with _desk(settings_of(config)) as desk:
        record = desk.show(ref, purpose=purpose if reveal else None)
    record["advice"] = advice(record["reason"], record["system"])
    if as_json:
        print_json({"schema": "lienthong/parked-record/1", "record": record})
        return Exit.FINE
    head = [[name, value] for name, value in record.items() if value is not None and name not in ("payload", "actions")]
    out.print(table("", ["", ""], head))
    payload = record["payload"]
    if payload is not None:
        out.print(table("payload", ["field", "value"], [[name, escape(str(value))] for name, value in payload.items()]))
    columns = ["at", "officer", "action", "why", "outcome"]
    out.print(table("done", columns, [[a[column] for column in columns] for a in record["actions"]], number_from=9))
    return Exit.FINE


@parked_app.command("replay")
def parked_replay(
    refs: Refs = None,
    config: ConfigFolder = DEFAULT_CONFIG,
    system: OfSystem = None,
    entity: OfEntity = None,
    reason: ForReason = None,
    kind: OfKind = None,
    older_than: Older = None,
    budget: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    edit: Annotated[Path | None, typer.Option("--edit", metavar="FILE", help="JSON: corrected values of one refused record; needs --why.")] = None,
    decide: Annotated[str | None, typer.Option("--decide", help="Of links and ghosts: accept or keep; needs --why.")] = None,
    why: Why = None,
    wait: Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="For each record, until the service has taken it.")] = 10.0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Put parked records through the normal path again, in the order received for each key; stops when it does not help."""
    from lienthong.parked_replay import DECISIONS, Order, Replayer, in_order, meaning

    settings = settings_of(config)
    if decide is not None:
        known("decision", decide, DECISIONS)
    order = Order(budget=budget, why=why, decide=decide, edit=_edit(edit), patience_seconds=wait)
    with _desk(settings) as desk:
        found = _reached(desk.find(_chosen(settings, refs, system, entity, reason, kind, older_than, budget), refs or ()))
        if dry_run:
            return _tell([{**_named(r), "outcome": "would", "words": meaning(r, order)} for r in in_order(found)[:budget]], as_json=as_json)
        replayer = Replayer(desk)
        try:
            return _replay(replayer, found, order, as_json=as_json)
        finally:
            replayer.close()


def _replay(replayer: Replayer, found: list[dict[str, Any]], order: Order, *, as_json: bool) -> int:
    done: list[Result] = []
    stopped = None
    try:
        for result in replayer.run(found, order):
            done.append(result)
    except FatalError as error:
        stopped = error
    _tell([{**_named(r.record), "outcome": r.outcome, "words": r.words} for r in done], as_json=as_json)
    if stopped is not None:
        err.print(str(stopped), highlight=False, markup=False)
    return Exit.FINE if all(r.fine for r in done) else Exit.FOUND_WRONG


@parked_app.command("discard")
def parked_discard(
    refs: Refs = None,
    config: ConfigFolder = DEFAULT_CONFIG,
    system: OfSystem = None,
    entity: OfEntity = None,
    reason: ForReason = None,
    kind: OfKind = None,
    older_than: Older = None,
    budget: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    why: Why = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Give parked records up, for a reason that is recorded; what is kept of them stays for those who ask later."""
    from lienthong.parked_replay import in_order

    if not dry_run and not (why or "").strip():
        raise ConfigError("giving a record up needs a reason: --why TEXT")
    settings = settings_of(config)
    with _desk(settings) as desk:
        wanted = _chosen(settings, refs, system, entity, reason, kind, older_than, budget)
        found = in_order(_reached(desk.find(wanted, refs or ())))[:budget]
        words = ["would be given up" if dry_run else "" if desk.discard(record, str(why)) else "was closed already" for record in found]
    outcome = "would" if dry_run else "discarded"
    return _tell([{**_named(r), "outcome": outcome, "words": w} for r, w in zip(found, words, strict=True)], as_json=as_json)


# ------------------------------------------------------------------ what they share
def _refused_by_portal(settings: Settings) -> int:
    """Messages to the national portal that wait for a person: they are parked in the delivery ledger, with their reasons."""
    from lienthong import status

    delivery = status.delivery(settings)
    return 0 if delivery is None else int(delivery["states"]["refused"])


@contextmanager
def _desk(settings: Settings) -> Iterator[Desk]:
    from lienthong.parked_desk import Desk
    from lienthong.vault import Vault

    desk = Desk(settings, Vault.from_environment(), os.environ.get("USER", "?"))
    try:
        yield desk
    finally:
        desk.close()


def _wanted(
    settings: Settings, system: str | None, entity: str | None, reason: str | None, kind: str | None, older: str | None, limit: int
) -> Wanted:
    import schemas
    from lienthong.parked import Wanted

    for what, name, names in (("system", system, settings.systems), ("entity", entity, schemas.ENTITIES), ("kind", kind, KINDS)):
        if name is not None:
            known(what, name, names)
    return Wanted(system=system, entity=entity, reason=reason, kind=kind, older_seconds=_seconds(older), limit=limit)


def _chosen(settings: Settings, refs: list[str] | None, *filters: Any) -> Wanted:
    """The same where something is done: what it is done to must be said, and only in one way."""
    conditions = [each for each in filters[:-1] if each is not None]
    if bool(refs) == bool(conditions):
        raise ConfigError("say which records: by number, or by --system, --entity, --reason, --kind or --older-than")
    return _wanted(settings, *filters)


def _seconds(age: str | None) -> float | None:
    if age is None:
        return None
    found = re.fullmatch(r"(\d+)([smhd])", age)
    if found is None:
        raise ConfigError(f"an age is a number with its unit, like 30m, 8h or 2d, not {age}")
    return float(int(found[1]) * UNITS[found[2]])


def _reached(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the targets that are away, which are named."""
    for record in found:
        if record["id"] is None:
            err.print(f"{record['system']} cannot be reached, so what is parked there is left: {record['message']}", highlight=False, markup=False)
    return [record for record in found if record["id"] is not None]


def _edit(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        values = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise ConfigError(f"{path} is not there, or not JSON: it holds the corrected fields, as `lienthong parked show` names them") from None
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{path} holds no fields: write {{field: value}}, with the fields that `lienthong parked show` names")
    return values


def _named(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("ref", "system", "kind", "entity", "local_key", "reason")}


def _tell(done: list[dict[str, Any]], *, as_json: bool) -> int:
    if as_json:
        print_json({"schema": "lienthong/parked-done/1", "records": done})
    else:
        columns = ["ref", "system", "kind", "entity", "local_key", "outcome", "words"]
        out.print(table("", ["id", *columns[1:4], "record", "outcome", ""], [[one[c] for c in columns] for one in done], number_from=9))
        out.print(f"{len(done)} records; next: lienthong parked list", highlight=False)
    return Exit.FINE


def _place(record: dict[str, Any]) -> str | None:
    """The record's key, or where in which topic it stood when not even its key could be read."""
    if record["local_key"] is None and record["topic"] is not None:
        return f"{record['topic']} partition {record['partition']} offset {record['offset']}"
    return None if record["local_key"] is None else str(record["local_key"])
