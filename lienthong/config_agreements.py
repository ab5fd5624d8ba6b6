"""Checks of authority.yaml and contracts.yaml: who may decide, and who may receive what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import TYPE_CHECKING, get_args

import schemas
from lienthong.config_files import Document, Path_
from lienthong.config_profiles import field_type
from lienthong.problems import Problem, did_you_mean, listed
from lienthong.settings import Contract, Grant, Rule, Scope, System

if TYPE_CHECKING:
    from lienthong.config_rules import Config

ROLES = ("@processing", "@receiving")

KINDS: tuple[str, ...] = get_args(System.model_fields["kind"].annotation)

MASKS: dict[str, tuple[str, ...]] = {
    "last4": ("string",),
    "initials": ("string",),
    "year": ("partial-date", "date", "instant"),
}
"""The types each mask can be used on; `null` fits every field."""


def groups_of(entity: str) -> tuple[str, ...]:
    """The field groups of an entity, its existence first."""
    return ("record", *(group for group in schemas.groups(entity) if group != "record"))


def agreement_problems(config: Config) -> Iterator[Problem]:
    """Everything wrong with authority and contracts."""
    yield from _authority(config)
    yield from _uncovered(config)
    yield from _contracts(config)


def unknown_units(document: Document, path: Path_, code: str, today: date) -> Iterable[Problem]:
    """A problem when the register does not know a unit code today."""
    from lienthong import units  # the register is read once, when first asked

    if units.known(code, today):
        return []
    return [
        document.problem(
            path,
            "CFG-UNIT",
            f"no unit has the code {code} on {today.isoformat()}",
            "use a code valid today: lienthong/data/admin_units_2025.csv has them all",
        )
    ]


# ------------------------------------------------------------------ authority
def _authority(config: Config) -> Iterator[Problem]:
    document = config.authority_file
    for entity, groups in config.authority.items():
        path: Path_ = ("authority", entity)
        if entity not in schemas.ENTITIES:
            yield document.problem(path, "CFG-ENTITY", f"there is no entity {entity}", did_you_mean(entity, schemas.ENTITIES))
            continue
        known = groups_of(entity)
        for group, rules in groups.items():
            if group not in known:
                hint = did_you_mean(group, known) or f"{entity} has: {listed(known)}"
                yield document.problem((*path, group), "CFG-GROUP", f"{entity} has no field group {group}", hint)
            yield from _rules(config, (*path, group), rules)


def _rules(config: Config, path: Path_, rules: tuple[Rule, ...]) -> Iterator[Problem]:
    document = config.authority_file
    if document.at(path) == []:
        yield document.problem(path, "CFG-GROUP", "there is no rule here", "add one: {order: […], basis: …}")
    for index, rule in enumerate(rules):
        here = (*path, index)
        if index and rule.valid_from <= rules[index - 1].valid_from:
            yield document.problem(
                (*here, "valid_from"),
                "CFG-DATES",
                "the rules must be in order of `valid_from`, each later than the one before",
            )
        for position, entry in enumerate(rule.order):
            place: Path_ = (*here, "order", position)
            place = place if place in document.places else (*here, "order")
            yield from _order_entry(config, place, entry)
            if path[-1] == "routing" and entry in ROLES:
                message = f"routing says who {entry} is, so it cannot be decided by it"
                yield document.problem(place, "CFG-ORDER", message, "name a system or a kind")


def _order_entry(config: Config, path: Path_, entry: str) -> Iterator[Problem]:
    names = config.system_names()
    known: tuple[str, ...] = (*names, *ROLES, *(f"kind:{kind}" for kind in KINDS))
    if names and entry not in known:
        hint = did_you_mean(entry, known) or "name a system, kind:KIND, @processing or @receiving"
        yield config.authority_file.problem(path, "CFG-ORDER", f"there is no system {entry}", hint)


def _uncovered(config: Config) -> Iterator[Problem]:
    """Every group of every entity in use has somebody whose word counts."""
    document = config.authority_file
    if document.value is None:
        return
    written = document.at(("authority",))
    for entity in sorted(config.mapped_entities() & set(schemas.ENTITIES)):
        groups = written.get(entity) if isinstance(written, dict) else None
        present = tuple(groups) if isinstance(groups, dict) else ()
        missing = [group for group in groups_of(entity) if group not in present]
        if missing:
            yield document.problem(
                ("authority", entity),
                "CFG-AUTHORITY",
                f"nobody is the authority for {entity}: {listed(missing)}",
                f"add under authority.{entity}: {missing[0]}: [{{order: […], basis: …}}]",
            )


# ------------------------------------------------------------------ contracts
def _contracts(config: Config) -> Iterator[Problem]:
    document, names = config.contracts_file, config.system_names()
    holders: dict[str, str] = {}
    for name, contract in config.contracts.items():
        path: Path_ = ("contracts", name)
        if names and contract.system not in names:
            yield document.problem(
                (*path, "system"),
                "CFG-SYSTEM",
                f"there is no system {contract.system}",
                did_you_mean(contract.system, names),
            )
        other = holders.setdefault(contract.system, name)
        if other != name:
            yield document.problem(
                (*path, "system"),
                "CFG-CONTRACT",
                f"{contract.system} already has the contract {other}",
                "put both into one",
            )
        yield from _grants(config, path, contract)


def _grants(config: Config, path: Path_, contract: Contract) -> Iterator[Problem]:
    document = config.contracts_file
    for entity, grant in contract.entities.items():
        here = (*path, "entities", entity)
        if entity not in schemas.ENTITIES:
            yield document.problem(here, "CFG-ENTITY", f"there is no entity {entity}", did_you_mean(entity, schemas.ENTITIES))
            continue
        yield from _granted_fields(config, here, entity, grant)
        yield from _masks(config, here, entity, grant)
        yield from _scope(config, (*here, "where"), grant.where, contract.system)


def _granted_fields(config: Config, path: Path_, entity: str, grant: Grant) -> Iterator[Problem]:
    names = [field.name for field in schemas.fields(entity)]
    for index, name in enumerate(grant.fields if grant.fields != "all" else ()):
        if name not in names:
            hint = did_you_mean(name, names) or f"{entity} has: {listed(names)}"
            yield config.contracts_file.problem((*path, "fields", index), "CFG-FIELD", f"{entity} has no field {name}", hint)


def _masks(config: Config, path: Path_, entity: str, grant: Grant) -> Iterator[Problem]:
    document = config.contracts_file
    fields = {field.name: field for field in schemas.fields(entity)}
    for name, mask in grant.mask.items():
        here = (*path, "mask", name)
        if name not in fields:
            yield document.problem(here, "CFG-FIELD", f"{entity} has no field {name}", did_you_mean(name, fields))
        elif grant.fields == "all" and fields[name].pii == "sensitive":
            yield document.problem(
                here,
                "CFG-SENSITIVE",
                f"{name} is sensitive and not part of `all`",
                "list the fields by name to share it, or delete the mask",
            )
        elif grant.fields != "all" and name not in grant.fields:
            yield document.problem(
                here,
                "CFG-MASK",
                f"{name} is not among the fields of this contract",
                "delete the mask, or list the field",
            )
        elif mask in MASKS and field_type(entity, name) not in MASKS[mask]:
            yield document.problem(
                here,
                "CFG-MASK",
                f"the mask {mask} does not fit {name} ({field_type(entity, name)})",
                f"it fits: {', '.join(MASKS[mask])}",
            )


def _scope(config: Config, path: Path_, scope: Scope, system: str) -> Iterator[Problem]:
    document, party = config.contracts_file, config.systems.get(system)
    for key, values in (("units", scope.units), ("agencies", scope.agencies), ("procedures", scope.procedures)):
        for index, code in enumerate(values or ()):
            place = (*path, key, index) if (*path, key, index) in document.places else (*path, key)
            if code == "own":
                yield from _own(config, place, key, party)
            elif key == "units":
                yield from unknown_units(document, place, code, config.today)
    for index, alternative in enumerate(scope.any_of):
        yield from _scope(config, (*path, "any_of", index), alternative, system)


def _own(config: Config, path: Path_, key: str, party: System | None) -> Iterator[Problem]:
    if key == "procedures":
        yield config.contracts_file.problem(path, "CFG-OWN", "no procedure is a system's own", "list the codes in quotes")
    elif party is not None and not getattr(party, key):
        yield config.contracts_file.problem(path, "CFG-OWN", f"the system has no {key} of its own", f"add {key}: […] to it in systems.yaml")
