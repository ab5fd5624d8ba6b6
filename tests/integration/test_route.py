"""The router: who receives what, who loses it, and what never leaves the hub (design §3; protocol B8, B9, S3, R10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import schemas
from connectors.avro import DIGEST, digest_of
from connectors.postgres import connect, rows, transaction
from lienthong import route
from lienthong.errors import FencedError, TransientError
from lienthong.route import Reading, Router
from tests.route_kit import DOSSIER, PERSONAL, UNIT_A, UNIT_B, WARD, City, city_in_memory, settings


@pytest.fixture
def city(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    with city_in_memory(database, monkeypatch) as made:
        yield made


# ------------------------------------------------------------------ who receives what
def test_a_record_goes_to_those_whose_contract_covers_it_and_to_nobody_else(city: City) -> None:
    city.put(1)
    city.put(2, DOSSIER | {"processing_unit": UNIT_B})
    city.put(3, DOSSIER | {"processing_unit": "26743"})
    assert city.briefs() == [("ward-a", "dossier", 1), ("ward-b", "dossier", 2)]


def test_a_child_follows_its_dossier(city: City) -> None:
    city.fee(8, 1)
    city.put(1)
    assert city.briefs() == [("ward-a", "dossier", 1), ("ward-a", "fee", 8)]


def test_a_child_whose_dossier_has_not_arrived_goes_out_with_it(city: City) -> None:
    city.fee(8, 1)
    assert city.briefs() == []
    city.put(1)
    assert city.briefs() == [("ward-a", "dossier", 1), ("ward-a", "fee", 8)]


def test_the_message_says_whose_word_each_group_is_and_the_receivers_own_keys(city: City) -> None:
    own = {group: "portal" for group in schemas.groups("dossier")} | {"processing": "ward-a"}
    city.put(1, who=own)
    city.contribution("ward-a", 1, "LOCAL-KEY")
    city.fee(8, 1)
    dossier, fee = city.step()
    assert dossier.meta == {
        "record": 1,
        "parent": None,
        "epoch": 1,
        "version": dossier.meta["version"],
        "withheld": [],
        "held": ["processing"],
        "local_key": "LOCAL-KEY",
        "parent_key": None,
        "yields": [],
    }
    assert (fee.meta["parent"], fee.meta["parent_key"], fee.meta["local_key"]) == (1, "LOCAL-KEY", None)
    assert dossier.value["applicant_name"] == "Nguyễn Văn An"


def test_what_is_all_the_receivers_own_word_is_not_sent_back(city: City) -> None:
    city.put(1, who={group: "ward-a" for group in schemas.groups("dossier")})
    city.contribution("ward-a", 1, "LOCAL-KEY")
    assert city.briefs() == []


def test_what_has_become_all_the_receivers_own_word_is_told_once_with_its_key(city: City) -> None:
    city.contribution("ward-a", 1, "LOCAL-KEY")
    city.put(1)
    assert city.briefs() == [("ward-a", "dossier", 1)]
    own = {group: "ward-a" for group in schemas.groups("dossier")}
    city.put(1, who=own)
    (last,) = city.step()
    assert (set(last.meta["held"]), last.meta["local_key"]) == (set(own), "LOCAL-KEY")
    city.put(1, DOSSIER | {"note": "an edit of its own"}, who=own)
    assert city.step() == []


def test_only_listed_fields_leave_masked_where_the_contract_says_so(city: City) -> None:
    grant = {"fields": ["status", "applicant_phone"], "mask": {"applicant_phone": "last4"}}
    city.reconfigure({"ward-a": {"dossier": grant}})
    city.put(1)
    (sent,) = city.step()
    shown = {name: value for name, value in sent.value.items() if name != "meta" and value is not None}
    assert shown == {"status": 4, "applicant_phone": "******4567"}
    assert "applicant_name" in sent.meta["withheld"]
    for text in ("Nguyễn", "079200000001", "N-SECRET", "a note"):
        assert text.encode() not in sent.body


# ------------------------------------------------------------------ entitled: nothing twice
def test_an_equal_output_is_not_sent_again(city: City) -> None:
    city.put(1)
    assert len(city.step()) == 1
    city.put(1)
    assert city.step() == []


def test_a_change_of_what_the_contract_does_not_list_is_not_sent(city: City) -> None:
    city.reconfigure({"ward-a": {"dossier": {"fields": ["status"]}}})
    city.put(1)
    city.step()
    city.put(1, DOSSIER | {"note": "another note"})
    assert city.step() == []
    city.put(1, DOSSIER | {"status": 5})
    assert len(city.step()) == 1


def test_the_receivers_own_change_is_no_news_to_it(city: City) -> None:
    own = {group: "portal" for group in schemas.groups("dossier")} | {"processing": "ward-a"}
    city.put(1, who=own)
    city.step()
    city.put(1, DOSSIER | {"status": 9}, who=own)
    assert city.step() == []


def test_a_correction_sends_the_same_state_again_to_the_one_who_asked(city: City) -> None:
    everyone: dict[str, Any] = {"dossier": {"fields": "all"}}
    city.reconfigure({"ward-a": everyone, "ward-b": everyone})
    city.put(1)
    assert len(city.step()) == 2
    city.put(1, resend="ward-b")
    assert city.briefs() == [("ward-b", "dossier", 1)]


def test_versions_only_rise(city: City) -> None:
    versions = []
    for status in (1, 2, 4):
        city.put(1, DOSSIER | {"status": status})
        versions += [sent.meta["version"] for sent in city.step()]
    assert len(versions) == 3
    assert versions == sorted(set(versions))


def test_what_was_not_acknowledged_is_sent_again_with_a_higher_version(city: City) -> None:
    city.put(1)
    city.topics.broken = True
    with pytest.raises(TransientError):
        city.step()
    lost = city.topics.sent[0].meta["version"]
    city.topics.broken = False
    (again,) = city.step()
    assert again.brief == ("ward-a", "dossier", 1)
    assert again.meta["version"] > lost


def test_the_owners_delete_goes_to_a_receiver_that_holds_a_row_of_its_own_and_was_never_sent_it(city: City) -> None:
    city.contribution("ward-a", 1, "LOCAL-KEY")
    city.put(1, {}, deleted=True)
    city.step()
    assert [sent.brief for sent in city.topics.log] == [("ward-a", "delete", 1)]
    city.put(1, {}, deleted=True)
    city.step()
    assert len(city.topics.log) == 1, "once"


def _fails(*_: object) -> None:
    raise TransientError("the hub is away")


def _crash_after_sending(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Router, "_store", _fails)
        with pytest.raises(TransientError):
            city.router.step()


def test_what_was_sent_but_not_stored_is_withdrawn_when_the_record_has_moved_meanwhile(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    city.put(1)
    _crash_after_sending(city, monkeypatch)
    city.put(1, DOSSIER | {"processing_unit": UNIT_B})
    city.reconfigure()
    city.step()
    newest = {sent.system: sent.brief[1] for sent in city.topics.log if sent.record == 1}
    assert (newest["ward-a"], newest["ward-b"]) == ("withdraw", "dossier")


def test_a_value_that_was_sent_but_not_stored_and_is_taken_back_is_sent_again(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    city.put(1)
    city.step()
    city.put(1, DOSSIER | {"note": "for a moment"})
    _crash_after_sending(city, monkeypatch)
    city.put(1)
    city.step()
    last = [sent.value["note"] for sent in city.topics.log if sent.system == "ward-a" and sent.kind == "dossier"]
    assert last == ["a note", "for a moment", "a note"]


def test_a_router_that_waits_for_its_turn_touches_nothing(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took what the working one had sent and not stored yet for forgotten: everything was sent twice, and the working one fenced off."""
    waiting, send = Router(settings(city.dsn, {})), Router._send
    waiting.numbers._owner = "route@elsewhere:1"

    def sent_and_looked_at(router: Router, reading: Reading) -> dict[str, tuple[int, int]]:
        acknowledged = send(router, reading)
        for turn in (waiting.step, waiting.note_contracts):
            with pytest.raises(FencedError):
                turn()
        return acknowledged

    monkeypatch.setattr(Router, "_send", sent_and_looked_at)
    city.put(1)
    assert city.briefs() == [("ward-a", "dossier", 1)]
    assert city.briefs() == []
    waiting.connection.close()


