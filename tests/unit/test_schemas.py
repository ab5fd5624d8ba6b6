"""The unified model as files: well-formed, described, classified, and frozen once released."""

from __future__ import annotations

import ast
import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import schemas

FOLDER = Path(schemas.__file__).parent
CONTRACT_GROUPS = {
    "citizen": ("identity", "residence", "contact"),
    "dossier": ("routing", "intake", "processing", "result", "payment"),
    "dossier_event": ("step",),
    "dossier_component": ("content",),
    "fee": ("content",),
    "evaluation": ("content",),
    "procedure": ("content",),
    "unit": ("content",),
    "agency": ("content",),
}
SENSITIVE = {("citizen", "ethnicity"), ("citizen", "religion"), ("citizen", "blood_type")}
"""Decree 356/2025/NĐ-CP."""

PERSONAL_WORDS = ("name", "birth", "phone", "email", "address", "personal_number", "note", "summary", "comment", "link")
PUBLIC_ENTITIES = ("procedure", "unit", "agency")
NAMES_OF_THINGS = {
    ("dossier", "procedure_name"),
    ("dossier_component", "name"),
    ("fee", "name"),
    ("dossier", "linked_code"),
}


def test_every_schema_file_is_listed_and_every_listed_record_has_a_file() -> None:
    assert {file.stem for file in FOLDER.glob("*.avsc")} == set(schemas.RECORDS)


def test_entities_are_those_of_the_design() -> None:
    assert tuple(CONTRACT_GROUPS) == schemas.ENTITIES
    assert set(schemas.RECORDS) - set(schemas.ENTITIES) == {"removed", "merged", "parked"}


@pytest.mark.parametrize("name", schemas.RECORDS)
def test_file_is_read_without_repeated_keys(name: str) -> None:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs), pairs
        return dict(pairs)

    assert json.loads(schemas.text(name), object_pairs_hook=once) == schemas.raw(name)


@pytest.mark.parametrize("entity", schemas.ENTITIES)
def test_entity_starts_with_meta_and_all_its_other_fields_may_be_null(entity: str) -> None:
    meta, *own = schemas.raw(entity)["fields"]
    assert meta["name"] == "meta"
    assert meta["type"] == schemas.raw("citizen")["fields"][0]["type"]
    assert [part["name"] for part in meta["type"]["fields"]] == [
        "record",
        "parent",
        "epoch",
        "version",
        "withheld",
        "held",
        "local_key",
        "parent_key",
        "yields",
    ]
    for declared in own:
        assert declared["type"][0] == "null"
        assert len(declared["type"]) == 2
        assert declared["default"] is None


@pytest.mark.parametrize("entity", schemas.ENTITIES)
def test_fields_keep_their_order_and_name_a_group_and_a_class(entity: str) -> None:
    found = schemas.fields(entity)
    assert [field.index for field in found] == list(range(len(found)))
    assert [field.name for field in found] == [declared["name"] for declared in schemas.raw(entity)["fields"][1:]]
    assert len({field.name for field in found}) == len(found)
    assert {field.pii for field in found} <= {"public", "personal", "sensitive"}
    assert any(field.required for field in found)


@pytest.mark.parametrize("entity", schemas.ENTITIES)
def test_groups_hold_each_field_once(entity: str) -> None:
    assert tuple(schemas.groups(entity)) == CONTRACT_GROUPS[entity]
    assert [name for names in schemas.groups(entity).values() for name in names] == [field.name for field in schemas.fields(entity)]


def test_fields_say_their_type_in_the_words_of_the_service() -> None:
    found = {name: schemas.field("dossier", name) for name in ("submitted_at", "applicant_birth_date", "status", "fee_total")}
    assert {name: field.type for name, field in found.items()} == {
        "submitted_at": "instant",
        "applicant_birth_date": "partial-date",
        "status": "int",
        "fee_total": "long",
    }
    assert schemas.field("unit", "valid_from").type == "date"
    assert schemas.field("dossier_component", "reused").type == "boolean"
    assert found["status"].required
    assert not found["fee_total"].required


def test_sensitive_fields_are_those_of_the_decree() -> None:
    found = {(entity, field.name) for entity in schemas.ENTITIES for field in schemas.fields(entity) if field.pii == "sensitive"}
    assert found == SENSITIVE


def test_fields_that_sound_personal_are_not_public() -> None:
    suspicious = {
        (entity, field.name)
        for entity in schemas.ENTITIES
        if entity not in PUBLIC_ENTITIES
        for field in schemas.fields(entity)
        if field.pii == "public" and any(word in field.name for word in PERSONAL_WORDS)
    }
    assert suspicious == NAMES_OF_THINGS


@pytest.mark.parametrize("name", ["removed", "merged", "parked"])
def test_the_services_own_records_have_no_room_for_personal_data(name: str) -> None:
    assert {declared["class"] for declared in schemas.raw(name)["fields"]} == {"public"}


@pytest.mark.parametrize("entity", schemas.ENTITIES)
def test_every_unit_code_true_at_a_date_has_its_derived_pair(entity: str) -> None:
    declared = {part["name"]: part for part in schemas.raw(entity)["fields"]}
    codes = {part["unit_of"] for part in declared.values() if "unit_of" in part}
    for code in codes:
        stem = code.removesuffix("_code")
        assert declared[stem]["unit_of"] == declared[f"{stem}_rule"]["unit_of"] == code
        assert not declared[stem].get("required")
    assert codes == {name for name in declared if name.endswith("_unit_code")}


