"""Commands for day certificates: key, public-key, close, list, show, export, verify, report."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lienthong.cli.shared import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFolder,
    Exit,
    chosen,
    err,
    known,
    note_without_database,
    out,
    print_json,
    settings_of,
    table,
)
from lienthong.errors import ConfigError

if TYPE_CHECKING:
    from connectors.postgres import Connection
    from lienthong.certificates.form import Signed
    from lienthong.certificates.keys import Signer

certificate_app = typer.Typer(no_args_is_help=True, help="Day certificates: that everything was captured, merged and delivered, signed and chained.")

OfSystem = Annotated[list[str] | None, typer.Option("--system", help="Only these systems.")]
WAIT_SECONDS = 120.0
COUNTED = ("captured", "merged", "unchanged", "older", "duplicate", "refused", "parked")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(certificate_app, name="certificate")


# ------------------------------------------------------------------ keys
@certificate_app.command("key")
def certificate_key() -> int:
    """Make a secret key for LIENTHONG_CERTIFICATE_KEY, which signs certificates."""
    from lienthong.certificates.keys import new_key

    out.out(new_key(), highlight=False)
    return Exit.FINE


@certificate_app.command("public-key")
def certificate_public_key() -> int:
    """Print the public key (PEM) of the secret key in LIENTHONG_CERTIFICATE_KEY: for everybody who verifies."""
    out.out(_signer().public_pem(), highlight=False, end="")
    return Exit.FINE


def _signer() -> Signer:
    from lienthong.certificates.keys import KEY_NAME, Signer
    from lienthong.vault import secret

    return Signer(secret(KEY_NAME))


# ------------------------------------------------------------------ closing
@certificate_app.command("close")
def certificate_close(
    config: ConfigFolder = DEFAULT_CONFIG,
    day: Annotated[str | None, typer.Option("--day", metavar="YYYY-MM-DD", help="Only this day; none: all that are not closed.")] = None,
    system: OfSystem = None,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to let what is under way arrive.", min=1.0)] = WAIT_SECONDS,
    as_json: AsJson = False,
) -> int:
    """Close days: certify sums and holdings of each system and entity, signed, and publish them. A day that stays open ends it with 1."""
    from lienthong import hub_schema
    from lienthong.certificates.close import Closing
    from lienthong.certificates.publish import publish
    from lienthong.hub import named

    settings, signer = settings_of(config), _signer()
    of = None if day is None else _day(day)
    systems = chosen(settings, system)
    with named():
        hub_schema.install(settings.hub.dsn)
    told = (lambda words: err.print(f"closing: {words}", highlight=False)) if err.is_terminal else (lambda _: None)
    with Closing(settings, signer, wait_seconds=wait, told=told) as closing:
        closed = closing.run(systems, of)
        published = publish(settings, closing.hub)
    newest = {(d["system"], d["entity"], d["day"]): d for d in (s.document() for s in [*closed.standing, *closed.issued])}
    still_open = [d for d in newest.values() if d["state"] == "open"]
    if as_json:
        print_json(
            {"schema": "lienthong/certificate-close/1", "issued": [_plain(s) for s in closed.issued], "unchanged": len(closed.standing),
             "open": len(still_open), "published": published, "not_compared": [{"system": s, "reason": r} for s, r in closed.failed.items()],
             "without_database": [] if system else settings.without_database()}
        )  # fmt: skip
    else:
        _show_table([s.document() for s in closed.issued])
        out.print(f"{len(closed.issued)} issued, {published} published, {len(closed.standing)} as before; {len(still_open)} open", highlight=False)
        for name, why in closed.failed.items():
            err.print(f"{name}: {why}", highlight=False, markup=False)
        if not system:
            note_without_database(settings, "nothing to certify")
        if still_open and not closed.failed:
            out.print(f"next: lienthong reconcile --config {config}", highlight=False)
    if any(reason["code"] != "not_compared" for d in still_open for reason in d["reasons"]):
        return Exit.FOUND_WRONG
    return Exit.DEPENDENCY_DOWN if still_open else Exit.FINE


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text} is not a day: write it as 2026-11-23") from None


def _month(text: str) -> date:
    return _day(f"{text}-01")


def _plain(signed: Signed) -> dict[str, Any]:
    return {**signed.document(), "hash": signed.hash, "key": signed.key}


def _show_table(found: list[dict[str, Any]]) -> None:
    if not found:
        return
    body = [
        [str(d["number"]), d["day"], d["system"], d["entity"], d["issue"], d["state"], *(d["counts"][c] for c in COUNTED), _records(d), _why(d)]
        for d in found
    ]
    made = table("", ["number", "day", "system", "entity", "issue", "state", *COUNTED, "holds", "why open"], body, number_from=6)
    made.columns[-1].justify = "left"
    out.print(made)


def _records(d: dict[str, Any]) -> str:
    target = d["target"]
    return "" if target is None else f"{target['held']['records']:,} of {target['entitled']['records']:,}"


def _why(d: dict[str, Any]) -> str:
    return ", ".join(reason["code"] + (f" ({reason['records']:,})" if reason["records"] else "") for reason in d["reasons"])


# ------------------------------------------------------------------ looking
@contextmanager
def _hub(config: Path) -> Iterator[tuple[Any, Connection]]:
    from connectors.postgres import connect
    from lienthong.hub import named

    settings = settings_of(config)
    with named():
        connection = connect(settings.hub.dsn, application_name="lienthong certificate")
        try:
            yield settings, connection
        finally:
            connection.close()


@certificate_app.command("list")
def certificate_list(
    config: ConfigFolder = DEFAULT_CONFIG,
    day: Annotated[str | None, typer.Option("--day", metavar="YYYY-MM-DD", help="Only this day.")] = None,
    system: OfSystem = None,
    is_open: Annotated[bool, typer.Option("--open", help="Only those that are open, or of which more has come.")] = False,
    as_json: AsJson = False,
) -> int:
    """The newest issues of the last 31 days, and how much has come since; with --open of all days. Those that are to be closed end it with 1."""
    from connectors.postgres import transaction
    from lienthong.certificates import chain

    last = None if day is None else _day(day)
    first = last or (None if is_open else datetime.now(UTC).date() - timedelta(days=31))
    with _hub(config) as (settings, connection):
        for name in system or ():
            known("system", name, settings.systems)
        with transaction(connection) as cursor:
            issues = chain.last_issues(cursor, systems=system, first=first, last=last)
            came = chain.late(cursor, systems=system, first=first, last=last)
    reached = set(settings.with_database())
    found = [{**_plain(i.signed), "late": came.get(place, 0), "has_database": place[0] in reached} for place, i in issues.items()]
    wrong = [d for d in found if d["state"] == "open" or d["late"]]
    for_ever = [d for d in wrong if not d["has_database"]]
    shown = sorted(wrong if is_open else found, key=lambda d: (d["day"], d["system"], d["entity"]))
    if as_json:
        print_json({"schema": "lienthong/certificates/1", "certificates": shown})
    else:
        _show_table([d | {"state": _state(d)} for d in shown])
        note = f", of which {len(for_ever)} cannot be: their systems have no database here any more" if for_ever else ""
        out.print(f"{len(found)} certificates, {len(wrong)} not closed{note}", highlight=False)
    return Exit.FOUND_WRONG if len(wrong) > len(for_ever) else Exit.FINE


def _state(d: dict[str, Any]) -> str:
    state = f"late {d['late']:+,}" if d["late"] else str(d["state"])
    return state if d["has_database"] or state == "closed" else f"{state}, no database"


@certificate_app.command("show")
def certificate_show(
    number: Annotated[int, typer.Argument(help="Its number in the chain.")],
    config: ConfigFolder = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> int:
    """One certificate: everything it says, its hash, the key and the signature."""
    from lienthong.certificates import chain

    with _hub(config) as (_, connection):
        found = next(chain.export(connection, number, number), None)
    if found is None:
        raise ConfigError(f"there is no certificate number {number}: `lienthong certificate list` shows them")
    document = _plain(found) | {"signature": found.signature.hex()}
    if as_json:
        print_json(document)
        return Exit.FINE
    _show_table([document])
    for name in ("reading", "issued_at", "previous", "hash", "key", "signature"):
        out.print(f"{name:10} {document[name]}", highlight=False, markup=False)
    if document["target"] is not None:
        for side in ("entitled", "held"):
            out.print(f"{side:10} {document['target'][side]['digest']}", highlight=False, markup=False)
    return Exit.FINE


@certificate_app.command("export")
def certificate_export(
    config: ConfigFolder = DEFAULT_CONFIG,
    first: Annotated[int, typer.Option("--from", min=1, help="The first number.")] = 1,
    last: Annotated[int | None, typer.Option("--to", min=1, help="The last number; none: the newest.")] = None,
) -> int:
    """Print the chain as lines of JSON, for `lienthong certificate verify`."""
    from lienthong.certificates import chain

    with _hub(config) as (_, connection):
        for signed in chain.export(connection, first, last):
            sys.stdout.write(signed.line().decode() + "\n")
    return Exit.FINE


# ------------------------------------------------------------------ proof and report
@certificate_app.command("verify")
def certificate_verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="As `lienthong certificate export` prints them; several are one chain.")],
    public_key: Annotated[list[Path], typer.Option("--public-key", help="PEM file; once for each key that has signed.")],
    previous: Annotated[str | None, typer.Option("--previous", metavar="HASH", help="The certificate before the first, if that is not 1.")] = None,
    last: Annotated[str | None, typer.Option("--last", metavar="HASH", help="The newest certificate: shows what is missing at the end.")] = None,
    as_json: AsJson = False,
) -> int:
    """Check a chain offline: signatures, links, order, sums. It names the first entry that is wrong and ends with 1."""
    from lienthong.certificates.keys import public_keys
    from lienthong.certificates.verify import lines_of, verify

    found = verify(lines_of(files), public_keys(public_key), previous=previous, last=last)
    if as_json:
        bad = None if found.bad is None else {"place": found.bad.place, "certificate": found.bad.certificate, "reason": found.bad.what}
        print_json(
            {"schema": "lienthong/certificate-verify/1", "certificates": found.certificates, "first": found.first, "last": found.last,
             "last_hash": found.last_hash, "bad": bad}
        )  # fmt: skip
    elif found.bad is not None:
        out.print(f"{found.bad.place}: {found.bad.certificate or 'not a certificate'}: {found.bad.what}", highlight=False, markup=False)
    else:
        out.print(f"{found.certificates} certificates, numbers {found.first} to {found.last}: all right", highlight=False)
        out.print(f"last hash {found.last_hash}", highlight=False)
    if found.bad is None and not found.certificates:
        raise ConfigError("there is no certificate in these files")
    return Exit.FOUND_WRONG if found.bad is not None else Exit.FINE


@certificate_app.command("report")
def certificate_report(
    month: Annotated[str, typer.Option("--month", metavar="YYYY-MM", help="The month.")],
    config: ConfigFolder = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> int:
    """The sums of a month by system and by unit, for the monthly reconciliation. Days that are not closed end it with 1."""
    from lienthong.certificates.report import as_document, report
    from lienthong.days import yesterday

    first = _month(month)
    with _hub(config) as (settings, connection):
        found = report(settings, connection, first, yesterday(datetime.now(UTC)))
    if as_json:
        print_json(as_document(found))
    else:
        body = [[s.system, s.entity, ", ".join(s.units), s.closed, s.open, s.missing, *(s.counts[c] for c in COUNTED)] for s in found.sums]
        out.print(table(f"{month}, {found.days} days", ["system", "entity", "units", "closed", "open", "missing", *COUNTED], body, number_from=3))
        if found.units:
            lines = [[u.unit, u.system, u.dossiers, u.equal, u.dossiers - u.equal] for u in found.units]
            out.print(table("dossiers received", ["unit", "system", "dossiers", "proved equal", "not proved"], lines))
    return Exit.FINE if all(s.is_complete for s in found.sums) else Exit.FOUND_WRONG
