"""Commands about configuration and schemas: check, config, schemas."""

from __future__ import annotations

from typing import Annotated

import typer

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, chosen, known, note_without_database, out, print_json, settings_of, table
from lienthong.problems import ConfigProblems, Problem

config_app = typer.Typer(no_args_is_help=True, help="The configuration files.")
schemas_app = typer.Typer(no_args_is_help=True, help="The unified model and its released versions.")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("check")(check)
    app.add_typer(config_app, name="config")
    app.add_typer(schemas_app, name="schemas")


def check(
    config: ConfigFolder = DEFAULT_CONFIG,
    system: Annotated[list[str] | None, typer.Option("--system", help="Only these systems.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only the files; connect to nothing.")] = False,
    sql: Annotated[str | None, typer.Option("--sql", metavar="SYSTEM", help="Print the SQL for this system's administrator.")] = None,
    as_json: AsJson = False,
) -> int:
    """Is the configuration right, and does each profile fit the live tables? All problems in one report."""
    from lienthong.check import check_live, is_dependency_down
    from lienthong.ddl import ddl_for

    try:
        settings = settings_of(config)
    except ConfigProblems as error:
        if not as_json:
            raise
        print_json({"schema": "lienthong/check/1", "problems": [p.as_dict() for p in error.problems]})
        return Exit.USAGE
    if sql is not None:
        chosen(settings, [sql])
        out.out(ddl_for(sql, settings), highlight=False)
        return Exit.FINE
    for name in system or ():
        known("system", name, settings.systems)
    problems = [] if offline else check_live(settings, system)
    if as_json:
        print_json({"schema": "lienthong/check/1", "problems": [p.as_dict() for p in problems], "without_database": settings.without_database()})
    else:
        _report(problems, len(settings.systems), offline=offline)
        if not offline:
            note_without_database(settings, "only the files and the topic checked")
    if is_dependency_down(problems):
        return Exit.DEPENDENCY_DOWN
    return Exit.FOUND_WRONG if any(p.severity == "error" for p in problems) else Exit.FINE


def _report(problems: list[Problem], systems: int, *, offline: bool) -> None:
    for problem in problems:
        out.out(str(problem), highlight=False)
    errors = sum(p.severity == "error" for p in problems)
    where = "files only" if offline else "files and live systems"
    out.print(f"{systems} systems, {where}: {errors} errors, {len(problems) - errors} warnings", highlight=False)


@config_app.command("schema")
def config_schema(kind: Annotated[str, typer.Argument(help="systems, authority, contracts, profile, national, deadlines or expectations.")]) -> int:
    """Print the JSON Schema of one kind of file, for editors."""
    from lienthong.config import KINDS, json_schema

    known("kind of file", kind, KINDS)
    print_json(json_schema(kind))
    return Exit.FINE


@config_app.command("parked-key")
def parked_key() -> int:
    """Make a key for LIENTHONG_PARKED_KEY, which encrypts the payloads of refused and parked records."""
    from cryptography.fernet import Fernet

    out.out(Fernet.generate_key().decode(), highlight=False)
    return Exit.FINE


@schemas_app.command("fields")
def schemas_fields(
    entity: Annotated[str, typer.Argument(help="citizen, dossier, dossier_event, dossier_component, fee, evaluation, procedure, unit or agency.")],
    as_json: AsJson = False,
) -> int:
    """What a profile can map and a contract can grant: the fields of an entity, their groups, and what they mean."""
    import schemas

    known("entity", entity, schemas.ENTITIES)
    found = schemas.fields(entity)
    if as_json:
        print_json({"schema": "lienthong/fields/1", "entity": entity, "fields": [vars_of(f) for f in found]})
        return Exit.FINE
    body = [[f.name, f.type + (", required" if f.required else ""), f.group, f.pii, f.doc] for f in found]
    out.print(table("", ["field", "type", "group", "class", "meaning"], body, number_from=9))
    return Exit.FINE


@schemas_app.command("check")
def schemas_check(as_json: AsJson = False) -> int:
    """Compare today's schemas with every released version, both ways: which field would break which reader."""
    import schemas
    from lienthong.schema_check import check_releases

    problems = check_releases()
    if as_json:
        print_json({"schema": "lienthong/schemas/1", "problems": [vars_of(p) for p in problems]})
    else:
        for problem in problems:
            out.out(str(problem), highlight=False)
        out.print(f"{len(schemas.released())} released schemas compared both ways: {len(problems)} problems", highlight=False)
    return Exit.FOUND_WRONG if problems else Exit.FINE


def vars_of(problem: object) -> dict[str, object]:
    """A slotted dataclass as a dictionary."""
    from dataclasses import asdict

    return asdict(problem)  # type: ignore[call-overload, no-any-return]
