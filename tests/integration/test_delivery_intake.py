"""What the out-topic of the national portal becomes in the ledger: each message once, in order, and nothing that would overwrite another's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import pytest

import schemas
from connectors.avro import DIGEST, digest_of, frame, out_codec
from connectors.kafka import Message
from connectors.postgres import connect, transaction
from lienthong import hub_schema
from lienthong.national import intake
from lienthong.national.intake import Intake
from lienthong.national.ledger import CONFIRMED, PENDING, REFUSED, UNKNOWN, Ledger, Outcome, Task
from lienthong.national.portal_messages import LGSP
from lienthong.vault import Vault
from tests.portal_kit import DAY, DOSSIER, EVENT, HOUR, SYSTEM


class Line:
    """Says messages to the intake, and takes the ledger's next tasks as a deliverer would."""

    def __init__(self, dsn: str) -> None:
        hub_schema.install(dsn)
        self.connection = connect(dsn, application_name="test")
        self.ledger = Ledger(SYSTEM, Vault(None))
        self.intake = Intake(self.ledger, LGSP)
        self._versions, self._offsets = count(1), count()

    def message(self, kind: str, record: int, values: Mapping[str, Any], parent: int | None = None, version: int | None = None) -> Message:
        version = next(self._versions) if version is None else version
        meta = {"record": record, "parent": parent, "epoch": 1, "version": version, "withheld": [], "held": [], "yields": []}
        value = {**meta, **values} if kind in ("removed", "merged") else {"meta": meta, **values}
        body = frame(schemas.schema_id(kind), out_codec(kind).encode(value))
        return Message("out", 0, next(self._offsets), 0, f"{kind}:{record}".encode(), body, ((DIGEST, digest_of(body)),))

    def dossier(self, record: int = 1, code: str | None = "C1", version: int | None = None, **values: Any) -> Message:
        return self.message("dossier", record, {**DOSSIER, "national_code": code, **values}, version=version)

    def step(self, record: int, status: int, hour: int = 0, parent: int = 1, version: int | None = None, **values: Any) -> Message:
        content = {**EVENT, "status": status, "occurred_at": DAY + hour * HOUR, **values}
        return self.message("dossier_event", record, content, parent, version)

    def take(self, *messages: Message) -> list[tuple[str, str]]:
        with transaction(self.connection) as cursor:
            self.intake.take(cursor, messages)
        return self.rows()

    def rows(self) -> list[tuple[str, str]]:
        with transaction(self.connection) as cursor:
            cursor.execute("SELECT kind, state FROM hub.delivery ORDER BY id")
            return cursor.fetchall()

    def reasons(self) -> list[str]:
        with transaction(self.connection) as cursor:
            cursor.execute("SELECT reason FROM hub.delivery WHERE state = 'refused' ORDER BY id")
            return [reason for (reason,) in cursor.fetchall()]

    def claim(self, limit: int = 10, lease: float = 60) -> list[Task]:
        with transaction(self.connection) as cursor:
            return self.ledger.claim(cursor, limit, lease)

    def settle(self, task: Task, state: str = CONFIRMED, **more: Any) -> int:
        more = {"is_there": True, **more} if state == CONFIRMED and task.kind != "progress" else more
        with transaction(self.connection) as cursor:
            return self.ledger.settle(cursor, [Outcome(task=task, state=state, **more)])

    def deliver(self) -> list[tuple[str, dict[str, Any]]]:
        """Confirm everything that can be sent; what was sent, in order."""
        sent = []
        while tasks := self.claim():
            for task in tasks:
                sent.append((task.kind, task.body))
                self.settle(task)
        return sent


@pytest.fixture
def line(database: str) -> Iterator[Line]:
    made = Line(database)
    yield made
    made.connection.close()


def statuses(sent: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, str]]:
    return [(kind, body.get("TrangThaiHoSo") or body["TrangThai"]) for kind, body in sent]


# ------------------------------------------------------------------ queueing
def test_steps_of_one_routing_pass_go_in_the_order_in_which_they_were_taken(line: Line) -> None:
    line.take(line.dossier(version=5), line.step(12, 4, 2, version=5), line.step(11, 5, 3, version=5), line.step(13, 2, 1, version=5))
    assert statuses(line.deliver()) == [("create", "2"), ("progress", "2"), ("progress", "4"), ("progress", "5")]


