"""Commands about a line that stands still: probe it, let it go on after a failover, send it again what it has missed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, chosen, err, out, print_json, settings_of, table
from lienthong.restored import LISTED_MAX, Forgotten


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("probe")(probe)
    app.command("resume")(resume)
    app.command("resend")(resend)


def probe(
    config: ConfigFolder = DEFAULT_CONFIG,
    system: Annotated[list[str] | None, typer.Option("--system", help="Only the lines of these systems.")] = None,
    as_json: AsJson = False,
) -> int:
    """Send one probe down every line and wait for it: does anything still travel, and if not, at which stage is it stuck?"""
    from lienthong import prober
    from lienthong import run as running

    settings = settings_of(config)
    systems = chosen(settings, system)
    running.prepare(settings)
    found = prober.once(settings, systems)
    if as_json:
        print_json({"schema": "lienthong/probe/1", "probes": found})
    else:
        show_probes(found)
    return Exit.FINE if all(line["state"] == "normal" for line in found) else Exit.FOUND_WRONG


def show_probes(probes: list[dict[str, Any]]) -> None:
    """A table of legs."""
    columns = ["system", "leg", "state", "waiting_seconds", "took_seconds", "limit_seconds", "reason"]
    body = [[line[column] for column in columns] for line in probes]
    made = table("", ["system", "leg", "state", "waiting s", "took s", "limit s", "reason"], body, number_from=3)
    made.columns[-1].justify = "left"
    out.print(made)


def resume(system: Annotated[str, typer.Argument(help="The system whose line is stopped.")], config: ConfigFolder = DEFAULT_CONFIG) -> int:
    """Let a stopped source go on, after a failover in which nothing was lost or with the right database back; refused when something is missing."""
    from connectors.postgres import connect, snapshot
    from lienthong import hub
    from lienthong.capture import state, witness

    settings = settings_of(config)
    chosen(settings, [system])
    source = connect(settings.dsn_of(system), application_name="lienthong resume")
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong resume")
    try:
        with snapshot(source) as cursor:
            stored = state.load(connection, system)
            if stored is not None:
                state.check_identity(stored, state.identity_of(cursor), system)
            now = witness.mark_of(cursor, system)
        witness.resume(connection, system, now)
    finally:
        source.close()
        connection.close()
    out.print(f"{system}: goes on within seconds; lienthong status --config {config}", highlight=False)
    return Exit.FINE


def resend(
    system: Annotated[str, typer.Argument(help="The system that has missed what was sent to it.")],
    config: ConfigFolder = DEFAULT_CONFIG,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until it has everything.")] = 3600.0,
    as_json: AsJson = False,
) -> int:
    """Compare what a system holds with what it is entitled to, send it what is missing or old, and let its own edits go on."""
    from lienthong import run as running
    from lienthong.apply.reload import Reload

    settings = settings_of(config)
    chosen(settings, [system])
    running.prepare(settings)
    reload = Reload(settings, system)
    said: list[str] = []

    def told(stage: str) -> None:
        if said[-1:] != [stage]:
            said.append(stage)
            err.print(f"{system}: {stage}", highlight=False)

    try:
        done = reload.run(wait_seconds=wait, told=told)
    finally:
        reload.close()
    if as_json:
        print_json(
            {
                "schema": "lienthong/resend/1",
                "system": system,
                "same": done.same,
                "resent": done.resent,
                "unknown_to_hub": done.unknown,
                "still_different": done.still_different,
                "moved_to": done.moved_to,
                "seconds": round(done.seconds, 3),
            }
        )
    else:
        out.print(f"{system}: {done.same:,} records were the same, {done.resent:,} sent again in {done.seconds:.1f} s", highlight=False)
        if done.still_different:
            out.print(f"{done.still_different:,} still differ: lienthong parked list --system {system}", highlight=False)
        if done.unknown:
            out.print(f"{done.unknown:,} were sent once and the hub knows nothing of them: was the hub restored?", highlight=False)
    return Exit.FOUND_WRONG if done.still_different or done.unknown else Exit.FINE


def show_forgotten(system: str, found: Forgotten | None) -> None:
    """What a new life of a source does not know any more, at most a thousand lines of it."""
    if found is None:
        out.print(
            f"{system}: the merge has not taken all of it yet; what the source has forgotten then stands in\n"
            f"lienthong parked list --system {system} --reason not_in_new_epoch",
            highlight=False,
        )
        return
    if not found.records and not found.fields:
        out.print(f"{system}: it has forgotten nothing that the hub knows", highlight=False)
        return
    body: list[list[Any]] = [[e, k, "the record", ", ".join(h) or "the hub"] for e, k, _, h in found.records]
    body += [[e, k, ", ".join(f), "went back to what stood there before"] for e, k, _, f in found.fields]
    out.print(table("forgotten by the source", ["entity", "record", "what", "still held by"], body[:LISTED_MAX], number_from=9))
    more = "" if len(body) <= LISTED_MAX else f", of which {LISTED_MAX:,} are shown; --json has all"
    out.print(
        f"{len(found.records):,} records, {len(found.fields):,} with fields that went back{more}. What {system} was sent of it comes again "
        "by itself; the rest is lost work there: enter it again, or leave it",
        highlight=False,
    )
