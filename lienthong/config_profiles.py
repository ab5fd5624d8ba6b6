"""Checks of one profile against the unified model: names, readers, value maps, parts, parents, required fields."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from zoneinfo import ZoneInfo

import schemas
from lienthong.config_files import Document, Path_
from lienthong.layout import table_parts
from lienthong.problems import Problem, did_you_mean, listed
from lienthong.settings import EntityMap, FieldMap

RANGES: dict[tuple[str, str], tuple[int, int]] = {
    ("dossier", "status"): (1, 10),
    ("dossier_event", "status"): (1, 10),
    ("evaluation", "score"): (1, 5),
    ("citizen", "sex"): (0, 2),
    ("dossier", "payment_status"): (0, 2),
    ("dossier", "channel"): (1, 3),
}
"""Codes with a closed range (statuses: data/dossier_status_codes.csv, the ten of the national portal)."""

PARENTS = {"dossier_event": "dossier", "dossier_component": "dossier", "fee": "dossier", "evaluation": "dossier"}

DATED = ("instant", "date", "partial-date")

WORDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "partial-date": (str,),
    "boolean": (bool,),
    "int": (int,),
    "long": (int,),
    "instant": (str, int),
    "date": (str, int),
}


def field_type(entity: str, name: str) -> str:
    """The type of a unified field in the words of the profile language."""
    return schemas.field(entity, name).type


def is_derived(name: str, names: Collection[str]) -> bool:
    """Whether a field is made by the mapping from the `_unit_code` beside it."""
    return any(name.endswith(end) and f"{name.removesuffix(end)}_unit_code" in names for end in ("_unit", "_unit_rule"))


def profile_problems(document: Document, entities: dict[str, EntityMap]) -> Iterator[Problem]:
    """Everything wrong with the entities of one profile."""
    yield from _zone(document, ("zone",), document.at(("zone",)))
    written = document.at(("entities",))
    names = tuple(str(name) for name in written) if isinstance(written, dict) else ()
    for entity in names:
        if entity not in schemas.ENTITIES:
            hint = did_you_mean(entity, schemas.ENTITIES) or f"there are: {listed(tuple(schemas.ENTITIES))}"
            yield document.problem(("entities", entity), "CFG-ENTITY", f"there is no entity {entity}", hint)
    yield from _spelling(document, entities)
    for entity, mapping in entities.items():
        if entity in schemas.ENTITIES:
            for check in ENTITY_CHECKS:
                yield from check(document, entity, mapping)
            yield from _family(document, entity, mapping, entities)


# ------------------------------------------------------------------ fields
def _fields(document: Document, entity: str, mapping: EntityMap) -> Iterator[Problem]:
    names = tuple(field.name for field in schemas.fields(entity))
    for name, spec in mapping.fields.items():
        path = _field_path(document, entity, name)
        if name not in names:
            usable = [known for known in names if not is_derived(known, names)]
            hint = did_you_mean(name, usable) or f"{entity} has: {listed(usable)}"
            yield document.problem(path, "CFG-FIELD", f"{entity} has no field {name}", hint)
        elif is_derived(name, names):
            code = name.removesuffix("_rule").removesuffix("_unit") + "_unit_code"
            yield document.problem(path, "CFG-DERIVED", f"{name} is worked out from {code}", f"map {code} and delete this line")
        else:
            yield from _one_field(document, path, entity, name, spec)


def _field_path(document: Document, entity: str, name: str) -> Path_:
    path: Path_ = ("entities", entity, "fields", name)
    sugar: Path_ = ("entities", entity, "identifiers", name.removesuffix("_code"))
    return sugar if path not in document.places and sugar in document.places else path


def _one_field(document: Document, path: Path_, entity: str, name: str, spec: FieldMap) -> Iterator[Problem]:
    yield from _reader(document, (*path, "read"), spec, field_type(entity, name))
    yield from _zone(document, (*path, "zone"), spec.zone)
    for local, unified in (spec.values or {}).items():
        yield from _word(document, (*path, "values", local), (entity, name), unified)
    if spec.constant is not None:
        yield from _word(document, (*path, "constant"), (entity, name), spec.constant)
    if spec.on is not None:
        dated = [field.name for field in schemas.fields(entity) if field_type(entity, field.name) in DATED]
        if not name.endswith("_unit_code"):
            yield document.problem((*path, "on"), "CFG-FIELD", "`on` is for unit codes only", "delete this line")
        elif spec.on not in dated:
            hint = did_you_mean(spec.on, dated) or f"dates of {entity}: {listed(dated)}"
            yield document.problem((*path, "on"), "CFG-FIELD", f"{entity} has no date field {spec.on}", hint)


def _reader(document: Document, path: Path_, spec: FieldMap, kind: str) -> Iterator[Problem]:
    from lienthong.readers import READERS  # readers use the register of units; it is read when first needed

    if spec.read is None:
        return
    fitting = sorted(name for name, reader in READERS.items() if kind in reader.types)
    if spec.read not in READERS:
        hint = did_you_mean(spec.read, READERS) or f"for this field there are: {listed(fitting)}"
        yield document.problem(path, "CFG-READER", f"there is no reader {spec.read}", hint)
    elif spec.values is None and spec.read not in fitting:
        message = f"the reader {spec.read} gives {' or '.join(READERS[spec.read].types)}, the field holds {kind}"
        yield document.problem(path, "CFG-READER", message, f"for this field there are: {listed(fitting)}")


def _spelling(document: Document, entities: dict[str, EntityMap]) -> Iterator[Problem]:
    """One table is written one way: capture tells tables apart by how they are written."""
    first: dict[tuple[str, str], str] = {}
    for entity, mapping in entities.items():
        places: list[tuple[Path_, str]] = [(("entities", entity, "table"), mapping.table)]
        places += [(("entities", entity, "parts", name, "table"), part.table) for name, part in mapping.parts.items()]
        for path, table in places:
            if table.count('"') % 2:
                yield document.problem(path, "CFG-TABLE", "a quote is not closed", "write '\"name\"' or 'schema.\"name\"'")
                continue
            spelled = first.setdefault(table_parts(table), table)
            if spelled != table:
                yield document.problem(path, "CFG-TABLE", f"the same table is written {spelled} elsewhere", "write it one way")


def _zone(document: Document, path: Path_, name: object) -> Iterator[Problem]:
    if not isinstance(name, str):
        return
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        yield document.problem(path, "CFG-ZONE", f"there is no time zone {name}", "write Asia/Ho_Chi_Minh")


def _word(document: Document, path: Path_, field: tuple[str, str], word: str | int) -> Iterator[Problem]:
    kind = field_type(*field)
    allowed = WORDS.get(kind, (str, int, bool))
    if type(word) not in allowed:
        names = " or ".join({"str": "text", "int": "a whole number", "bool": "true or false"}[one.__name__] for one in allowed)
        yield document.problem(path, "CFG-WORD", f"{field[1]} holds {names}, not {word!r}")
        return
    low, high = RANGES.get(field, (None, None))
    if low is not None and high is not None and isinstance(word, int) and not low <= word <= high:
        yield document.problem(path, "CFG-WORD", f"{field[1]} goes from {low} to {high}, not {word}")


# ------------------------------------------------------------------ columns, parts, required fields
def _parts(document: Document, entity: str, mapping: EntityMap) -> Iterator[Problem]:
    if mapping.each is not None:
        if mapping.parts:
            yield document.problem(("entities", entity, "parts"), "CFG-PART", "elements of a JSON array have no parts", "delete `parts`")
        return
    used = set()
    for name, spec in mapping.fields.items():
        part, dot, _ = (spec.column or "").partition(".")
        used.add(part if dot else "")
        if dot and part not in mapping.parts:
            hint = did_you_mean(part, mapping.parts) or "name it under `parts`, or write the bare column of the root table"
            yield document.problem(_field_path(document, entity, name), "CFG-PART", f"there is no part {part}", hint)
    for part in mapping.parts:
        if part not in used:
            yield document.problem(("entities", entity, "parts", part), "CFG-PART", "no field uses this part", "delete it")


def _required(document: Document, entity: str, mapping: EntityMap) -> Iterator[Problem]:
    missing = [field.name for field in schemas.fields(entity) if field.required and field.name not in mapping.fields]
    for name in missing:
        yield document.problem(
            ("entities", entity, "fields"),
            "CFG-REQUIRED",
            f"{entity}.{name} is mandatory and not mapped",
            f"add a line {name}: COLUMN",
        )


def _inserts(document: Document, entity: str, mapping: EntityMap) -> Iterator[Problem]:
    written = {spec.column: name for name, spec in mapping.fields.items() if spec.column and spec.write}
    for column in mapping.insert:
        if column in written:
            yield document.problem(
                ("entities", entity, "insert", column),
                "CFG-INSERT",
                f"{column} is already filled from {written[column]}",
                "delete this line",
            )


def _one_writer(document: Document, entity: str, mapping: EntityMap) -> Iterator[Problem]:
    """Two fields may be read from one column, but only one of them can say what is written there."""
    if mapping.each is not None or not mapping.write:
        return
    writers: dict[str, str] = {}
    for name, spec in mapping.fields.items():
        if spec.column is None or spec.path or not spec.write:
            continue
        other = writers.setdefault(spec.column, name)
        if other != name:
            message = f"{other} and {name} would both be written to {spec.column}"
            hint = f"keep one of them, or make the other one {{column: {spec.column}, write: false}}"
            yield document.problem(_field_path(document, entity, name), "CFG-FIELD", message, hint)


def _events(document: Document, entity: str, mapping: EntityMap) -> Iterator[Problem]:
    path: Path_ = ("entities", entity, "events")
    if mapping.events is None:
        return
    status = mapping.fields.get("status")
    if entity != "dossier":
        yield document.problem(path, "CFG-EVENTS", "only dossiers have status steps", "delete this line")
    elif status is None or status.column != mapping.events:
        yield document.problem(
            path,
            "CFG-EVENTS",
            "`events` must name the column that `status` is read from",
            "its value map is used for the steps",
        )


EntityCheck = Callable[[Document, str, EntityMap], Iterator[Problem]]
ENTITY_CHECKS: tuple[EntityCheck, ...] = (_fields, _parts, _required, _inserts, _one_writer, _events)


# ------------------------------------------------------------------ parents and children
def _family(document: Document, entity: str, mapping: EntityMap, entities: dict[str, EntityMap]) -> Iterator[Problem]:
    """A child names its parent, the parent is mapped in the same profile, and the columns fit the parent's key."""
    path: Path_ = ("entities", entity)
    expected = PARENTS.get(entity)
    if expected is None:
        for key in ("parent", "each"):
            if getattr(mapping, key) is not None:
                message = f"{entity} stands alone and has no parent"
                yield document.problem((*path, key), "CFG-PARENT", message, "delete this line")
        return
    above = entities.get(expected)
    if document.at(("entities", expected)) is None:
        message = f"a {entity} belongs to a {expected}, which this profile does not map"
        yield document.problem(path, "CFG-PARENT", message, f"map {expected} too")
    if mapping.each is None:
        yield from _parent(document, entity, mapping, above)
    elif above is not None and (mapping.table, mapping.key) != (above.table, above.key):
        message = "the JSON array is a column of the dossier's own table"
        hint = f"write table: {above.table} and key: [{', '.join(above.key)}]"
        yield document.problem((*path, "each"), "CFG-PARENT", message, hint)
    if entity == "dossier_event" and above is not None and above.events is not None:
        message = "the steps are already made from the dossier (`events`)"
        yield document.problem(path, "CFG-EVENTS", message, "keep one of the two")


def _parent(document: Document, entity: str, mapping: EntityMap, above: EntityMap | None) -> Iterator[Problem]:
    path: Path_ = ("entities", entity)
    expected = PARENTS[entity]
    if mapping.parent is None:
        hint = f"add parent: {{entity: {expected}, columns: [COLUMN]}}"
        yield document.problem(path, "CFG-PARENT", f"a {entity} belongs to a {expected}: which one?", hint)
    elif mapping.parent.entity != expected:
        message = f"the parent of a {entity} is a {expected}"
        yield document.problem((*path, "parent", "entity"), "CFG-PARENT", message, f"write entity: {expected}")
    elif above is not None and len(mapping.parent.columns) != len(above.key):
        message = f"the key of {expected} has {len(above.key)} columns ({', '.join(above.key)})"
        yield document.problem((*path, "parent", "columns"), "CFG-PARENT", message, "name as many, in that order")
