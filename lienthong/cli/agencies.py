"""Commands for the agencies that read their topics: the AsyncAPI document, samples, who reads what, notices."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from lienthong.cli.configuration import schemas_app
from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, err, known, out, print_json, settings_of, table
from lienthong.errors import ConfigError
from lienthong.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("asyncapi")(asyncapi)
    schemas_app.command("readers")(schemas_readers)


def asyncapi(
    config: ConfigFolder = DEFAULT_CONFIG,
    system: Annotated[list[str] | None, typer.Option("--system", help="Only these systems; default: all that have a contract.")] = None,
    registry: Annotated[str | None, typer.Option("--registry", help="The schema registry's address; default: kafka.registry_url.")] = None,
    file: Annotated[Path | None, typer.Option("--out", help="Write it to this file; default: stdout.")] = None,
    samples: Annotated[
        Path | None, typer.Option("--samples", help="Write sample messages of one --system to this file, one JSON object a line.")
    ] = None,
) -> int:
    """The AsyncAPI 3 document of the out-topics, made from schemas and contracts: servers, channels, messages, fields, masks, classes."""
    from lienthong.agencies import asyncapi as made_of

    settings = settings_of(config)
    systems = _with_contract(settings, system)
    if samples is not None:
        _write_samples(settings, systems, samples)
    document = made_of.document(settings, systems, registry_url=registry)
    if file is None:
        print_json(document)
    else:
        file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
        err.print(f"{file}: {len(document['channels'])} channels", highlight=False)
    return Exit.FINE


def _with_contract(settings: Settings, named: list[str] | None) -> list[str]:
    """The named systems, or all that have a contract; raises `ConfigError` for one without."""
    having = [contract.system for contract in settings.contracts.values()]
    for name in named or ():
        known("system with a contract", name, having)
    return list(named or having)


def _write_samples(settings: Settings, systems: list[str], file: Path) -> None:
    from lienthong.agencies.samples import lines

    if len(systems) != 1:
        raise ConfigError("give exactly one --system together with --samples")
    with file.open("wb") as target:
        for line in lines(settings, systems[0]):
            target.write(orjson.dumps(line) + b"\n")


def schemas_readers(
    what: Annotated[str, typer.Argument(help="An entity, or one field of it, such as dossier.note.")],
    config: ConfigFolder = DEFAULT_CONFIG,
    ends: Annotated[datetime | None, typer.Option("--ends", formats=["%Y-%m-%d"], help="Print the notice that this field ends on a day.")] = None,
    instead: Annotated[str, typer.Option("--instead", help="For the notice: what to read instead.")] = "nothing",
    offline: Annotated[bool, typer.Option("--offline", help="By contract alone, without asking the brokers for consumer groups.")] = False,
    as_json: AsJson = False,
) -> int:
    """Who still reads an entity or a field: by contract, and the consumer groups seen at the topics; or the notice that the field will end."""
    from connectors.kafka_groups import groups
    from lienthong.agencies.readers import notice, readers
    from lienthong.route import topic_of

    entity, name = _place(what)
    settings = settings_of(config)
    if ends is not None and name is None:
        raise ConfigError("only a field can end: name it, such as dossier.note")
    seen = [] if offline else groups(settings.kafka.brokers, {topic_of(system) for system in settings.systems})
    found = readers(settings, entity, name, [group for group in seen if not group.name.startswith("lienthong.")])
    if ends is not None:
        out.out(notice(found, what, ends=ends.date(), today=_today(), instead=instead), highlight=False)
    elif as_json:
        print_json({"schema": "lienthong/readers/1", "what": what, "readers": [_as_json(each) for each in found]})
    else:
        _report(found, what)
    return Exit.FINE


def _place(what: str) -> tuple[str, str | None]:
    """Entity and field of `dossier.note`; raises `ConfigError` for names that there are not."""
    import schemas

    entity, _, name = what.partition(".")
    known("entity", entity, schemas.ENTITIES)
    if name:
        known(f"field of {entity}", name, [field.name for field in schemas.fields(entity)])
    return entity, name or None


def _today() -> date:
    from zoneinfo import ZoneInfo

    from lienthong.settings import DEFAULT_ZONE

    return datetime.now(UTC).astimezone(ZoneInfo(DEFAULT_ZONE)).date()


def _as_json(reader: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(reader)


def _report(found: list[Any], what: str) -> None:
    lines = [
        [
            each.system,
            each.contract,
            len(each.fields),
            each.mask or "-",
            ", ".join(f"{g.name} ({g.behind:,} behind)" for g in each.groups) or "none seen",
        ]
        for each in found
    ]
    out.print(table(f"who reads {what}", ["system", "contract", "fields", "mask", "consumer groups"], lines, number_from=9))
