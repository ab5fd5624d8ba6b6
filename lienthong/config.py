"""Reads a configuration folder into checked settings, or says everything that is wrong with it in one go."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

import connectors
from lienthong import config_deadlines, config_expectations, config_national, config_rules, config_web
from lienthong.config_deadlines import DeadlineRules
from lienthong.config_expectations import Expectations
from lienthong.config_files import Document, Path_, Step, child, read_document
from lienthong.config_national import National
from lienthong.config_web import Web
from lienthong.problems import ConfigProblems, Problem, did_you_mean, listed
from lienthong.settings import (
    AuthorityFile,
    Contract,
    ContractsFile,
    EntityMap,
    Profile,
    Rule,
    Settings,
    System,
    Systems,
)

__all__ = ["ConfigProblems", "Problem", "json_schema", "load_settings", "profile_names"]

PACKAGE_PROFILES = Path(connectors.__file__).parent / "profiles"

KINDS: dict[str, type[BaseModel]] = {
    "systems": Systems,
    "authority": AuthorityFile,
    "contracts": ContractsFile,
    "profile": Profile,
    "national": National,
    "deadlines": DeadlineRules,
    "expectations": Expectations,
    "web": Web,
}
"""The kinds of files, for `lienthong config schema`."""

VARIABLE = re.compile(r"\$\{([^}]*)\}")
LITERAL_PASSWORD = re.compile(r"(?:(?:^|[\s?&])password\s*=\s*(?!\$\{)[^\s&]|://[^/@:\s]*:(?!\$\{)[^/@\s]+@)", re.IGNORECASE)

WORDING = (("Input should be", "must be"), ("Tuple", "List"), ("valid dictionary", "mapping of keys to values"))
"""Pydantic's words and ours."""

ADD = {"hub": 'add hub: {dsn: "${HUB_DSN}"}', "kafka": 'add kafka: {bootstrap: "${KAFKA_BOOTSTRAP}"}'}
"""What to write for a key that is missing, where its name does not say it."""

Model = TypeVar("Model", bound=BaseModel)


