"""Commands that answer "where is it?": the journey of one record, and what is lost or stuck."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, err, known, out, print_json, settings_of, table


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("trace")(trace)
    app.command("lost")(lost)


def trace(
    code: Annotated[str, typer.Argument(help="Any code of it: national, local or linked code, local key, code at the national portal, record id.")],
    config: ConfigFolder = DEFAULT_CONFIG,
    purpose: Annotated[str | None, typer.Option(help="Show personal data; the purpose is recorded with your name.")] = None,
    as_json: AsJson = False,
) -> int:
    """The journey of one record: what each system said and acknowledged, who holds it now, what is expected next. Every look is recorded."""
    from lienthong import journey

    document = journey.of(settings_of(config), code, viewer=os.environ.get("USER", "?"), purpose=purpose)
    if as_json:
        print_json({"schema": "lienthong/trace/2", "records": document})
        return Exit.FINE if document else Exit.FOUND_WRONG
    for record in document:
        _journey(record)
    if not document:
        out.print("no record under this code", highlight=False)
    return Exit.FINE if document else Exit.FOUND_WRONG


def _journey(record: dict[str, Any]) -> None:
    out.print(f"{record['entity']} {record['record']}{' (deleted)' if record['deleted'] else ''}", highlight=False)
    codes = [f"{c['scheme']} {c['value']}" + (f" ({c['system']})" if c["system"] else "") for c in record["codes"]]
    out.print("codes: " + ", ".join(codes), highlight=False, markup=False)
    out.print(f"holder: {record['holder']}", highlight=False)
    expected = record["expected"]
    if expected is not None:
        out.print(f"expected: {expected['what']}" + (f", by {expected['by']}" if expected["by"] else ""), highlight=False, markup=False)
    body = [[s["at"], s["arrived_at"], s["delay_seconds"], s["system"], s["kind"], s["what"], s["proof"]] for s in record["steps"]]
    made = table("", ["at", "arrived at", "delay s", "system", "kind", "what", "proof"], body, number_from=9)
    made.columns[2].justify = "right"
    out.print(made)
    fields = [[f["field"], f["value"], f["system"], f["since"], f["basis"]] for f in record["fields"]]
    out.print(table("", ["field", "value", "whose word", "since", "by which rule"], fields, number_from=9))
    sent = ", ".join(f"{s['system']} ({s['state']}{'' if s['acknowledged'] else ', not acknowledged'})" for s in record["sent"]) or "nobody"
    out.print(f"sent to: {sent}\n", highlight=False)


def lost(
    config: ConfigFolder = DEFAULT_CONFIG,
    system: Annotated[str | None, typer.Option("--system", help="Only what this system should have, or has not shown.")] = None,
    sweep: Annotated[bool, typer.Option("--sweep/--no-sweep", help="Look at everything now, or list what the last sweep has found.")] = True,  # noqa: FBT002
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the longest overdue first.")] = 1000,
    as_json: AsJson = False,
) -> int:
    """Lost and stuck dossiers: which, the last that is proven to have it, and why probably not. Exit code 1 when there is one."""
    from lienthong import hub_schema
    from lienthong.journey import lost as lost_dossiers

    settings = settings_of(config)
    if system is not None:
        known("system", system, settings.systems)
    if sweep:
        hub_schema.install(settings.hub.dsn)
        lost_dossiers.sweep(settings)
    found, last = lost_dossiers.found(settings, system=system, limit=limit), lost_dossiers.last_sweep(settings)
    if as_json:
        print_json({"schema": "lienthong/lost/1", "sweep": last, "kinds": lost_dossiers.by_kind(found), "lost": found})
    else:
        _lost(found, last)
    if last is None:
        return Exit.FOUND_WRONG
    return Exit.FOUND_WRONG if found else Exit.DEPENDENCY_DOWN if last["unasked"] else Exit.FINE


def _lost(found: list[dict[str, Any]], last: dict[str, Any] | None) -> None:
    if last is None:
        err.print("nobody has looked yet: lienthong lost --sweep", highlight=False)
        return
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in found:
        groups.setdefault(tuple(one[name] for name in ("kind", "system", "holder", "reason", "advice")), []).append(one)
    for (kind, system, holder, reason, advice), members in groups.items():
        out.print(f"{kind.replace('_', ' ')}: {system}, {len(members):,} (last holder: {holder})", style="bold", highlight=False)
        out.print(f"  probable cause: {reason}", highlight=False, markup=False)
        out.print(f"  what to do: {advice}", highlight=False, markup=False)
        for one in members:
            out.print(f"  {one['local_code'] or one['record']}, by {one['limit_at']:%Y-%m-%d %H:%M %Z}", highlight=False, markup=False)
    out.print(
        f"{len(found)} lost or stuck among {last['dossiers']:,} dossiers as of {last['at']:%Y-%m-%d %H:%M %Z} ({last['took_seconds']:.1f} s)",
        highlight=False,
    )
    if last["unasked"]:
        err.print(f"could not be asked, so nothing is proven about them: {', '.join(last['unasked'])}; lienthong status", highlight=False)
    if found:
        out.print("next: lienthong trace DOSSIER; docs/journeys.md has each cause", highlight=False)
