"""Delivery to the national portal with a real hub, broker and HTTP service: in order, exactly once, whatever goes wrong, counted over there."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lienthong.cli.shared import Exit
from lienthong.config import load_settings
from lienthong.web.metrics import HubCollector
from tests.city import wait
from tests.otlp_receiver import received, receiving
from tests.portal_kit import CANARY, DAY, HOUR, Delivery, delivery, now

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
_codes = itertools.count(1)


@pytest.fixture(scope="module")
def place(stack_root: Path) -> Iterator[Delivery]:
    with delivery(stack_root / "delivery") as made:
        yield made


@pytest.fixture
def code(place: Delivery) -> Iterator[str]:
    """A code of the test's own; afterwards the portal is well again."""
    place.portal.heal()
    yield f"H29.01-260305-{next(_codes):04}"
    place.portal.heal()


def effects(place: Delivery, code: str) -> tuple[int, list[str]]:
    """How often the portal took the dossier, and its steps."""
    return len(place.portal.states(code)), place.portal.steps(code)


# ------------------------------------------------------------------ the normal way
def test_the_whole_life_of_a_dossier_arrives_in_order_and_once(place: Delivery, code: str, tmp_path: Path) -> None:
    """From a source's own table, through every stage; 4, 5 and 4 last no longer than it takes to commit them."""
    city = place.city
    city.install("portal")
    with receiving(tmp_path / "spans.jsonl") as collector:
        city.start("run", "capture", "merge", "route", "deliver", environment=collector)
        _whole_life(place, code)
        wait(lambda: "deliver" in {span["name"] for span in received(tmp_path / "spans.jsonl")}, 30)
        city.stop()
    by_id = {span["span"]: span for span in received(tmp_path / "spans.jsonl")}
    hop = next(span for span in by_id.values() if span["name"] == "deliver")
    assert hop["attributes"]["lienthong.outcome"] == "confirmed"
    names = [hop["name"]]
    while hop["parent"]:
        hop = by_id[hop["parent"]]
        names.append(hop["name"])
    assert names == ["deliver", "route", "merge", "capture"]  # one trace from the commit to the portal's answer


def _whole_life(place: Delivery, code: str) -> None:
    city = place.city
    city.cli("load", "--all")
    insert = "INSERT INTO ho_so VALUES (%s, '1.004222', '2026-03-05 10:00+07', %s, 1, '2026-03-05 10:00+07')"
    city.sql("portal", insert, arguments=[code, CANARY])
    for hour, status in enumerate((2, 4, 5, 4, 9, 10), start=11):
        city.sql("portal", "UPDATE ho_so SET tt = %s, luc = %s WHERE ma = %s", arguments=[status, f"2026-03-05 {hour}:00+07", code])
    wait(lambda: len(place.portal.steps(code)) >= 7, 60, lambda: f"{place.portal.steps(code)} {place.reasons()} {city.logs()[-3000:]}")
    time.sleep(1)
    assert place.portal.steps(code) == ["1", "2", "4", "5", "4", "9", "10"]
    held = place.portal.holds(code)
    assert held is not None
    assert (held["TrangThaiHoSo"], held["ChuHoSo"]) == ("10", CANARY)
    assert place.portal.states(code)[-1] == "10"


def test_states_that_lasted_a_second_are_sent_though_the_portal_was_away(place: Delivery, code: str) -> None:
    place.portal.fault("unavailable", 4)
    record = place.life(code, 4, 5, 4, 9)
    with place.running():
        place.settled(record)
    assert place.portal.states(code) == ["4", "5", "4", "9"]
    assert place.portal.steps(code) == ["4", "5", "4", "9"]


def test_steps_wait_for_their_dossier(place: Delivery, code: str) -> None:
    record = 900_000_000 + next(_codes)
    place.step(record, 2, 2)
    place.step(record, 1, 1)
    place.said()
    with place.running():
        wait(lambda: place.ledger(record) == [("progress", "pending")] * 2)
        assert place.portal.steps(code) == []
        place.dossier(code, record)
        place.settled(record)
    assert place.portal.steps(code) == ["2", "1"]