def load_settings(folder: Path, env: Mapping[str, str], *, today: date | None = None) -> Settings:
    """Everything configured in a folder, checked as one; raises ConfigProblems with all problems of all files."""
    optional = (config_national.FILE, config_deadlines.FILE, config_expectations.FILE, config_web.FILE)
    present = tuple(Path(file).stem for file in optional if (folder / file).exists())
    files = {name: read_document(folder / f"{name}.yaml", f"{name}.yaml") for name in ("systems", "authority", "contracts", *present)}
    profiles = {name: _read_profile(folder, name) for name in _profiles_named(files["systems"])}
    problems = _expand_secrets(files["systems"], env, folder)
    problems += _expand_national(files["national"], env, folder) if "national" in files else []
    problems += _expand_web(files["web"], env, folder) if "web" in files else []
    problems += _quoted_codes(files["systems"], files["contracts"])
    everything = [*files.values(), *(document for document in profiles.values() if document is not None)]
    parsed = {name: _validate(KINDS[name], files[name], problems) for name in files}
    parsed_profiles = {name: _validate(Profile, document, problems) for name, document in profiles.items() if document is not None}
    config = config_rules.Config(
        systems_file=files["systems"],
        authority_file=files["authority"],
        contracts_file=files["contracts"],
        profile_files=profiles,
        known_profiles=profile_names(folder),
        systems=_salvage(System, files["systems"].at(("systems",))),
        profiles={name: _salvage(EntityMap, document.at(("entities",))) for name, document in profiles.items() if document},
        authority=_salvage_authority(files["authority"]),
        contracts=_salvage(Contract, files["contracts"].at(("contracts",))),
        today=today or date.today(),  # noqa: DTZ011 - the calendar day where the service runs
    )
    for document in everything:
        problems += document.problems
    problems += config_rules.all_problems(config)
    if "national" in files:
        problems += config_national.national_problems(files["national"], config.systems, config.contracts)
    if problems:
        raise ConfigProblems(problems)
    systems, authority, contracts, national, deadlines, expectations = (
        parsed.get(name) for name in ("systems", "authority", "contracts", "national", "deadlines", "expectations")
    )
    assert isinstance(systems, Systems)
    assert isinstance(authority, AuthorityFile)
    assert isinstance(contracts, ContractsFile)
    assert national is None or isinstance(national, National)
    assert deadlines is None or isinstance(deadlines, DeadlineRules)
    assert expectations is None or isinstance(expectations, Expectations)
    web = parsed.get("web")
    assert web is None or isinstance(web, Web)
    return Settings(
        hub=systems.hub,
        kafka=systems.kafka,
        parking=systems.parking,
        retention=systems.retention,
        systems=dict(systems.systems),
        authority=authority.authority,
        contracts=dict(contracts.contracts),
        profiles={name: profile for name, profile in parsed_profiles.items() if profile},
        national=national,
        deadlines=deadlines or DeadlineRules(),
        expectations=expectations or config_expectations.usual(),
        web=web or Web(),
    )


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of one kind of file, for editors and check-jsonschema."""
    schema = KINDS[kind].model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"lienthong/{kind}/1", **schema}


def profile_names(folder: Path) -> tuple[str, ...]:
    """The names of all profiles that a configuration in this folder can use."""
    found = {path.stem for place in (folder / "profiles", PACKAGE_PROFILES) for path in place.glob("*.yaml")}
    return tuple(sorted(found))


def _profiles_named(systems: Document) -> tuple[str, ...]:
    parties = systems.at(("systems",))
    named = [child(party, "profile") for party in parties.values()] if isinstance(parties, dict) else []
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9-]*", name)))


def _read_profile(folder: Path, name: str) -> Document | None:
    for place, label in ((folder / "profiles", "profiles"), (PACKAGE_PROFILES, "connectors/profiles")):
        if (place / f"{name}.yaml").is_file():
            return read_document(place / f"{name}.yaml", f"{label}/{name}.yaml")
    return None


# ------------------------------------------------------------------ secrets and codes
def _expand_secrets(systems: Document, env: Mapping[str, str], folder: Path) -> list[Problem]:
    """Replace `${NAME}` and `file:/path` where an address is expected; a secret never reaches a problem's text."""
    problems: list[Problem] = []
    parties = systems.at(("systems",))
    places: list[Path_] = [("hub", "dsn"), ("kafka", "bootstrap"), ("kafka", "registry_url")]
    places += [("kafka", "security", name) for name in ("username", "password")]
    places += [("systems", name, "dsn") for name in parties] if isinstance(parties, dict) else []
    for path in places:
        raw, holder = systems.at(path), systems.at(path[:-1])
        if isinstance(raw, str) and isinstance(holder, dict):
            if LITERAL_PASSWORD.search(raw) or (path[-1] == "password" and not raw.startswith(("${", "file:"))):
                problems.append(
                    systems.problem(
                        path,
                        "CFG-SECRET",
                        "a password is written in the file",
                        "write ${NAME} and set the variable NAME, or file:/path",
                    )
                )
            holder[path[-1]] = _expand(systems, path, raw, (env, folder), problems)
    return problems


def _expand_national(document: Document, env: Mapping[str, str], folder: Path) -> list[Problem]:
    """The same in national.yaml, where every text may come from outside."""
    problems = list(config_national.literal_secrets(document))
    for path in config_national.texts(document):
        holder, raw = document.at(path[:-1]), document.at(path)
        if isinstance(holder, dict):
            holder[path[-1]] = _expand(document, path, str(raw), (env, folder), problems)
    return problems


def _expand_web(document: Document, env: Mapping[str, str], folder: Path) -> list[Problem]:
    """The same in web.yaml, in a few places."""
    problems = list(config_web.web_problems(document))
    for path in config_web.EXPANDED:
        holder, raw = document.at(path[:-1]), document.at(path)
        if isinstance(holder, dict) and isinstance(raw, str):
            holder[path[-1]] = _expand(document, path, raw, (env, folder), problems)
    return problems