def test_after_a_topic_was_made_anew_everything_is_sent_again(city: City) -> None:
    city.put(1)
    city.step()
    before = len(city.topics.log)
    city.topics.log.clear()
    city.reconfigure()
    city.step()
    assert len(city.topics.log) == before > 0


def test_live_changes_overtake_a_backfill(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "RECORDS_PER_READING", 1)
    city.put(1, lane=1)
    city.put(2)
    assert [record for _, _, record in city.briefs()] == [2, 1]


def test_a_change_that_commits_while_a_later_one_is_routed_is_not_lost(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    city.put(1)
    city.step()
    late, flush = connect(city.dsn, application_name="late"), city.topics.flush
    late.cursor().execute("""UPDATE hub.record SET body = body || '{"note": "late"}'; INSERT INTO hub.changed (record) VALUES (1)""")
    city.put(2)

    def commit_meanwhile() -> dict[str, tuple[int, int]]:
        late.commit()
        return flush()

    monkeypatch.setattr(city.topics, "flush", commit_meanwhile)
    assert [(sent.record, sent.value["note"]) for sent in city.step()] == [(2, "a note"), (1, "late")]
    late.close()


# ------------------------------------------------------------------ leaving
def test_leaving_the_scope_withdraws_the_dossier_and_its_children_children_first(city: City) -> None:
    city.put(1)
    city.fee(8, 1)
    city.fee(9, 1)
    city.step()
    city.put(1, DOSSIER | {"processing_unit": UNIT_B})
    briefs = city.briefs()
    assert [b for b in briefs if b[0] == "ward-a"] == [
        ("ward-a", "withdraw", 9),
        ("ward-a", "withdraw", 8),
        ("ward-a", "withdraw", 1),
    ]
    assert [b for b in briefs if b[0] == "ward-b"] == [
        ("ward-b", "dossier", 1),
        ("ward-b", "fee", 8),
        ("ward-b", "fee", 9),
    ]
    city.put(1, DOSSIER)
    assert ("ward-a", "dossier", 1) in city.briefs(), "and it can come back"


def test_what_was_never_sent_is_never_withdrawn(city: City) -> None:
    city.put(1, DOSSIER | {"processing_unit": UNIT_B})
    city.step()
    city.put(1, DOSSIER | {"processing_unit": "26743"})
    assert city.briefs() == [("ward-b", "withdraw", 1)]


def test_a_deleted_dossier_is_deleted_everywhere_with_its_children_once(city: City) -> None:
    city.put(1)
    city.fee(8, 1)
    city.step()
    city.put(1, deleted=True)
    assert city.briefs() == [("ward-a", "delete", 8), ("ward-a", "delete", 1)]
    city.put(1, deleted=True)
    assert city.step() == []


def test_a_deleted_child_is_deleted_alone(city: City) -> None:
    city.put(1)
    city.fee(8, 1)
    city.step()
    city.fee(8, 1, deleted=True)
    assert city.briefs() == [("ward-a", "delete", 8)]


def test_a_merged_record_is_told_as_a_merge_to_those_who_had_it(city: City) -> None:
    city.put(1)
    city.put(2, DOSSIER)
    city.contribution("ward-a", 1, "LOCAL-KEY")
    city.step()
    city.put(2, merged_into=1)
    (sent,) = city.step()
    assert (sent.system, sent.kind, sent.value["record"], sent.value["from"]) == ("ward-a", "merged", 1, 2)
    city.put(2, merged_into=1)
    assert city.step() == []


# ------------------------------------------------------------------ contracts change (B8)
@pytest.fixture
def routed(city: City) -> City:
    """Everything of the first contracts was sent."""
    city.router.note_contracts()
    city.put(1)
    city.fee(8, 1)
    city.put(2, DOSSIER | {"processing_unit": UNIT_B})
    city.step()
    return city


def test_the_same_contracts_look_at_nothing_again(routed: City) -> None:
    assert routed.reconfigure() == 0
    assert routed.step() == []


def test_fewer_fields_are_sent_as_withheld(routed: City) -> None:
    less = {**WARD, "dossier": {"fields": ["status"], "where": {"units": "own"}}}
    assert routed.reconfigure({"ward-a": less, "ward-b": WARD}) == 3
    (sent,) = routed.step()
    assert sent.brief == ("ward-a", "dossier", 1)
    assert {"note", "applicant_name"} <= set(sent.meta["withheld"])
    assert sent.value["note"] is None


def test_a_wider_scope_sends_what_is_new_and_only_that(routed: City) -> None:
    routed.reconfigure(None, ward_a={"units": [UNIT_A, UNIT_B]})
    assert routed.briefs() == [("ward-a", "dossier", 2)]


def test_a_narrower_scope_withdraws(routed: City) -> None:
    narrow = {entity: {"where": {"units": "own", "procedures": ["9.999"]}} for entity in WARD}
    routed.reconfigure({"ward-a": narrow, "ward-b": WARD})
    assert routed.briefs() == [("ward-a", "withdraw", 8), ("ward-a", "withdraw", 1)]


def test_a_contract_that_ends_withdraws_everything(routed: City) -> None:
    routed.reconfigure({"ward-b": WARD})
    assert routed.briefs() == [("ward-a", "withdraw", 8), ("ward-a", "withdraw", 1)]


def test_a_mask_sends_the_field_again(routed: City) -> None:
    masked = {**WARD, "dossier": {"where": {"units": "own"}, "mask": {"applicant_phone": "last4"}}}
    routed.reconfigure({"ward-a": masked, "ward-b": WARD})
    (sent,) = routed.step()
    assert sent.value["applicant_phone"] == "******4567"


# ------------------------------------------------------------------ least data
def _events(city: City) -> dict[str, Callable[[], None]]:
    return {
        "state": lambda: city.put(1),
        "child": lambda: city.fee(8, 1),
        "other ward": lambda: city.put(1, DOSSIER | {"processing_unit": UNIT_B}),
        "twin": lambda: city.put(2, DOSSIER | {"processing_unit": UNIT_B}),
        "merge": lambda: city.put(2, merged_into=1),
        "delete": lambda: city.put(1, deleted=True),
    }


def test_keys_headers_deletes_withdrawals_and_merges_carry_no_personal_data(city: City) -> None:
    seen, kinds = [], set()
    for event in _events(city).values():
        event()
        seen += city.step()
    for sent in seen:
        kinds.add(sent.brief[1])
        outside = sent.key + repr(sent.headers).encode()
        inside = sent.body if sent.kind in ("removed", "merged") else b""
        for text in PERSONAL:
            assert text.encode() not in outside + inside
    assert kinds == {"dossier", "fee", "withdraw", "delete", "merged"}


def test_a_key_names_entity_and_record_so_that_compaction_keeps_the_last_word(city: City) -> None:
    city.put(1)
    (first,) = city.step()
    city.put(1, deleted=True)
    (last,) = city.step()
    assert first.key == last.key == b"dossier:1"


def test_headers_name_the_record_type_and_the_version(city: City) -> None:
    city.put(1)
    (sent,) = city.step()
    headers = dict(sent.headers)
    assert headers["ce_type"] == b"vn.lienthong.Dossier"
    assert headers["ce_id"] == str(sent.meta["version"]).encode()
    assert headers[DIGEST] == digest_of(sent.body)


def test_the_change_list_is_empty_when_all_is_routed(city: City) -> None:
    for n in range(50):
        city.put(n, DOSSIER | {"note": str(n)})
    assert len(city.step()) == 50
    with transaction(city.connection) as cursor:
        assert rows(cursor, "SELECT count(*) FROM hub.changed") == [(0,)]