def test_fees_papers_and_links(place: Delivery, code: str) -> None:
    """One message is made of a dossier, its fees and its papers; a link that changes alone is no change."""
    record = place.dossier(code)
    fee = place.say("fee", None, {"fee_code": "LP1", "amount": 5000}, parent=record)
    paper = place.say("dossier_component", None, {"component_code": "TP1", "file_link": "https://files/1?t=1"}, parent=record)
    with place.running():
        place.settled(record)
        sent = place.portal.states(code)
        place.say("dossier_component", paper, {"component_code": "TP1", "file_link": "https://files/1?t=2"}, parent=record)
        place.dossier(code, record)
        place.say("removed", fee, {"entity": "fee", "reason": "delete"})
        place.settled(record)
        wait(lambda: "DanhSachLePhi" not in (place.portal.holds(code) or {"DanhSachLePhi": 1}))
    held = place.portal.holds(code)
    assert held is not None
    assert held["TaiLieuNop"][0]["MaThanhPhanHoSo"] == "TP1"
    assert len(place.portal.states(code)) == len(sent) + 1


# ------------------------------------------------------------------ one fault
@pytest.mark.parametrize("operation", ["DongBoHoSoMC", "CapNhatTienDoHoSoMC"])
@pytest.mark.parametrize("kind", ["reset-after", "silent", "failed-after", "html", "truncated", "cut", "drip", "huge"])
def test_an_answer_that_was_lost_is_read_back_and_nothing_is_sent_twice(place: Delivery, code: str, kind: str, operation: str) -> None:
    place.portal.fault(kind, 1, operation=operation)
    record = place.life(code, 2, 4)
    with place.running():
        place.settled(record)
    assert effects(place, code) == (2, ["2", "4"])
    assert place.ledger(record) == [("create", "confirmed"), ("progress", "confirmed"), ("update", "confirmed"), ("progress", "confirmed")]


@pytest.mark.parametrize("operation", ["DongBoHoSoMC", "CapNhatTienDoHoSoMC"])
@pytest.mark.parametrize("kind", ["reset-before", "failed-before", "too-many", "unavailable", "redirect", "session-expired", "latency"])
def test_what_was_not_processed_is_sent_again_and_once(place: Delivery, code: str, kind: str, operation: str) -> None:
    argument = {"seconds": 0.5} if kind == "latency" else {}
    place.portal.fault(kind, 1, operation=operation, **argument)
    record = place.life(code, 2, 4)
    with place.running():
        place.settled(record)
    assert effects(place, code) == (2, ["2", "4"])


def test_a_dossier_that_is_there_already_is_sent_as_an_update(place: Delivery, code: str) -> None:
    with place.portal._connection.cursor() as cursor:
        cursor.execute("INSERT INTO dossier (code, fields) VALUES (%s, '{}')", (code,))
    record = place.life(code, 2)
    with place.running():
        place.settled(record)
    assert place.ledger(record) == [("update", "confirmed"), ("progress", "confirmed")]
    assert effects(place, code) == (1, ["2"])


def test_half_a_success_is_visible_and_the_rest_goes_on(place: Delivery, code: str) -> None:
    """The dossier is accepted, a step refused: adapters told that it was synchronised."""
    place.portal.fault("half", 1, operation="CapNhatTienDoHoSoMC")
    record = place.life(code, 2, 4)
    with place.running():
        place.settled(record)
    assert effects(place, code) == (2, ["4"])
    assert Counter(place.ledger(record))["progress", "refused"] == 1
    status = place.city.json("national", "status")["delivery"]
    assert status["dossiers_in_part"] >= 1
    assert status["states"]["refused"] >= 1


def test_words_of_success_with_a_code_of_failure_are_a_failure_and_the_reverse(place: Delivery, code: str) -> None:
    place.portal.fault("code", 1, operation="DongBoHoSoMC", code="99", message="Đồng bộ thành công")
    record = place.life(code, 2)
    place.said()
    with place.running():
        wait(lambda: place.ledger(record) == [("create", "refused"), ("progress", "pending")])
        assert effects(place, code) == (0, [])
        place.dossier(code, record, status=4)  # the next state is a create again, and the step follows it
        place.settled(record)
    assert place.ledger(record) == [("create", "refused"), ("progress", "confirmed"), ("create", "confirmed")]
    assert effects(place, code) == (1, ["2"])


def test_what_the_portal_has_no_place_for_is_refused_with_the_field_and_nothing_of_it_is_sent(place: Delivery, code: str) -> None:
    record = place.dossier(code, summary="ạ" * 1001)
    with place.running():
        place.settled(record)
        place.dossier(code, record, summary="ạ")
        wait(lambda: place.portal.holds(code) is not None)
        place.settled(record)
    ((reason, cured),) = place.city.sql(
        "hub", "SELECT reason, cured_at IS NOT NULL FROM hub.delivery WHERE dossier = %s AND state = 'refused'", arguments=[record]
    )
    assert reason == "TrichYeuHoSo: 1001 characters, where the portal takes 1000"
    assert cured


