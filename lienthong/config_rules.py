"""Checks across files: do systems, profiles, authority and contracts fit each other and the unified model?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from lienthong.config_agreements import agreement_problems, unknown_units
from lienthong.config_files import Document, Path_
from lienthong.config_profiles import profile_problems
from lienthong.problems import Problem, did_you_mean, listed
from lienthong.settings import Contract, EntityMap, Rule, System


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What was read from all files: the documents, and those entries of them that are right in themselves."""

    systems_file: Document
    authority_file: Document
    contracts_file: Document
    profile_files: dict[str, Document | None]
    known_profiles: tuple[str, ...]
    systems: dict[str, System]
    profiles: dict[str, dict[str, EntityMap]]
    authority: dict[str, dict[str, tuple[Rule, ...]]]
    contracts: dict[str, Contract]
    today: date

    def system_names(self) -> tuple[str, ...]:
        """Every system named in the file, right or wrong."""
        return names_at(self.systems_file, "systems")

    def mapped_entities(self) -> set[str]:
        """The entities that some profile in use stores, status steps made from images included."""
        return {
            name
            for entities in self.profiles.values()
            for entity, mapping in entities.items()
            for name in ((entity, "dossier_event") if mapping.events else (entity,))
        }


def names_at(document: Document, *path: str) -> tuple[str, ...]:
    """The keys of a mapping in a file, or none."""
    value = document.at(path)
    return tuple(str(key) for key in value) if isinstance(value, dict) else ()


def all_problems(config: Config) -> list[Problem]:
    """Every problem that no single file shows by itself."""
    found = [*_databases(config), *_profile_choices(config), *_units(config)]
    for name, entities in config.profiles.items():
        document = config.profile_files[name]
        if document is not None:
            found += _own_name(document, name)
            found += profile_problems(document, entities)
    return found + list(agreement_problems(config))


def _databases(config: Config) -> Iterator[Problem]:
    """A system has a profile and a dsn, or it only reads its topic, and then the file says so in two words."""
    reads_only = "for a party that only reads its topic write capture: none and apply: false"
    for name in config.system_names():
        path: Path_ = ("systems", name)
        party = config.systems_file.at(path)
        if not isinstance(party, dict):
            continue
        missing = [key for key in ("profile", "dsn") if party.get(key) is None]
        if len(missing) == 1:
            (other,) = {"profile", "dsn"} - set(missing)
            hint = f"add it, or delete {other}: {reads_only}, without both"
            yield config.systems_file.problem(path, "CFG-MISSING", f"the key {missing[0]} is missing", hint)
        elif missing and (party.get("capture") != "none" or party.get("apply") is not False):
            hint = f"add both; {reads_only}"
            yield config.systems_file.problem(path, "CFG-MISSING", "the keys profile and dsn are missing", hint)


def _profile_choices(config: Config) -> Iterator[Problem]:
    for name in config.system_names():
        profile = config.systems_file.at(("systems", name, "profile"))
        if isinstance(profile, str) and config.profile_files.get(profile) is None:
            hint = did_you_mean(profile, config.known_profiles) or f"there are: {listed(config.known_profiles)}"
            yield config.systems_file.problem(
                ("systems", name, "profile"),
                "CFG-PROFILE",
                f"there is no profile {profile}",
                f"{hint}; looked in profiles/ and connectors/profiles/",
            )


def _own_name(document: Document, name: str) -> Iterator[Problem]:
    inside = document.at(("profile",))
    if isinstance(inside, str) and inside != name:
        yield document.problem(("profile",), "CFG-PROFILE", f"the file is named {name}.yaml but says {inside}", f"write profile: {name}")


def _units(config: Config) -> Iterator[Problem]:
    """Unit codes exist today, and no two wards claim one."""
    claimed: dict[str, str] = {}
    for name, system in config.systems.items():
        for index, code in enumerate(system.units):
            path = ("systems", name, "units", index)
            yield from unknown_units(config.systems_file, path, code, config.today)
            if system.kind != "ward":
                continue
            other = claimed.setdefault(code, name)
            if other != name:
                yield config.systems_file.problem(path, "CFG-UNIT", f"unit {code} already belongs to {other}", "one ward system per unit")