@pytest.mark.parametrize("name", schemas.RECORDS)
def test_every_field_says_its_vietnamese_term(name: str) -> None:
    declared = schemas.raw(name)["fields"]
    vietnamese = [part for part in declared if not part["doc"].split(":")[0].split(",")[0].isascii()]
    assert vietnamese == declared
    assert not schemas.raw(name)["doc"].isascii()


def test_unknown_names_are_refused_with_what_there_is() -> None:
    with pytest.raises(KeyError, match="no record 'dosier'; there are citizen, dossier"):
        schemas.raw("dosier")
    with pytest.raises(KeyError, match="no entity 'removed'"):
        schemas.fields("removed")
    with pytest.raises(KeyError):
        schemas.field("dossier", "statuss")
    with pytest.raises(KeyError):
        schemas.by_id(0)
    with pytest.raises(KeyError):
        schemas.schema_id("dosier")


# ------------------------------------------------------------------ parts
def test_projection_holds_only_the_fields_of_the_mask_in_order() -> None:
    mask = sum(1 << schemas.field("dossier", name).index for name in ("status", "submitted_at", "national_code"))
    part = schemas.projection("dossier", mask)
    assert [(declared["name"], declared["type"]) for declared in part["fields"]] == [
        ("national_code", ["null", "string"]),
        ("submitted_at", ["null", "long"]),
        ("status", ["null", "int"]),
    ]
    assert part["name"] == "Dossier"
    assert schemas.projection("dossier", mask, physical=False)["fields"][1]["type"][1]["logicalType"] == "timestamp-micros"


def test_projection_of_everything_is_the_whole_entity_without_meta() -> None:
    everything = (1 << len(schemas.fields("fee"))) - 1
    assert schemas.projection("fee", everything)["fields"] == schemas.physical("fee")["fields"][1:]
    assert schemas.projection("fee", 0)["fields"] == []


@pytest.mark.parametrize("mask", [-1, 1 << len(schemas.fields("fee"))])
def test_mask_that_names_unknown_fields_is_refused(mask: int) -> None:
    with pytest.raises(ValueError, match="fields that fee does not have"):
        schemas.projection("fee", mask)


@pytest.mark.parametrize("name", schemas.RECORDS)
def test_physical_schema_has_no_logical_type_and_leaves_the_original_alone(name: str) -> None:
    before = json.dumps(schemas.raw(name))
    assert "logicalType" not in json.dumps(schemas.physical(name))
    assert json.dumps(schemas.raw(name)) == before == json.dumps(json.loads(schemas.text(name)))


# ------------------------------------------------------------------ releases
def test_ids_are_given_once_and_count_from_one() -> None:
    assert [version.id for version in schemas.released()] == list(range(1, len(schemas.released()) + 1))


FIRST_IDS = {
    "citizen": 1,
    "dossier": 2,
    "dossier_event": 3,
    "dossier_component": 4,
    "fee": 5,
    "evaluation": 6,
    "procedure": 7,
    "unit": 8,
    "agency": 9,
    "removed": 10,
    "merged": 11,
    "parked": 12,
}


def test_ids_of_the_first_release_never_change() -> None:
    assert {version.name: version.id for version in schemas.released() if version.release == 1} == FIRST_IDS


@pytest.mark.parametrize("version", schemas.released(), ids=lambda version: f"{version.name}-{version.release}")
def test_released_file_is_as_it_was_on_release(version: schemas.Released) -> None:
    assert sha256(version.text.encode()).hexdigest() == version.sha256
    assert version.schema == schemas.by_id(version.id)
    assert f"{version.schema['namespace']}.{version.schema['name']}" == schemas.full_name(version.name)


def test_released_folder_holds_no_file_the_index_does_not_name() -> None:
    files = {(file.stem, file.parent.name) for file in (FOLDER / "released").rglob("*.avsc")}
    assert files == {(version.name, str(version.release)) for version in schemas.released()}
    entries = json.loads((FOLDER / "released" / "index.json").read_text("utf-8"))
    assert [entry["subject"] for entry in entries] == [schemas.full_name(entry["name"]) for entry in entries]


@pytest.mark.parametrize("name", schemas.RECORDS)
def test_current_schema_id_is_the_newest_release(name: str) -> None:
    newest = max((v for v in schemas.released() if v.name == name), key=lambda version: version.release)
    assert schemas.schema_id(name) == newest.id


@pytest.mark.parametrize("name", schemas.RECORDS)
def test_working_copy_is_the_newest_release_or_adds_fields_at_its_end(name: str) -> None:
    frozen = schemas.by_id(schemas.schema_id(name))["fields"]
    today = schemas.raw(name)["fields"]
    assert [field["name"] for field in today][: len(frozen)] == [field["name"] for field in frozen]
    assert all(field.get("default", "none") is None for field in today[len(frozen) :])


def test_package_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(schemas.__file__).read_text("utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in modules} <= sys.stdlib_module_names
