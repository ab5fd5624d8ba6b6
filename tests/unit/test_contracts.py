"""What each party receives: scope, fields and masks of a contract on one golden record (design §3, Route)."""

from __future__ import annotations

from typing import Any

import pytest

import schemas
from lienthong.contracts import Terms, masked, terms_of
from lienthong.settings import Settings

UNIT, OTHER_UNIT = "26737", "26740"
AGENCY, OTHER_AGENCY = "000.00.02.H29", "000.00.03.H29"
NOWHERE: dict[str, Any] = {}


def compiled(grant: dict[str, Any], entity: str = "dossier", **system: Any) -> Terms:
    """The terms of one ward with a single grant."""
    party = {"profile": "p", "dsn": "x", "kind": "ward", "units": [UNIT], "agencies": [AGENCY], **system}
    settings = Settings.model_validate(
        {
            "hub": {"dsn": "x"},
            "kafka": {"bootstrap": "x"},
            "profiles": {"p": {"profile": "p", "entities": {"dossier": {"table": "t", "key": "k", "fields": {"note": "note"}}}}},
            "systems": {"ward": party},
            "authority": {},
            "contracts": {"c": {"system": "ward", "purpose": "handling", "legal_ground": "a decree", "entities": {entity: grant}}},
        }
    )
    return terms_of(settings)[entity][0]


# ------------------------------------------------------------------ scope
@pytest.mark.parametrize(
    ("where", "values", "holds"),
    [
        ({}, NOWHERE, True),
        ({"units": "own"}, {"processing_unit": UNIT}, True),
        ({"units": "own"}, {"processing_unit": OTHER_UNIT}, False),
        ({"units": "own"}, {"processing_unit": None}, False),
        ({"units": "own"}, {"residence_unit": UNIT}, True),
        ({"units": "own"}, {"applicant_unit": UNIT, "processing_unit": OTHER_UNIT}, False),
        ({"units": [OTHER_UNIT]}, {"processing_unit": OTHER_UNIT}, True),
        ({"units": [OTHER_UNIT]}, {"processing_unit": UNIT}, False),
        ({"agencies": "own"}, {"processing_agency_code": AGENCY}, True),
        ({"agencies": "own"}, {"receiving_agency_code": AGENCY}, True),
        ({"agencies": "own"}, {"processing_agency_code": OTHER_AGENCY}, False),
        ({"agencies": [OTHER_AGENCY]}, {"processing_agency_code": OTHER_AGENCY}, True),
        ({"procedures": ["1.001", "1.002"]}, {"procedure_code": "1.002"}, True),
        ({"procedures": ["1.001"]}, {"procedure_code": "1.003"}, False),
        ({"procedures": ["1.001"]}, NOWHERE, False),
        ({"units": []}, {"processing_unit": UNIT}, False),
    ],
)
def test_each_condition_of_a_scope(where: dict[str, Any], values: dict[str, Any], holds: bool) -> None:  # noqa: FBT001
    assert compiled({"where": where}).in_scope(values, None) is holds


def test_own_may_stand_beside_listed_codes() -> None:
    """A ward that also looks after a neighbour: its own units and the listed one."""
    units = compiled({"where": {"units": ["own", OTHER_UNIT]}})
    assert units.in_scope({"processing_unit": UNIT}, None)
    assert units.in_scope({"processing_unit": OTHER_UNIT}, None)
    agencies = compiled({"where": {"agencies": ["own", OTHER_AGENCY]}})
    assert agencies.in_scope({"processing_agency_code": OTHER_AGENCY}, None)


def test_all_conditions_of_a_scope_must_hold() -> None:
    terms = compiled({"where": {"units": "own", "procedures": ["1.001"]}})
    assert terms.in_scope({"processing_unit": UNIT, "procedure_code": "1.001"}, None)
    assert not terms.in_scope({"processing_unit": UNIT, "procedure_code": "1.002"}, None)
    assert not terms.in_scope({"processing_unit": OTHER_UNIT, "procedure_code": "1.001"}, None)


def test_any_of_needs_one_alternative_besides_the_conditions_around_it() -> None:
    where = {"procedures": ["1.001"], "any_of": [{"units": "own"}, {"agencies": [OTHER_AGENCY]}]}
    terms = compiled({"where": where})
    assert terms.in_scope({"procedure_code": "1.001", "processing_unit": UNIT}, None)
    assert terms.in_scope({"procedure_code": "1.001", "receiving_agency_code": OTHER_AGENCY}, None)
    assert not terms.in_scope({"procedure_code": "1.001", "processing_unit": OTHER_UNIT}, None)
    assert not terms.in_scope({"procedure_code": "1.002", "processing_unit": UNIT}, None)


def test_a_child_is_in_scope_with_its_parent_and_only_with_it() -> None:
    terms = compiled({"where": {"units": "own"}}, entity="fee")
    assert terms.in_scope({"fee_code": "A"}, {"processing_unit": UNIT})
    assert not terms.in_scope({"fee_code": "A", "processing_unit": UNIT}, {"processing_unit": OTHER_UNIT})


def test_a_system_that_reads_its_topic_itself_has_terms_too() -> None:
    assert compiled({}, apply=False).in_scope(NOWHERE, None)


# ------------------------------------------------------------------ fields
@pytest.mark.parametrize("entity", schemas.ENTITIES)
def test_all_never_includes_the_sensitive_class(entity: str) -> None:
    sensitive = {field.name for field in schemas.fields(entity) if field.pii == "sensitive"}
    terms = compiled({"fields": "all"}, entity=entity)
    assert not sensitive & set(terms.fields)
    assert sensitive <= set(terms.withheld)


def test_the_model_has_sensitive_fields_and_they_can_be_granted_by_name() -> None:
    assert "ethnicity" in compiled({"fields": "all"}, entity="citizen").withheld
    terms = compiled({"fields": ["ethnicity", "full_name"]}, entity="citizen")
    assert terms.shape({"ethnicity": "Kinh", "full_name": "A", "religion": "x"}) == {
        "ethnicity": "Kinh",
        "full_name": "A",
    }


def test_fields_and_withheld_together_are_the_whole_entity() -> None:
    terms = compiled({"fields": ["status", "note"]})
    assert set(terms.fields) == {"status", "note"}
    assert set(terms.fields) | set(terms.withheld) == {field.name for field in schemas.fields("dossier")}
    assert not set(terms.fields) & set(terms.withheld)


def test_an_unlisted_field_never_leaves_whatever_has_a_value() -> None:
    terms = compiled({"fields": ["status", "note"]})
    assert terms.shape({"note": "x", "status": None, "applicant_name": "secret"}) == {"note": "x"}


# ------------------------------------------------------------------ masks
@pytest.mark.parametrize(
    ("mask", "value", "shown"),
    [
        ("last4", "0901234567", "******4567"),
        ("last4", "1234", "****"),
        ("year", "1980-05-01", "1980"),
        ("initials", "Nguyễn Văn An", "N.V.A."),
        ("null", "anything", None),
    ],
)
def test_masks(mask: str, value: str, shown: str | None) -> None:
    assert masked(mask, value) == shown


def test_a_mask_hides_one_field_and_leaves_null_null() -> None:
    terms = compiled({"fields": ["applicant_phone", "applicant_name"], "mask": {"applicant_phone": "last4"}})
    assert terms.shape({"applicant_phone": "0901234567", "applicant_name": "An"}) == {
        "applicant_phone": "******4567",
        "applicant_name": "An",
    }
    assert terms.shape({"applicant_name": "An"}) == {"applicant_name": "An"}