def test_a_dossier_its_fees_and_its_papers_are_one_message(line: Line) -> None:
    fee = line.message("fee", 21, {"fee_code": "LP1", "amount": 5}, 1, version=9)
    paper = line.message("dossier_component", 22, {"component_code": "TP1"}, 1, version=9)
    line.take(line.dossier(version=9), fee, paper)
    ((kind, body),) = line.deliver()
    assert kind == "create"
    assert body["DanhSachLePhi"] == [{"MaPhiLePhi": "LP1", "Gia": "5"}]
    assert body["TaiLieuNop"] == [{"IsDeleted": "False", "MaThanhPhanHoSo": "TP1"}]


def test_the_same_again_and_an_older_state_are_nothing(line: Line) -> None:
    newer, older = line.dossier(version=9, status=4), line.dossier(version=3)
    line.take(newer, line.step(11, 4, version=9))
    assert line.take(newer, older, line.dossier(version=12, status=4), line.step(11, 4)) == [("create", "pending"), ("progress", "pending")]


def test_one_step_told_by_two_systems_is_sent_once(line: Line) -> None:
    line.take(line.dossier(), line.step(11, 4), line.step(12, 4, note="other words"))
    assert statuses(line.deliver()) == [("create", "2"), ("progress", "4")]


def test_a_step_that_was_corrected_before_it_was_taken_is_sent_corrected(line: Line) -> None:
    line.take(line.dossier(), line.step(11, 4), line.step(11, 5, note="right"))
    assert statuses(line.deliver()) == [("create", "2"), ("progress", "5")]


def test_a_step_that_was_changed_after_it_was_taken_is_shown_and_not_sent_as_another(line: Line) -> None:
    line.take(line.dossier(), line.step(11, 4))
    line.deliver()
    assert line.take(line.step(11, 5)) == [("create", "confirmed"), ("progress", "confirmed"), ("progress", "refused")]
    assert line.reasons() == [intake.CHANGED]
    assert len(line.take(line.step(11, 5))) == 3


def test_two_dossiers_of_one_code_do_not_overwrite_each_other(line: Line) -> None:
    assert line.take(line.dossier(1), line.dossier(2, status=4)) == [("create", "pending"), ("create", "refused")]
    assert line.reasons() == ["MaHoSo: the dossier of record 1 has the same code"]


def test_a_code_that_changed_after_the_portal_had_it_is_shown(line: Line) -> None:
    line.take(line.dossier(1))
    line.deliver()
    line.take(line.dossier(1, "C2", status=4))
    assert line.reasons() == ["MaHoSo: the code was changed, but the portal holds the dossier under the former one"]


def test_two_records_that_turn_out_to_be_one_dossier_become_one_there(line: Line) -> None:
    line.take(line.dossier(1), line.step(11, 2), line.dossier(2, status=4), line.step(12, 4, 1, parent=2))
    line.deliver()
    line.take(line.message("merged", 2, {"entity": "dossier", "from": 1}))
    assert statuses(line.deliver()) == [("progress", "4"), ("update", "4")]


def test_what_ended_before_it_was_taken_is_not_sent_and_what_was_taken_is_shown(line: Line) -> None:
    line.take(line.dossier(1), line.step(11, 2))
    line.take(line.message("removed", 1, {"entity": "dossier", "reason": "withdraw"}))
    assert line.deliver() == []
    line.take(line.dossier(1, "C1"))
    assert statuses(line.deliver()) == [("create", "2")]
    line.take(line.message("removed", 1, {"entity": "dossier", "reason": "withdraw"}))
    assert intake.NO_WAY_BACK in line.reasons()


def test_a_damaged_message_is_told_by_its_place(line: Line) -> None:
    good = line.dossier()
    assert good.value is not None
    bad = Message("out", 0, 77, 0, b"dossier:1", good.value[:-1] + b"\x7f", good.headers)
    line.take(bad, line.dossier())
    assert "out offset 77 cannot be read" in line.reasons()[0]
    assert statuses(line.deliver()) == [("create", "2")]


