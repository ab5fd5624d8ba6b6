"""Commands for the national services: how delivery stands, the outbox, sending again, verifying a citizen, who looked at whom."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, known, out, print_json, settings_of, table
from lienthong.errors import ConfigError

if TYPE_CHECKING:
    from lienthong.config_national import Population
    from lienthong.national.answers import Asked
    from lienthong.national.desk import Desk
    from lienthong.settings import Settings

national_app = typer.Typer(no_args_is_help=True, help="The national services: portal, population database, register of units.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Why = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="The reason; it is recorded with your name.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(national_app, name="national")


@national_app.command("status")
def national_status(config: ConfigFolder = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """How many messages stand where, how long the oldest has waited, and whether the services answer."""
    from connectors.postgres import connect, transaction
    from lienthong import hub
    from lienthong.national import desk

    settings = settings_of(config)
    portal = settings.national.portal if settings.national is not None else None
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong national")
        try:
            with transaction(connection) as cursor:
                delivery = None if portal is None else desk.counts(cursor, portal.system)
                gates = desk.gates(cursor)
        finally:
            connection.close()
    if as_json:
        print_json({"schema": "lienthong/national-status/1", "delivery": delivery, "gates": gates})
    else:
        _show_status(delivery, gates)
    refused = 0 if delivery is None else delivery["states"]["refused"]
    return Exit.FOUND_WRONG if refused or any(gate["closed_until"] for gate in gates) else Exit.FINE


def _show_status(delivery: dict[str, Any] | None, gates: list[dict[str, Any]]) -> None:
    if delivery is None:
        out.print("no national portal is configured: docs/national.md says how", highlight=False)
    else:
        out.print(table(f"messages to {delivery['system']}", ["state", "messages"], [[s, n] for s, n in delivery["states"].items()], number_from=1))
        out.print(f"the oldest that is not settled has waited {delivery['oldest_pending_seconds']:.0f} s", highlight=False)
        if delivery["dossiers_in_part"]:
            out.print(f"{delivery['dossiers_in_part']} dossiers are there in part: something of them was refused", highlight=False)
        if delivery["steps_waiting_for_their_dossier"]:
            out.print(f"{delivery['steps_waiting_for_their_dossier']} steps wait until the portal has their dossier", highlight=False)
        if delivery["states"]["refused"]:
            out.print("next: lienthong national outbox --state refused", highlight=False)
    if gates:
        columns = ["service", "closed until", "failures in a row", "times closed"]
        body = [[gate["service"], gate["closed_until"] or "open", gate["failures"], gate["openings"]] for gate in gates]
        out.print(table("services", columns, body))


@national_app.command("outbox")
def national_outbox(
    message: Annotated[int | None, typer.Argument(help="Show this message, its personal data masked.")] = None,
    config: ConfigFolder = DEFAULT_CONFIG,
    state: Annotated[str | None, typer.Option("--state", help="Only pending, sent, unknown, refused or confirmed ones.")] = None,
    code: Annotated[str | None, typer.Option("--dossier", metavar="CODE", help="Only of the dossier with this code, confirmed ones too.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> int:
    """Messages to the national portal that are not confirmed yet, oldest first, or one of them. Never a person's data."""
    from lienthong.national.desk import STATES

    if state is not None:
        known("state", state, STATES)
    with _desk(settings_of(config)) as desk:
        if message is not None:
            return _show_message(desk.show(message), as_json=as_json)
        found = desk.find(state=state, code=code, is_open=state is None and code is None, limit=limit)
    if as_json:
        print_json({"schema": "lienthong/national-outbox/1", "messages": found})
    else:
        columns = ["id", "code", "kind", "state", "attempts", "queued_at", "reason"]
        out.print(table("", columns, [[row["id"], *(row[column] for column in columns[1:])] for row in found], number_from=9))
        out.print(f"{len(found)} messages", highlight=False)
    return Exit.FOUND_WRONG if any(row["state"] == "refused" and row["cured_at"] is None for row in found) else Exit.FINE


