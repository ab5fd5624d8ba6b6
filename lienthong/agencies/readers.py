"""Who still reads what: by contract, and by the consumer groups that have been seen at the topics; and the notice of a field that will end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from connectors.kafka_groups import Group
from lienthong.contracts import terms_of
from lienthong.errors import ConfigError
from lienthong.route import topic_of
from lienthong.settings import Settings

NOTICE_DAYS = 90
"""What is read by somebody ends no sooner after its notice (docs/agencies/changes.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One system that receives a field, or whole records when `mask` and `field` are empty."""

    system: str
    contract: str
    entity: str
    fields: tuple[str, ...]
    mask: str | None
    purpose: str
    groups: tuple[Group, ...] = field(default=())


def readers(settings: Settings, entity: str, name: str | None, groups: Sequence[Group] = ()) -> list[Reader]:
    """The systems whose contract gives them an entity, or one field of it, with the consumer groups seen at their topics."""
    contracts = {contract.system: (key, contract) for key, contract in settings.contracts.items()}
    return [
        Reader(
            system=terms.system,
            contract=contracts[terms.system][0],
            entity=entity,
            fields=terms.fields if name is None else (name,),
            mask=None if name is None else terms.masks.get(name),
            purpose=contracts[terms.system][1].purpose,
            groups=tuple(group for group in groups if group.topic == topic_of(terms.system)),
        )
        for terms in terms_of(settings).get(entity, [])
        if name is None or name in terms.fields
    ]


def notice(found: Sequence[Reader], what: str, *, ends: date, today: date, instead: str) -> str:
    """The notice that a field will end, as Markdown, naming who still reads it; raises `ConfigError` when that is too soon."""
    earliest = today + timedelta(days=NOTICE_DAYS)
    if ends < earliest:
        raise ConfigError(f"{ends} is too soon: a notice is given {NOTICE_DAYS} days before, so {earliest} is the first day possible")
    lines = [
        f"# `{what}` ends on {ends}", "",
        f"Given on {today}. Until then nothing changes. From then on the field is null in every message; it stays in the schema,",
        "so no reader breaks.", "",
        f"Instead: {instead}", "", "## Who still reads it", "",
    ]  # fmt: skip
    if not found:
        return "\n".join([*lines, "Nobody: no contract gives it.", ""])
    lines += ["| System | Contract | Mask | Purpose | Consumer groups |", "|---|---|---|---|---|"]
    for each in found:
        seen = ", ".join(f"{group.name} ({group.behind:,} behind)" for group in each.groups) or "none seen"
        lines.append(f"| {each.system} | {each.contract} | {each.mask or '-'} | {each.purpose} | {seen} |")
    return "\n".join([*lines, ""])
