"""Accounts of the web page: who may log in, and as what."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, known, out, print_json, settings_of, table
from lienthong.errors import ConfigError
from lienthong.settings import Settings

web_app = typer.Typer(no_args_is_help=True, help="The page for operators, agencies and auditors, served by `lienthong run serve`.")
user_app = typer.Typer(no_args_is_help=True, help="Local accounts of the page.")
web_app.add_typer(user_app, name="user")

Name = Annotated[str, typer.Argument(help="The name to log in with.")]
FromInput = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking for it.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(web_app, name="web")


@user_app.command("add")
def user_add(
    name: Name,
    config: ConfigFolder = DEFAULT_CONFIG,
    role: Annotated[str, typer.Option(help="viewer looks; operator acts besides; auditor sees besides who looked at what.")] = "viewer",
    agency: Annotated[
        list[str] | None, typer.Option("--agency", help="Code of an agency: this account sees only what is of it. May be repeated.")
    ] = None,
    from_input: FromInput = False,
) -> int:
    """Make an account; the password is asked for."""
    from lienthong.web import accounts

    settings = settings_of(config)
    known("role", role, accounts.ROLES)
    agencies = sorted({code for party in settings.systems.values() for code in party.agencies})
    for code in agency or ():
        known("agency", code, agencies)
    with _hub(settings) as hub:
        accounts.add(hub, accounts.Account(name, role, tuple(agency or ())), _password(from_input=from_input))
    out.print(f"{name} may log in as {role}", highlight=False)
    return Exit.FINE


@user_app.command("list")
def user_list(config: ConfigFolder = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Every account with its role and agencies."""
    from lienthong.web import accounts

    with _hub(settings_of(config)) as hub:
        found = accounts.listing(hub)
    if as_json:
        users = [{"name": each.name, "role": each.role, "agencies": list(each.agencies)} for each in found]
        print_json({"schema": "lienthong/web-users/1", "users": users})
    else:
        body = [[each.name, each.role, ", ".join(each.agencies) or "the whole city"] for each in found]
        out.print(table("", ["name", "role", "agencies"], body, number_from=9))
    return Exit.FINE


@user_app.command("remove")
def user_remove(name: Name, config: ConfigFolder = DEFAULT_CONFIG) -> int:
    """End an account; whoever is logged in with it is logged out."""
    from lienthong.web import accounts

    with _hub(settings_of(config)) as hub:
        accounts.remove(hub, name)
    out.print(f"{name} may not log in any more", highlight=False)
    return Exit.FINE


@user_app.command("password")
def user_password(name: Name, config: ConfigFolder = DEFAULT_CONFIG, from_input: FromInput = False) -> int:
    """Give an account another password; whoever is logged in with it is logged out."""
    from lienthong.web import accounts

    with _hub(settings_of(config)) as hub:
        accounts.change_password(hub, name, _password(from_input=from_input))
    out.print(f"the password of {name} is changed", highlight=False)
    return Exit.FINE


def _password(*, from_input: bool) -> str:
    if from_input:
        return sys.stdin.readline().rstrip("\n")
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask for the password at: give it with --password-stdin")
    return str(typer.prompt("password", hide_input=True, confirmation_prompt=True))


@contextmanager
def _hub(settings: Settings) -> Iterator[Any]:
    """A connection to the hub, whose tables are made where they are missing."""
    from connectors.postgres import connect
    from lienthong import hub, hub_schema

    with hub.named():
        hub_schema.install(settings.hub.dsn)
        connection = connect(settings.hub.dsn, application_name="lienthong web")
    try:
        yield connection
    finally:
        connection.close()