def test_a_refused_message_is_sent_again_by_hand_and_no_output_names_a_person(place: Delivery, code: str) -> None:
    place.portal.fault("code", 1, operation="CapNhatTienDoHoSoMC", code="7", message=f"Cán bộ {CANARY} 079200000001 không hợp lệ")
    record = place.life(code, 2)
    with place.running():
        place.settled(record)
        before = place.city.json("national", "outbox", "--state", "refused")["messages"]
        (refused,) = [message["id"] for message in before if message["code"] == code]
        shown = place.city.cli("national", "outbox", str(refused))
        assert "*****" in shown.stdout
        assert place.city.cli("national", "resend", str(refused), "--dry-run").returncode == 0
        assert place.portal.steps(code) == []
        done = place.city.cli("national", "resend", str(refused), "--why", "the portal's list was completed")
        assert done.returncode == 0, done.stderr
        place.settled(record)
    assert effects(place, code) == (1, ["2"])
    assert place.city.cli("national", "resend", str(refused), "--why", "again").returncode == 1
    everything = place.city.said + place.city.logs()
    for personal in ("CANARY", "079200000001", "Trần Thị Bình"):
        assert personal not in everything


def test_what_left_the_contract_before_it_was_sent_is_not_sent(place: Delivery, code: str) -> None:
    record = place.life(code, 2, 4)
    place.say("removed", record, {"entity": "dossier", "reason": "withdraw"})
    place.said()
    with place.running():
        wait(lambda: len(place.ledger(record)) == 4)
        time.sleep(1)
    assert place.portal.holds(code) is None


# ------------------------------------------------------------------ several processes, and their ends
def many(place: Delivery, dossiers: int) -> dict[str, int]:
    return {code: place.life(code, 2, 4, 9) for code in (f"H29.01-260306-{next(_codes):05}" for _ in range(dossiers))}


def check_once(place: Delivery, lives: dict[str, int]) -> None:
    wrong = {code: found for code in lives if (found := effects(place, code)) != (3, ["2", "4", "9"])}
    assert not wrong, list(wrong.items())[:5]


def test_two_processes_double_nothing_and_keep_each_dossiers_order(place: Delivery) -> None:
    lives = many(place, 60)
    with place.running(2):
        place.settled(*lives.values(), seconds=90)
    check_once(place, lives)