def _expand(document: Document, path: Path_, raw: str, sources: tuple[Mapping[str, str], Path], problems: list[Problem]) -> str:
    env, folder = sources
    if raw.startswith("file:"):
        secret = folder / raw.removeprefix("file:")
        try:
            text = secret.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            text = ""
        if not text:
            problems.append(document.problem(path, "CFG-ENV", f"the file {secret} cannot be read or is empty", "mount it, or write ${NAME}"))
        return text or raw

    def value(match: re.Match[str]) -> str:
        found = env.get(match[1], "")
        if not found:
            problems.append(
                document.problem(
                    path,
                    "CFG-ENV",
                    f"the variable {match[1]} is not set",
                    f"export {match[1]}=… before starting; looked in the environment",
                )
            )
        return found or match[0]

    return VARIABLE.sub(value, raw)


def _quoted_codes(systems: Document, contracts: Document) -> list[Problem]:
    """Codes may only be quoted text: unquoted, 00123 is a number and 1.10 is 1.1."""
    places: list[tuple[Document, Path_]] = []
    parties = systems.at(("systems",))
    if isinstance(parties, dict):
        places += [(systems, ("systems", name, key)) for name in parties for key in ("units", "agencies")]
    agreements = contracts.at(("contracts",))
    if isinstance(agreements, dict):
        for name in agreements:
            entities = contracts.at(("contracts", name, "entities"))
            for entity in entities if isinstance(entities, dict) else ():
                places += _scope_places(contracts, ("contracts", name, "entities", entity, "where"))
    problems = []
    for document, path in places:
        value = document.at(path)
        items = [(*path, index) for index in range(len(value))] if isinstance(value, list) else [path]
        problems += [_unquoted(document, item) for item in items if item in document.unquoted and document.at(item) not in (None, "own")]
    return problems


def _scope_places(contracts: Document, path: Path_) -> list[tuple[Document, Path_]]:
    alternatives = contracts.at((*path, "any_of"))
    nested = range(len(alternatives)) if isinstance(alternatives, list) else ()
    own: list[tuple[Document, Path_]] = [(contracts, (*path, key)) for key in ("units", "agencies", "procedures")]
    return own + [place for index in nested for place in _scope_places(contracts, (*path, "any_of", index))]


def _unquoted(document: Document, path: Path_) -> Problem:
    _make_text(document, path)
    return document.problem(path, "CFG-QUOTE", "a code must be text", "put it in quotes")


def _make_text(document: Document, path: Path_) -> None:
    """Let later checks see text, so that one missing pair of quotes is one problem."""
    holder = document.at(path[:-1])
    if isinstance(holder, dict | list):
        holder[path[-1]] = str(holder[path[-1]])  # type: ignore[index]


# ------------------------------------------------------------------ pydantic's errors, with places
def _validate(model: type[Model], document: Document, problems: list[Problem]) -> Model | None:
    if not isinstance(document.value, dict):
        return None
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        seen: set[tuple[Path_, str]] = set()
        for item in error.errors(include_url=False, include_input=False):
            problem, key = _placed(model, document, item)
            if key not in seen:
                seen.add(key)
                problems.append(problem)
        return None


def _placed(model: type[BaseModel], document: Document, item: Mapping[str, Any]) -> tuple[Problem, tuple[Path_, str]]:
    """One pydantic error at its line; the choices of a union are one problem."""
    path = _real_path(document, item["loc"])
    kind, last = item["type"], item["loc"][-1] if item["loc"] else ""
    if kind == "missing":
        known = document.problem(path, "CFG-MISSING", f"the key {last} is missing", ADD.get(str(last), ""))
        return known, ((*path, last), kind)
    if kind == "extra_forbidden":
        names = _keys_of(model, path[:-1])
        hint = did_you_mean(path[-1], names) or f"known here: {listed(sorted(names))}"
        return document.problem(path, "CFG-UNKNOWN", "unknown key", hint), (path, kind)
    message, hint = _in_words(item, path[-1] if last == "[key]" else document.at(path))
    return document.problem(path, "CFG-VALUE", message, hint), (path, "value")