# ------------------------------------------------------------------ claims
def test_one_message_of_a_dossier_is_under_way_at_a_time(line: Line) -> None:
    line.take(line.dossier(1), line.step(11, 2), line.dossier(2, "C2"))
    first = line.claim()
    assert [(task.dossier, task.kind) for task in first] == [(1, "create"), (2, "create")]
    assert line.claim() == []
    line.settle(first[0])
    assert [(task.dossier, task.kind) for task in line.claim()] == [(1, "progress")]


def test_a_lost_claim_settles_nothing_and_its_message_is_in_doubt(line: Line) -> None:
    line.take(line.dossier(1))
    (lost,) = line.claim(lease=0)
    (found,) = line.claim()
    assert (found.id, found.in_doubt) == (lost.id, True)
    assert line.settle(lost) == 0
    assert line.rows() == [("create", "unknown")]
    assert line.settle(found) == 1


def test_what_is_in_doubt_is_seen_to_before_anything_else_of_its_dossier(line: Line) -> None:
    line.take(line.dossier(1), line.dossier(1, status=4))
    (task,) = line.claim()
    line.settle(task, UNKNOWN)
    (again,) = line.claim()
    assert (again.id, again.in_doubt, again.request_id) == (task.id, True, task.request_id)
    line.settle(again, PENDING, is_there=False)
    (fresh,) = line.claim()
    assert (fresh.id, fresh.kind, fresh.in_doubt) == (task.id, "create", False)


def test_a_step_waits_while_the_dossier_is_refused_and_follows_the_next_state(line: Line) -> None:
    line.take(line.dossier(1), line.step(11, 2))
    (task,) = line.claim()
    line.settle(task, REFUSED, reason="5")
    assert line.claim() == []
    line.take(line.dossier(1, status=4))
    assert statuses(line.deliver()) == [("create", "4"), ("progress", "2")]


def test_what_comes_while_a_message_is_under_way_is_not_forgotten(line: Line) -> None:
    line.take(line.dossier(1))
    (task,) = line.claim()
    line.take(line.dossier(1, status=4))
    line.settle(task)
    assert statuses(line.deliver()) == [("update", "4")]


def test_a_dossier_that_gets_a_national_code_later_keeps_the_code_the_portal_knows(line: Line) -> None:
    own = "H29.26737-260305-0009"
    line.take(line.dossier(code=None, local_code=own))
    assert [body["MaHoSo"] for _, body in line.deliver()] == [own]
    line.take(line.dossier(code="G22.99-20260306-0000001", local_code=own, status=5))
    assert [(kind, body["MaHoSo"], body["TrangThaiHoSo"]) for kind, body in line.deliver()] == [("update", own, "5")]
    assert line.reasons() == []


# ------------------------------------------------------------------ the field of a procedure
def procedure(line: Line, record: int, field: str | None, code: str = "1.004222", version: int | None = None) -> Message:
    return line.message("procedure", record, {"procedure_code": code, "field_code": field}, version=version)


def test_a_dossier_carries_the_field_of_its_procedure_once_it_is_known(line: Line) -> None:
    line.take(line.dossier(1), procedure(line, 500, None), procedure(line, 501, "G15", code="other"))
    line.take(procedure(line, 500, "G15-TP01"), procedure(line, 500, "older", version=1))
    line.take(line.dossier(1, status=4))
    assert [body.get("MaLinhVuc") for _, body in line.deliver()] == [None, "G15-TP01"]
    line.take(line.message("removed", 500, {"entity": "procedure", "reason": "withdraw"}), line.dossier(1, status=9))
    assert [body.get("MaLinhVuc") for _, body in line.deliver()] == [None]


def test_two_fields_of_one_procedure_are_none(line: Line) -> None:
    line.take(procedure(line, 500, "G15-TP01"), procedure(line, 501, "G15-TP02"), line.dossier(1))
    assert [body.get("MaLinhVuc") for _, body in line.deliver()] == [None]


def test_a_procedure_is_no_message(line: Line) -> None:
    assert line.take(procedure(line, 500, "G15-TP01")) == []
    with transaction(line.connection) as cursor:
        cursor.execute("SELECT count(*) FROM hub.delivery_dossier")
        assert cursor.fetchall() == [(0,)]
