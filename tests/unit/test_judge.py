"""One record judged on each hop: what is a difference, of which kind, in which fields, and what only looks like one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lienthong.authority import Authority, Said
from lienthong.contracts import Terms
from lienthong.entitled import Golden, due
from lienthong.mapping import Refusal
from lienthong.reconcile.held import Applied, Held
from lienthong.reconcile.hubside import Proof, Word
from lienthong.reconcile.judge import Case, Finding, Judge, Verdict
from lienthong.settings import Scope, Settings

VALUES: dict[str, Any] = {"procedure_code": "1.001", "applicant_name": "A", "status": 4, "note": "n"}
TERMS = Terms("ward", "dossier", ("procedure_code", "applicant_name", "note"), ("status",), {}, Scope(), frozenset(), frozenset())
RULE = [{"order": ["portal", "ward"], "basis": "a test"}]
AUTHORITY = Authority(
    Settings.model_validate(
        {
            "hub": {"dsn": "x"}, "kafka": {"bootstrap": "x"}, "profiles": {}, "contracts": {},
            "systems": {name: {"profile": "p", "dsn": "x"} for name in ("portal", "ward")},
            "authority": {"dossier": dict.fromkeys(("record", "routing", "intake", "processing", "result", "payment"), RULE)},
        }
    )
)  # fmt: skip
GOLDEN = Golden(7, "dossier", None, None, False, "portal", VALUES, {})
SENT = ("s", 5, due(GOLDEN, TERMS, []).digest)


def row(values: dict[str, Any] | Refusal | None = None, *, edited: tuple[str, ...] | None = None, local: int = 1) -> Held:
    return Held("k", None, False, None if edited is None else frozenset(edited), VALUES if values is None else values, local, 0)


def applied(state: str = "applied", version: int = 5, *, inserted: bool = True, base: dict[str, Any] | None = None) -> Applied:
    return Applied("k", 7, (1, version), state, inserted, base)


def case(held: Held | None, **given: Any) -> Case:
    facts: dict[str, Any] = {
        "applied": None, "word": None, "golden": GOLDEN, "parent": None, "parent_key": None, "said": (Said("portal", 1, VALUES),), "sent": SENT,
    }  # fmt: skip
    return Case("dossier", "k", held, **{**facts, **given})


def source(one: Case) -> Verdict:
    """As a system that is captured and receives nothing."""
    return Judge("portal", AUTHORITY, True, (), frozenset()).judge(one)


def target(one: Case, *parked: int) -> Verdict:
    """As a system that is only written to."""
    return Judge("ward", AUTHORITY, False, (TERMS,), frozenset({"applicant_name", "note", "status"})).judge(one, parked)


def word(values: dict[str, Any] | None = None, *, exists: bool = True, digest: int = 2) -> Word:
    return Word(7, exists, False, VALUES if values is None else values, None, digest)


def test_what_is_the_same_is_equal_and_has_one_digest() -> None:
    assert source(case(row(), word=word())).is_equal
    verdict = target(case(row(edited=()), applied=applied()))
    assert verdict.is_equal
    assert verdict.due == verdict.held is not None


@pytest.mark.parametrize(
    ("held", "known", "kind", "fields"),
    [
        (row(), None, "missing", ()),
        (row(), word(exists=False), "missing", ()),
        (None, word(), "extra", ()),
        (row(), word({**VALUES, "note": "other"}), "different", ("note",)),
        (row({**VALUES, "note": "other"}, edited=("note",)), word(), "different", ("note",)),
    ],
)
def test_a_row_and_what_the_hub_has_of_it(held: Held | None, known: Word | None, kind: str, fields: tuple[str, ...]) -> None:
    assert source(case(held, word=known)).findings == [Finding("capture", kind, fields)]


def test_a_row_that_moved_while_the_hub_did_not_is_stale_there() -> None:
    moved = case(row({**VALUES, "note": "new"}, local=9), word=word(), proof=Proof(7, 1, 2, 3), golden_digest=3)
    assert source(moved).findings == [Finding("capture", "stale", ("note",))]


def test_what_we_wrote_into_a_row_is_no_word_of_its_system() -> None:
    assert source(case(row({**VALUES, "note": "ours"}, edited=()), word=word({}))).is_equal
    unbased = case(row({**VALUES, "note": "n"}, edited=("note",)), word=word({}))
    assert source(unbased).is_equal
    said_otherwise = case(row(edited=("note",)), word=word({"note": "other"}))
    assert source(said_otherwise).findings == [Finding("capture", "different", ("note",))]


def test_a_row_we_took_away_is_not_missed() -> None:
    assert source(case(None, word=word(), applied=applied("withdrawn"))).is_equal


def test_a_refused_row_waits_when_it_is_parked_and_is_a_difference_when_it_is_not() -> None:
    refused = row(Refusal("status", "unmapped_word", "a word"))
    assert source(case(refused, is_refused=True)).explained == "refused"
    assert source(case(refused)).findings == [Finding("capture", "missing", ("status",))]


def test_a_golden_record_is_what_its_words_say() -> None:
    said = (Said("portal", 1, {**VALUES, "note": "said"}),)
    assert source(case(row({**VALUES, "note": "said"}), word=word({**VALUES, "note": "said"}), said=said)).findings == [
        Finding("merge", "different", ("note",))
    ]


@pytest.mark.parametrize(
    ("held", "known", "kind", "fields"),
    [
        (None, None, "missing", ()),
        (row({**VALUES, "note": "edited"}, edited=("note",)), applied(), "different", ("note",)),
        (row({**VALUES, "note": "older"}, edited=()), applied(version=4), "stale", ("note",)),
        (row(edited=()), applied(base={"status": 4}), "different", ("status",)),
    ],
)
def test_a_row_and_what_its_party_is_entitled_to(held: Held | None, known: Applied | None, kind: str, fields: tuple[str, ...]) -> None:
    verdict = target(case(held, applied=known))
    assert verdict.findings == [Finding("delivery", kind, fields)]
    if "status" not in fields:
        assert verdict.due != verdict.held


def test_a_value_that_the_target_keeps_in_its_own_form_is_right_as_long_as_nobody_touched_it() -> None:
    own_form = row({**VALUES, "note": "N"}, edited=())
    assert target(case(own_form, applied=applied())).is_equal
    assert target(case(own_form, applied=applied(version=4))).findings == [Finding("delivery", "stale", ("note",))]
    other = Golden(7, "dossier", None, None, False, "portal", {**VALUES, "applicant_name": "B"}, {})
    assert target(case(own_form, applied=applied(), golden=other, said=())).findings == [Finding("delivery", "different", ("applicant_name", "note"))]


def test_fields_of_groups_that_are_the_partys_own_are_not_compared() -> None:
    owned = Golden(7, "dossier", None, None, False, None, VALUES, {"intake": "ward"})
    assert target(case(row({**VALUES, "applicant_name": "own"}, edited=()), applied=applied(), golden=owned, said=())).is_equal


@pytest.mark.parametrize("gone", [{"deleted": True}, {"merged_into": 8}, {"values": {}}])
def test_a_row_of_a_record_that_is_gone_is_extra(gone: dict[str, Any]) -> None:
    facts = {"record": 7, "entity": "dossier", "parent": None, "merged_into": None, "deleted": False, "sole": "portal", "values": VALUES, "who": {}}
    golden = Golden(**{**facts, **gone})
    assert target(case(row(edited=()), applied=applied(), golden=golden, said=())).findings == [Finding("delivery", "extra")]
    assert target(case(row(edited=()), applied=applied("kept"), golden=golden, said=())).is_equal


def test_what_waits_for_somebody_is_explained() -> None:
    assert target(case(None), 7).explained == "parked at the target"
    assert target(case(None, applied=applied("waiting"))).explained == "waits for its parent"


def test_what_a_person_decided_to_keep_is_no_difference_and_is_counted() -> None:
    forgotten = case(None, word=word())
    assert source(forgotten).findings == [Finding("capture", "extra")]
    kept = case(None, word=word(), is_kept=True)
    both = Judge("portal", AUTHORITY, True, (replace(TERMS, system="portal"),), frozenset({"note"})).judge(kept)
    for verdict in (source(kept), both):
        assert (verdict.findings, verdict.explained, verdict.due, verdict.held) == ([], "kept", None, None)
    assert source(case(row(), word=word(), is_kept=True)).explained is None


def test_a_word_of_an_earlier_life_is_judged_under_the_key_of_this_one() -> None:
    past = replace(word(), is_past=True)
    assert source(case(None, word=past)).is_equal
    assert source(case(row({"note": "other"}), word=past)).findings != []