def _real_path(document: Document, loc: Iterable[str | int]) -> Path_:
    """The part of pydantic's location that is in the file (it also names branches of unions)."""
    path: Path_ = ()
    for step in loc:
        here = document.at(path)
        if isinstance(here, dict) and step in here or isinstance(here, list) and isinstance(step, int):
            path = (*path, step)
    return path


def _in_words(item: Mapping[str, Any], value: object) -> tuple[str, str]:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        return f"must be {context.get('expected')}", did_you_mean(value, choices)
    if kind == "string_pattern_mismatch":
        return "a name has lower-case letters, digits and hyphens, and starts with a letter", ""
    if kind == "value_error":
        return str(context.get("error", item["msg"])), ""
    message = str(item["msg"])
    for theirs, ours in WORDING:
        message = message.replace(theirs, ours)
    quotes = kind == "string_type" and isinstance(value, int | float | date)
    return message[0].lower() + message[1:], "put it in quotes" if quotes else ""


def _keys_of(model: type[BaseModel], path: Path_) -> tuple[str, ...]:
    """The keys that may stand at a path."""
    kind: object = model
    for step in path:
        kind = _inside(kind, step)
    found = _model_in(kind)
    return tuple(found.model_fields) if found else ()


def _inside(kind: object, step: Step) -> object:
    found = _model_in(kind)
    if found is not None:
        info = found.model_fields.get(str(step))
        return info.annotation if info else None
    for one in _branches(kind):
        if get_origin(one) in (dict, tuple):
            arguments = get_args(one)
            return arguments[1] if get_origin(one) is dict else arguments[0]
    return None


def _branches(kind: object) -> list[object]:
    if get_origin(kind) is Annotated:
        return _branches(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [branch for argument in get_args(kind) for branch in _branches(argument)]
    return [kind]


def _model_in(kind: object) -> type[BaseModel] | None:
    return next((one for one in _branches(kind) if isinstance(one, type) and issubclass(one, BaseModel)), None)


# ------------------------------------------------------------------ what can still be checked in a broken file
def _salvage(model: type[Model], raw: object) -> dict[str, Model]:
    """The entries of a mapping that are right, unknown keys aside: the cross checks go on with those."""
    entries = raw.items() if isinstance(raw, dict) else ()
    tried = {str(name): _tolerant(model, value) for name, value in entries}
    return {name: value for name, value in tried.items() if value is not None}


def _tolerant(model: type[Model], raw: object) -> Model | None:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        extra = [item["loc"] for item in error.errors(include_url=False) if item["type"] == "extra_forbidden"]
    if not extra:
        return None
    try:
        return model.model_validate(_without(raw, extra))
    except ValidationError:
        return None


def _without(raw: object, paths: list[tuple[int | str, ...]]) -> object:
    if isinstance(raw, dict):
        return {
            key: _without(value, [path[1:] for path in paths if len(path) > 1 and path[0] == key])
            for key, value in raw.items()
            if (key,) not in paths
        }
    if isinstance(raw, list):
        return [_without(value, [path[1:] for path in paths if len(path) > 1 and path[0] == index]) for index, value in enumerate(raw)]
    return raw


def _salvage_authority(document: Document) -> dict[str, dict[str, tuple[Rule, ...]]]:
    entities = document.at(("authority",))
    result: dict[str, dict[str, tuple[Rule, ...]]] = {}
    for entity, groups in entities.items() if isinstance(entities, dict) else ():
        result[str(entity)] = {}
        for group, rules in groups.items() if isinstance(groups, dict) else ():
            tried = [_tolerant(Rule, rule) for rule in rules] if isinstance(rules, list) else []
            result[str(entity)][str(group)] = tuple(rule for rule in tried if rule is not None)
    return result