def test_a_killed_process_leaves_nothing_undone_and_nothing_done_twice(place: Delivery) -> None:
    lives = many(place, 60)
    place.said()
    for _ in range(2):
        process = place.city.start("run", "deliver")
        before = place.portal.processed()
        wait(lambda before=before: place.portal.processed() > before + 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with place.running():
        place.settled(*lives.values(), seconds=120)
    check_once(place, lives)


def test_an_outage_drains_by_itself_and_within_the_contract_rate(place: Delivery) -> None:
    """Seconds stand for ten minutes; the breaker keeps all processes from asking all the time."""
    ((openings,),) = place.city.sql("hub", "SELECT coalesce(max(openings), 0) FROM hub.gate")
    lives = many(place, 40)
    place.said()
    place.portal.server.stop()
    with place.running(2):
        wait(lambda: place.city.sql("hub", "SELECT openings > %s FROM hub.gate", arguments=[openings]) == [(True,)], story=place.story)
        assert "portal" in {finding["id"] for finding in place.city.json("doctor")["findings"]}
        place.portal.forget()
        place.portal.server.start()
        place.settled(*lives.values(), seconds=120)
    assert "portal" not in {finding["id"] for finding in place.city.json("doctor")["findings"]}
    check_once(place, lives)
    assert place.portal.most_in_a_second() <= 200


def test_two_faults_at_once(place: Delivery) -> None:
    """Answers are lost and sessions end while a process is killed."""
    lives = many(place, 40)
    place.said()
    for kind in ("reset-after", "session-expired", "cut", "silent", "too-many", "reset-before"):
        place.portal.fault(kind, 3)
    process = place.city.start("run", "deliver")
    before = place.portal.processed()
    wait(lambda: place.portal.processed() > before + 30, 90, place.story)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for kind in ("reset-after", "cut"):
        place.portal.fault(kind, 3)
    with place.running(2):
        place.settled(*lives.values(), seconds=120)
    check_once(place, lives)


def test_how_many_messages_a_process_delivers_in_a_second(place: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    lives = many(place, 250)
    place.said()
    started, first = now(), place.portal.processed()
    with place.running():
        wait(lambda: place.portal.processed() > first + 50)
        started, first = now(), place.portal.processed()
        place.settled(*lives.values(), seconds=120)
        seconds, messages = now() - started, place.portal.processed() - first
    check_once(place, lives)
    with capsys.disabled():
        print(f"\n{messages / seconds:.0f} messages/s ({messages} in {seconds:.1f} s)")  # noqa: T201


def test_the_clock_of_a_step_is_the_citys(place: Delivery, code: str) -> None:
    record = place.dossier(code)
    place.step(record, 2, 15, occurred_at=DAY + 15 * HOUR)
    with place.running():
        place.settled(record)
    ((moment,),) = place.portal.sql("SELECT fields ->> 'ThoiDiemXuLy' FROM progress WHERE code = %s", (code,))
    assert moment == "20260306010000"


# ------------------------------------------------------------------ how it stands
COUNTED = """
SELECT m.state, count(*)::int FROM hub.delivery m WHERE m.state = 'confirmed' OR m.cured_at IS NULL GROUP BY m.state
"""
IN_PART = """
SELECT count(DISTINCT m.dossier)::int FROM hub.delivery m JOIN hub.delivery_dossier d USING (system, dossier)
WHERE m.state = 'refused' AND m.cured_at IS NULL AND d.is_there
"""


def measured(place: Delivery) -> dict[str, dict[tuple[str, ...], float]]:
    """The metrics of delivery, as a scrape gets them."""
    found = HubCollector(load_settings(place.city.config, place.city.environment)).collect()
    wanted = [metric for metric in found if metric.name.startswith("lienthong_delivery")]
    return {metric.name: {tuple(sample.labels.values()): sample.value for sample in metric.samples} for metric in wanted}


def line_of(place: Delivery) -> dict[str, Any]:
    """The line in `lienthong status`."""
    (found,) = [line for line in place.city.json("status")["lines"] if line["stage"] == "deliver"]
    return dict(found)


def test_status_and_metrics_say_what_the_ledger_says(place: Delivery, code: str) -> None:
    """With messages confirmed, refused, waiting, and a dossier that is there in part."""
    place.portal.fault("half", 1, operation="CapNhatTienDoHoSoMC")
    record = place.life(code, 2, 4)
    with place.running():
        place.settled(record)
        wait(lambda: line_of(place)["state"] == "normal", story=place.story)
        assert line_of(place)["lag_seconds"] < line_of(place)["limit_seconds"]
    waiting = place.dossier(f"{code}9")
    place.said()
    place.portal.fault("unavailable", 1000)
    with place.running():
        wait(lambda: place.ledger(waiting) == [("create", "pending")] or place.ledger(waiting) == [("create", "sent")], story=place.story)
        wait(lambda: line_of(place)["lag_seconds"] > 2, story=place.story)
    system = "national-portal"
    wait(lambda: measured(place)["lienthong_delivery_oldest_pending_age_seconds"][system,] > 2, story=place.story)
    found = measured(place)
    told = dict(place.city.sql("hub", COUNTED))
    assert {told_state: n for (_, told_state), n in found["lienthong_delivery_messages"].items() if n} == told
    assert told["pending"] >= 1
    assert told["refused"] >= 1
    age = found["lienthong_delivery_oldest_pending_age_seconds"][system,]
    ((oldest,),) = place.city.sql(
        "hub", "SELECT extract(epoch FROM clock_timestamp() - min(queued_at))::float8 FROM hub.delivery WHERE state IN ('pending', 'sent', 'unknown')"
    )
    assert 2 < age <= oldest < age + 5
    ((in_part,),) = place.city.sql("hub", IN_PART)
    assert found["lienthong_delivery_dossiers_in_part"] == {(system,): in_part}
    assert in_part >= 1
    place.portal.heal()
    with place.running():
        place.settled(waiting)
    assert measured(place)["lienthong_delivery_oldest_pending_age_seconds"] == {(system,): 0}


def test_what_the_portal_would_not_take_is_pointed_at_where_parked_records_are_looked_for(place: Delivery, code: str) -> None:
    record = place.dossier(code, status=11)
    with place.running():
        place.settled(record)
    ((refused,),) = place.city.sql("hub", "SELECT count(*)::int FROM hub.delivery WHERE state = 'refused' AND cured_at IS NULL")
    done = place.city.cli("parked", "list", "--json")
    assert json.loads(done.stdout)["refused_by_national_portal"] == refused >= 1
    assert done.returncode == Exit.FOUND_WRONG
    shown = place.city.cli("parked", "list").stdout
    assert f"{refused} messages that the national portal would not take: lienthong national outbox --state refused" in " ".join(shown.split())
    assert "next: lienthong national outbox --state refused" in place.city.cli("status").stdout
    assert place.city.json("parked", "list", "--kind", "link")["refused_by_national_portal"] == 0
