"""Parked records as an operator handles them: listed, shown, replayed, corrected, decided, given up; and lines that stop instead.

The service runs as processes on real servers; everything is done by command. A line that stopped is tried again after a few seconds, so the
tests of mass failure take that long.
"""

# ruff: noqa: S608 - the SQL is made of constants

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from connectors.kafka import Consumer, Producer
from lienthong import frames
from lienthong.embedded.ports import free_port
from lienthong.vault import Vault
from lienthong.web.metric_list import SAMPLES
from tests.city import AUTHORITY, PROFILE, City, city, wait
from tests.parked_kit import (
    CANARY,
    CONTRACTS,
    SYSTEMS,
    TABLE,
    WITHOUT_RULE,
    actions,
    arrives,
    fernet_key,
    line,
    parked,
    parked_of,
    put,
    put_many,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def service(stack_root: Path) -> Iterator[City]:
    """A ward, and a portal that is only a receiver and whose user is not its owner."""
    with city(stack_root / "parked", clusters=("hub", "central")) as made:
        made.database("central", "portal", TABLE, "CREATE ROLE lt_portal LOGIN")
        made.database("central", "ward", WITHOUT_RULE)
        made.environment["OWNER_DSN"] = made.environment["PORTAL_DSN"]
        made.environment["PORTAL_DSN"] = made.environment["PORTAL_DSN"].replace("postgres@", "lt_portal@")
        made.environment |= {"USER": "lê.an", "LIENTHONG_PARKED_KEY": fernet_key()}
        for name, text in (("systems", SYSTEMS), ("authority", AUTHORITY), ("contracts", CONTRACTS), ("profiles/simple", PROFILE)):
            made.write(f"{name}.yaml", text)
        made.psql("owner", made.cli("check", "--sql", "portal").stdout)
        made.install("ward")
        made.run()
        wait(lambda: made.cli("load", "ward").returncode == 0, 30)
        yield made


# ------------------------------------------------------------------ seen
def test_a_parked_record_is_listed_by_what_one_looks_for(service: City) -> None:
    first, second = put(service, tt="tra_lai"), put(service, ten=None)
    word, name = parked_of(service, first), parked_of(service, second)
    assert [p["ref"] for p in parked(service, "--reason", "missing")] == [name]
    assert {p["ref"] for p in parked(service, "--system", "ward", "--entity", "dossier", "--kind", "refused")} == {word, name}
    assert parked(service, "--older-than", "1h") == []
    assert len(parked(service, "--older-than", "0s")) == 2
    assert service.cli("parked", "list", "--older-than", "soon").returncode == 2
    assert "did you mean refused?" in service.cli("parked", "list", "--kind", "refusd").stderr


def test_values_are_shown_for_a_purpose_only_and_that_is_recorded(service: City) -> None:
    ref = parked_of(service, put(service, tt="tra_lai"))
    masked = service.cli("parked", "show", ref)
    assert masked.returncode == 0, masked.stderr
    assert CANARY not in masked.stdout + service.cli("parked", "show", ref, "--json").stdout
    assert f"applicant_name • {len(CANARY)} characters" in " ".join(masked.stdout.split())
    assert actions(service, ref) == []
    assert service.cli("parked", "show", ref, "--reveal").returncode == 2
    shown = service.cli("parked", "show", ref, "--reveal", "--purpose", "the ward asked")
    assert CANARY in shown.stdout
    service.said = service.said.replace(shown.stdout, "")
    assert actions(service, ref) == [("lê.an", "reveal", "the ward asked", "shown")]


# ------------------------------------------------------------------ refused
def test_a_replay_reads_the_record_again_and_says_what_is_still_wrong(service: City) -> None:
    code = put(service, tt="doi")
    ref = parked_of(service, code)
    done = service.cli("parked", "replay", ref)
    assert done.returncode == 1
    assert "still_wrong" in done.stdout
    assert "refused again: unmapped_word in status" in done.stdout
    assert parked_of(service, code) == ref
    service.write("profiles/simple.yaml", PROFILE.replace("moi: 1,", "moi: 1, doi: 1,"))
    try:
        done = service.cli("parked", "replay", ref)
    finally:
        service.write("profiles/simple.yaml", PROFILE)
    assert (done.returncode, "merged" in done.stdout) == (0, True), done.stdout
    arrives(service, code)
    assert [a[1::2] for a in actions(service, ref)] == [("replay", "still_wrong"), ("replay", "merged")]


def test_an_edit_makes_the_record_flow_and_keeps_the_original(service: City, tmp_path: Path) -> None:
    code = put(service, tt="khac", ghi_chu="as it was")
    ref = parked_of(service, code)
    ((before,),) = service.sql("hub", f"SELECT payload FROM hub.parked WHERE id = {ref}")
    edit = tmp_path / "edit.json"
    edit.write_text('{"status": "khac_nua"}', "utf-8")
    assert service.cli("parked", "replay", ref, "--edit", str(edit)).returncode == 2, "an edit needs a reason"
    done = service.cli("parked", "replay", ref, "--edit", str(edit), "--why", "by telephone")
    assert "the corrected record does not fit either: unmapped_word in status" in done.stdout
    edit.write_text('{"status": "xong", "applicant_nam": "x"}', "utf-8")
    wrong = service.cli("parked", "replay", ref, "--edit", str(edit), "--why", "by telephone")
    assert (wrong.returncode, "the edit names applicant_nam" in wrong.stderr) == (2, True)
    edit.write_text('{"status": "xong"}', "utf-8")
    done = service.cli("parked", "replay", ref, "--edit", str(edit), "--why", "by telephone, with the ward")
    assert done.returncode == 0, done.stdout + done.stderr
    arrives(service, code, "xong")
    service.until("portal", f"SELECT ghi_chu FROM ho_so WHERE ma = '{code}'", "as it was")
    assert service.sql("ward", f"SELECT tt FROM ho_so WHERE ma = '{code}'") == [("khac",)]
    ((after, state),) = service.sql("hub", f"SELECT payload, state FROM hub.parked WHERE id = {ref}")
    assert (bytes(after), state) == (bytes(before), "closed"), "the original is as it was"
    ((officer, why, edited, at),) = service.sql(
        "hub", f"SELECT officer, why, edited, at FROM hub.parked_action WHERE parked = {ref} AND place = 'hub' AND outcome = 'merged'"
    )
    assert (officer, why) == ("lê.an", "by telephone, with the ward")
    assert at is not None
    vault = Vault(service.environment["LIENTHONG_PARKED_KEY"])
    assert json.loads(vault.open(bytes(edited))) == {"status": "xong"}
    assert "khac" in vault.open(bytes(after)).decode()


def test_a_replay_keeps_to_its_budget_and_to_the_order_of_arrival(service: City) -> None:
    codes = [put(service, tt="lan_luot") for _ in range(8)]
    refs = [parked_of(service, code) for code in codes]
    would = service.json("parked", "replay", "--reason", "unmapped_word", "--system", "ward", "--budget", "3", "--dry-run")["records"]
    assert len(would) == 3
    assert {r["outcome"] for r in would} == {"would"}
    assert [int(r["ref"]) for r in would] == sorted(int(r["ref"]) for r in would)
    assert [actions(service, ref) for ref in refs] == [[]] * 8, "a dry run does nothing"
    assert service.cli("parked", "replay").returncode == 2, "what is replayed must be said"
    done = service.json("parked", "replay", *refs[:2], "--budget", "1")["records"]
    assert [r["ref"] for r in done] == refs[:1]


def test_a_replay_that_does_not_help_stops(service: City) -> None:
    before = service.sql("hub", "SELECT count(*) FROM hub.parked_action")[0][0]
    done = service.cli("parked", "replay", "--reason", "unmapped_word", "--kind", "refused", "--json")
    assert done.returncode == 1
    assert "5 replays in a row did not end well, so the rest was left parked" in done.stderr
    assert len(json.loads(done.stdout)["records"]) == 5
    assert service.sql("hub", "SELECT count(*) FROM hub.parked_action")[0][0] == before + 5
    assert len(parked(service, "--reason", "unmapped_word")) > 5


def test_what_is_given_up_needs_a_reason_which_is_recorded(service: City) -> None:
    code = put(service, tt="bo_di")
    ref = parked_of(service, code)
    assert service.cli("parked", "discard", ref).returncode == 2
    assert service.cli("parked", "discard", ref, "--dry-run").returncode == 0
    assert parked_of(service, code) == ref
    assert service.cli("parked", "discard", ref, "--why", "a test entry of the ward").returncode == 0
    assert service.sql("hub", f"SELECT state, payload IS NOT NULL, closed_at IS NOT NULL FROM hub.parked WHERE id = {ref}") == [
        ("discarded", True, True)
    ]
    assert actions(service, ref) == [("lê.an", "discard", "a test entry of the ward", "discarded")]
    assert "no open parked record" in service.cli("parked", "replay", ref).stderr
    left = parked(service, "--system", "ward")
    done = service.json("parked", "discard", "--system", "ward", "--kind", "refused", "--why", "the test has seen them")["records"]
    assert len(done) == len(left)
    assert parked(service) == []


# ------------------------------------------------------------------ damaged
def frame_of(service: City, code: str) -> tuple[int, bytes]:
    """Partition and bytes of the frame that brought a dossier."""
    assert service.stack.kafka is not None
    consumer = Consumer(service.stack.kafka.bootstrap, [frames.TOPIC], group=f"test-{code}", stored=lambda _topic, _partition: None, client_id="test")
    try:
        for _ in range(100):
            for message in consumer.poll(200):
                if code.encode() in (message.value or b""):
                    return message.partition, message.value or b""
    finally:
        consumer.close()
    raise AssertionError(f"no frame with {code}")


def test_damaged_bytes_go_their_way_again_once_they_can_be_opened(service: City) -> None:
    code = put(service)
    arrives(service, code)
    partition, whole = frame_of(service, code)
    assert service.stack.kafka is not None
    producer = Producer(service.stack.kafka.bootstrap, client_id="test")
    producer.send(frames.TOPIC, whole[:-1], partition=partition)
    producer.flush()
    producer.close()
    wait(lambda: len(parked(service, "--kind", "damaged")) == 1)
    (it,) = parked(service, "--kind", "damaged")
    done = service.cli("parked", "replay", it["ref"])
    assert (done.returncode, "still cannot be opened" in done.stdout) == (1, True)
    sealed = Vault(service.environment["LIENTHONG_PARKED_KEY"]).seal(whole)  # as after an upgrade that can read it
    service.sql("hub", f"UPDATE hub.parked SET payload = %s WHERE id = {it['ref']}", arguments=[sealed])
    before = duplicates(service)
    assert service.cli("parked", "replay", it["ref"]).returncode == 0
    wait(lambda: duplicates(service) == before + 1)
    assert parked(service) == []


def duplicates(service: City) -> int:
    found = service.sql("hub", "SELECT n FROM hub.counter WHERE (system, entity, outcome) = ('ward', 'dossier', 'duplicate')")
    return int(found[0][0]) if found else 0


# ------------------------------------------------------------------ at a target
def test_what_a_target_refuses_is_sent_again_when_its_rule_is_lifted(service: City) -> None:
    service.sql("owner", "ALTER TABLE ho_so ADD CONSTRAINT khong CHECK (ghi_chu <> 'khong') NOT VALID")
    code = put(service, ghi_chu="khong")
    it = parked_of(service, code, "apply")
    assert it.startswith("portal/")
    assert CANARY not in service.cli("parked", "show", it).stdout
    done = service.cli("parked", "replay", it)
    assert (done.returncode, "its target refuses it again" in done.stdout) == (1, True), done.stdout
    again = parked_of(service, code, "apply")
    service.sql("owner", "ALTER TABLE ho_so DROP CONSTRAINT khong")
    done = service.cli("parked", "replay", "--kind", "apply", "--system", "portal")
    assert (done.returncode, "sent_again" in done.stdout) == (0, True), done.stdout
    arrives(service, code)
    assert parked(service) == []
    assert actions(service, again) == [("lê.an", "replay", None, "sent_again")]


def test_a_delete_that_a_target_refused_is_applied_from_what_is_kept(service: City) -> None:
    code = put(service)
    arrives(service, code)
    service.sql("owner", "CREATE TABLE giay (ma text REFERENCES ho_so)", f"INSERT INTO giay VALUES ('{code}')")
    service.sql("ward", f"DELETE FROM ho_so WHERE ma = '{code}'")
    it = parked_of(service, code, "apply")
    service.sql("owner", "DROP TABLE giay")
    done = service.cli("parked", "replay", it)
    assert (done.returncode, "applied" in done.stdout) == (0, True), done.stdout
    service.until("portal", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'", 0)
    assert parked(service) == []


def test_a_record_given_up_at_a_target_is_recorded_too(service: City) -> None:
    it = parked_of(service, put(service, ghi_chu="cam"), "apply")
    assert service.cli("parked", "discard", it, "--why", "not for the portal").returncode == 0
    assert service.sql("portal", "SELECT state FROM lienthong.parked ORDER BY id DESC LIMIT 1") == [("discarded",)]
    assert actions(service, it) == [("lê.an", "discard", "not for the portal", "discarded")]
    assert parked(service) == []


# ------------------------------------------------------------------ a source that was restored
def test_a_ghost_is_deleted_or_kept_as_a_person_decides(service: City) -> None:
    service.sql("ward", "DELETE FROM ho_so WHERE ten IS NULL OR tt NOT IN ('moi', 'dang_xu_ly', 'xong')")  # a load would park them anew
    gone, stays = put(service), put(service)
    arrives(service, gone)
    arrives(service, stays)
    lost = f"DELETE FROM ho_so WHERE ma IN ('{gone}', '{stays}')"
    service.sql("ward", "BEGIN", lost, "DELETE FROM lienthong.change WHERE xid = pg_current_xact_id()", "COMMIT")  # as by a restore
    service.cli("load", "ward", "--new-epoch")  # says itself that records are missing
    wait(lambda: {p["local_key"] for p in parked(service, "--kind", "ghost")} >= {gone, stays}, story=lambda: str(parked(service)))
    refs = {p["local_key"]: p["ref"] for p in parked(service, "--kind", "ghost")}
    service.cli("reconcile", "--system", "ward", "--entity", "dossier")
    left = {a["key"]: a["repair"] for a in service.json("repair", "--system", "ward", "--entity", "dossier")["actions"]}
    assert (left[gone], left[stays]) == ("a person decides", "a person decides")
    assert service.sql("portal", f"SELECT count(*) FROM ho_so WHERE ma IN ('{gone}', '{stays}')") == [(2,)]
    undecided = service.cli("parked", "replay", refs[gone])
    assert (undecided.returncode, "needs a decision" in undecided.stderr) == (2, True)
    done = service.cli("parked", "replay", refs[gone], "--decide", "accept", "--why", "the ward says it was deleted")
    assert done.returncode == 0, done.stdout
    service.until("portal", f"SELECT count(*) FROM ho_so WHERE ma = '{gone}'", 0)
    assert service.cli("parked", "replay", refs[stays], "--decide", "keep", "--why", "lost by the restore").returncode == 0
    assert service.sql("portal", f"SELECT count(*) FROM ho_so WHERE ma = '{stays}'") == [(1,)]
    assert actions(service, refs[gone])[0][1:] == ("accept", "the ward says it was deleted", "deleted")
    assert parked(service) == []
    compared = service.json("reconcile", "--system", "ward", "--entity", "dossier")
    assert [d for d in compared["differences"] if d["key"] == stays] == []
    assert [c["kept"] for c in compared["compared"]] == [1]


# ------------------------------------------------------------------ metrics
def metrics(service: City, port: int) -> dict[tuple[str, ...], float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:  # noqa: S310 - our own address
        text = answer.read().decode()
    assert CANARY not in text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(s.name, *(s.labels[label] for label in SAMPLES[s.name])): s.value for s in samples}


def test_how_much_is_parked_and_for_how_long_is_measured(service: City) -> None:
    assert service.cli("parked", "replay", parked_of(service, put(service, tt="do_luong"))).returncode == 1
    refused = put(service, ghi_chu="cam")
    parked_of(service, refused, "apply")
    port = free_port()
    service.start("run", "serve", "--port", str(port), log="serve.log")
    wait(lambda: up(service, port))
    wait(lambda: ("lienthong_parked_records", "portal", "apply") in metrics(service, port), 20, service.logs)
    found = metrics(service, port)
    assert found["lienthong_parked_records", "ward", "refused"] == found["lienthong_parked_records", "portal", "apply"] == 1
    oldest = found["lienthong_parked_oldest_age_seconds", "ward", "refused"]
    assert 0 < oldest < 120
    assert metrics(service, port)["lienthong_parked_oldest_age_seconds", "ward", "refused"] > oldest
    assert found["lienthong_line_lag_limit_seconds", "ward", "capture"] == 60
    assert found["lienthong_line_lag_seconds", "portal", "apply"] < 60
    assert found["lienthong_replayed_records_total", "ward", "still_wrong"] >= 1
    told = {(p["system"], p["kind"]): p for p in service.json("status")["parked"]}
    assert told["ward", "refused"]["oldest_age_seconds"] > oldest
    assert told["portal", "apply"]["records"] == 1
    assert service.cli("parked", "discard", "--older-than", "0s", "--why", "the test has seen them").returncode == 0
    wait(lambda: not any(name[0] == "lienthong_parked_records" for name in metrics(service, port)), 20)


def up(service: City, port: int) -> bool:
    try:
        return bool(metrics(service, port)["lienthong_hub_up",])
    except OSError:
        return False


# ------------------------------------------------------------------ mass failure stops the line
def stopped(service: City, system: str, stage: str, says: str) -> None:
    """Wait until a line has stopped for a reason with some words in it; what it stopped for before may be shown for a second more."""
    seen: list[dict[str, object]] = []

    def is_stopped() -> bool:
        seen.append(line(service, system, stage))
        return seen[-1]["state"] == "stopped" and says in str(seen[-1]["reason"])

    wait(is_stopped, story=lambda: str(seen[-1]))


def count_at(service: City, prefix: str, expected: int, at: str = "portal") -> None:
    service.until(at, f"SELECT count(*) FROM ho_so WHERE ma LIKE '{prefix}%'", expected, 60)


def test_a_missing_right_stops_the_line_and_nothing_is_parked(service: City) -> None:
    """Row 30 of the fault matrix."""
    service.sql("owner", "REVOKE INSERT ON ho_so FROM lt_portal")
    put_many(service, "R", 300)
    stopped(service, "portal", "apply", "permission denied for table ho_so; the line has stopped, nothing was parked or lost")
    assert service.sql("portal", "SELECT count(*) FROM lienthong.parked WHERE state = 'parked'") == [(0,)]
    service.sql("owner", "GRANT INSERT ON ho_so TO lt_portal")
    count_at(service, "R", 300)
    assert parked(service) == []


def test_a_target_that_refuses_everything_stops_its_line(service: City) -> None:
    service.sql("owner", "ALTER TABLE ho_so ADD CONSTRAINT moi CHECK (ma NOT LIKE 'T%')")
    put_many(service, "T", 300)
    stopped(service, "portal", "apply", "dossier records were refused by the target, the last for refused_by_target in moi: too many to park")
    examples = len(parked(service, "--limit", "5000"))
    assert examples < 200, "a share of the last records, however small the batches were in which they came"
    status = service.cli("status")
    assert (status.returncode, "too many to park" in status.stdout) == (1, True)
    assert len(parked(service, "--limit", "5000")) == examples, "and then no more"
    service.sql("owner", "ALTER TABLE ho_so DROP CONSTRAINT moi")
    count_at(service, "T", 300 - examples)


def test_a_source_whose_records_do_not_fit_any_more_stops_its_line(service: City) -> None:
    before = len(parked(service, "--limit", "5000"))
    assert before < 200
    put_many(service, "U", 1000, "ban_moi")
    stopped(service, "ward", "capture", "dossier records were refused, the last for unmapped_word in status: too many to park")
    in_list = len(parked(service, "--limit", "5000"))
    assert in_list - before < 400, "the share that stops a line is 0.3"
    put(service)
    assert service.sql("portal", "SELECT count(*) FROM ho_so WHERE ma LIKE 'U%'") == [(0,)]
    service.sql("ward", "UPDATE ho_so SET tt = 'moi' WHERE ma LIKE 'U%'")
    count_at(service, "U", 1000)
    wait(lambda: len(parked(service, "--limit", "5000")) == before, story=lambda: str(parked(service)[:3]))


def test_nothing_that_was_said_or_logged_holds_a_value(service: City) -> None:
    stored = json.dumps(service.sql("hub", "SELECT message FROM hub.parked"), ensure_ascii=False)
    for form in (CANARY, json.dumps(CANARY)[1:-1]):
        assert form not in service.logs() + service.said + stored