def _show_message(found: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print_json({"schema": "lienthong/national-message/1", "message": found})
        return Exit.FINE
    out.print(table("", ["", ""], [[name, value] for name, value in found.items() if value is not None and name != "body"], number_from=9))
    if found["body"] is not None:
        out.print(table("message", ["field", "value"], [[name, str(value)] for name, value in found["body"].items()], number_from=9))
    return Exit.FINE


@national_app.command("resend")
def national_resend(
    messages: Annotated[list[int] | None, typer.Argument(help="Numbers as in the outbox.")] = None,
    config: ConfigFolder = DEFAULT_CONFIG,
    code: Annotated[str | None, typer.Option("--dossier", metavar="CODE", help="All refused messages of the dossier with this code.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All refused messages, up to --limit.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    let_go: Annotated[bool, typer.Option("--let-go", help="Do not send: close them, because they were settled in another way.")] = False,
    why: Why = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Send refused messages again, or let them go, for a reason that is recorded. What is unknown is read back by itself."""
    if sum([bool(messages), code is not None, every]) != 1:
        raise ConfigError("say which messages: by number, by --dossier CODE or by --all")
    if not dry_run and not (why or "").strip():
        raise ConfigError("sending again, or letting go, needs a reason: --why TEXT")
    with _desk(settings_of(config)) as desk:
        found = desk.find(ids=messages or None, state=None if messages else "refused", code=code, limit=limit)
        found = [row for row in found if row["cured_at"] is None]
        done = [{"id": row["id"], "code": row["code"], "kind": row["kind"], "outcome": _done(desk, row, why, let_go, dry_run)} for row in found]
    if as_json:
        print_json({"schema": "lienthong/national-resend/1", "messages": done})
    else:
        columns = ["id", "code", "kind", "outcome"]
        out.print(table("", columns, [[row[column] for column in columns] for row in done], number_from=9))
        out.print(f"{len(done)} messages; next: lienthong national outbox", highlight=False)
    return Exit.FINE if done and all(row["outcome"] in ("queued again", "let go", "would") for row in done) else Exit.FOUND_WRONG


def _done(desk: Desk, row: dict[str, Any], why: str | None, let_go: bool, dry_run: bool) -> str:
    if dry_run:
        return "would"
    return (desk.let_go if let_go else desk.resend)(row["id"], str(why)) or ("let go" if let_go else "queued again")


@contextmanager
def _desk(settings: Settings) -> Iterator[Desk]:
    from lienthong import hub
    from lienthong.national.desk import Desk
    from lienthong.national.portal import portal_of
    from lienthong.vault import Vault

    portal = portal_of(settings)
    with hub.named():
        desk = Desk(settings.hub.dsn, portal.system, Vault.from_environment(), os.environ.get("USER", "?"))
        try:
            yield desk
        finally:
            desk.close()


# ------------------------------------------------------------------ people
@national_app.command("verify-citizen")
def national_verify_citizen(
    record: Annotated[int | None, typer.Argument(help="The citizen's record number in the city; never a personal number.")] = None,
    config: ConfigFolder = DEFAULT_CONFIG,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="JSON with number, name and birth of somebody the city has no record of.")
    ] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", metavar="TEXT", help="What it is needed for; it is recorded with your name.")] = None,
    unit: Annotated[str | None, typer.Option("--unit", help="The unit that asks; default: the one of national.yaml.")] = None,
    look_up: Annotated[
        bool, typer.Option("--look-up", help="Fetch the record too, instead of a yes or no; it becomes the city's knowledge.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Ask the national population database whether a citizen's number, name and birth date are right."""
    from lienthong.national.access import Caller
    from lienthong.national.desk import masked
    from lienthong.national.lookup import LookUp
    from lienthong.vault import Vault

    if (record is None) == (source is None):
        raise ConfigError("say who: the citizen's record number, or --from FILE")
    if not (purpose or "").strip():
        raise ConfigError("asking about a person needs a purpose: --purpose TEXT")
    settings = settings_of(config)
    population = _population(settings)
    asked = _described(source) if source is not None else _person(settings, record or 0)
    document: dict[str, Any] = {"schema": "lienthong/national-citizen/1", "record": record, "asked": "record" if look_up else "verification"}
    if dry_run:
        document |= {"outcome": "would"}
    else:
        service = LookUp(settings, Vault.from_environment())
        try:
            found = (service.look_up if look_up else service.verify)(
                asked, Caller(os.environ.get("USER", "?"), unit or population.unit, str(purpose))
            )
        finally:
            service.close()
        document |= {"outcome": "yes" if found.is_known else "no", "remembered": found.is_remembered}
        document["values"] = None if found.values is None else masked(found.values)
    if as_json:
        print_json(document)
    else:
        out.print(
            table("", ["", ""], [[name, str(value)] for name, value in document.items() if name != "schema" and value is not None], number_from=9)
        )
    return Exit.FOUND_WRONG if document["outcome"] == "no" else Exit.FINE


@national_app.command("access")
def national_access(
    config: ConfigFolder = DEFAULT_CONFIG,
    subject_of: Annotated[
        int | None, typer.Option("--subject-of", metavar="RECORD", help="Who looked at the citizen with this record number.")
    ] = None,
    officer: Annotated[str | None, typer.Option("--officer", help="What this officer looked at.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    as_json: AsJson = False,
) -> int:
    """Who looked whom up at the national population database, why and when."""
    from connectors.postgres import connect, transaction
    from lienthong import hub
    from lienthong.national import access
    from lienthong.vault import Vault

    if (subject_of is None) == (officer is None):
        raise ConfigError("give --subject-of RECORD or --officer NAME")
    settings = settings_of(config)
    subjects = None
    if subject_of is not None:
        vault, system = Vault.from_environment(), _population(settings).system
        subjects = [access.subject_of(vault, system, number) for number in _numbers_of(settings, subject_of)]
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong national")
        try:
            with transaction(connection) as cursor:
                found = access.accesses(cursor, subjects=subjects, officer=officer, limit=limit)
        finally:
            connection.close()
    if as_json:
        print_json({"schema": "lienthong/national-access/1", "accesses": found})
    else:
        columns = ["at", "officer", "unit", "purpose", "operation", "outcome", "request_id"]
        out.print(table("", columns, [[row[column] for column in columns] for row in found], number_from=9))
        out.print(f"{len(found)} accesses", highlight=False)
    return Exit.FINE


def _population(settings: Settings) -> Population:
    if settings.national is None or settings.national.population is None:
        raise ConfigError("no population database is configured: national.yaml has no section population (docs/national.md)")
    return settings.national.population


def _golden(settings: Settings, record: int) -> dict[str, Any]:
    """A citizen of the city by record number."""
    from connectors.postgres import connect, transaction
    from lienthong import hub
    from lienthong.entitled import read_golden

    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong national")
        try:
            with transaction(connection) as cursor:
                found = read_golden(cursor, [record]).get(record)
        finally:
            connection.close()
    if found is None or found.entity != "citizen" or found.is_gone():
        raise ConfigError(f"record {record} is no citizen of the city")
    return found.values


def _numbers_of(settings: Settings, record: int) -> list[str]:
    values = _golden(settings, record)
    return [values[name] for name in ("personal_number", "old_identity_number") if values.get(name)]


def _person(settings: Settings, record: int) -> Asked:
    from lienthong.national.answers import Asked

    values = _golden(settings, record)
    number = values.get("personal_number") or values.get("old_identity_number")
    if not (number and values.get("full_name") and values.get("birth_date")):
        raise ConfigError(f"record {record} lacks number, name or birth date: nothing can be asked about it")
    return Asked(number=number, name=values["full_name"], birth=values["birth_date"])


def _described(source: Path) -> Asked:
    from lienthong.national.answers import Asked

    try:
        values = orjson.loads(source.read_bytes())
        return Asked(**{name: str(values[name]) for name in ("number", "name", "birth")})
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        raise ConfigError(f"{source} is not there, or holds no number, name and birth (YYYY or YYYY-MM-DD) as JSON") from None
