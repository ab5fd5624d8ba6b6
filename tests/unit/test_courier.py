"""What becomes of a message for each way a request can end: no timeout is an answer, and what is in doubt is read back before it is sent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.http import Busy, CredentialsRefused, NotSent, Refused, UnknownOutcome
from lienthong.errors import TransientError
from lienthong.gate import GateClosed
from lienthong.national.deliver import Courier
from lienthong.national.ledger import Outcome, Task
from lienthong.national.portal import AlreadyThere, Seen
from lienthong.national.portal_messages import Unsendable, step_key

STATE = {"MaHoSo": "C1", "TrangThaiHoSo": "4", "DuongDanTaiTepTin": "https://a"}
STEP = {"ThoiDiemXuLy": "20260305100000", "TrangThai": "4", "PhongBanXuLy": "H29.01"}


class Client:
    """A portal whose next answers a test decides."""

    def __init__(self, *, send: Exception | None = None, seen: Seen | Exception | None = None, code: str | Exception = "G09") -> None:
        self._send, self._seen, self._code = send, seen, code
        self.sent: list[tuple[str, dict[str, Any]]] = []

    @contextmanager
    def within(self, until: float) -> Iterator[None]:
        assert until > time.monotonic()
        yield

    def send(self, kind: str, fields: dict[str, Any]) -> None:
        self.sent.append((kind, fields))
        if self._send is not None:
            raise self._send

    def look_up(self, _code: str) -> Seen | None:
        if isinstance(self._seen, Exception):
            raise self._seen
        return self._seen

    def next_code(self, _request_id: str) -> str:
        if isinstance(self._code, Exception):
            raise self._code
        return self._code


def task(kind: str = "update", *, in_doubt: bool = False, code: str | None = "C1") -> Task:
    body = dict(STEP if kind == "progress" else STATE)
    return Task(id=1, dossier=7, ticket=1, kind=kind, body=body, code=code, attempts=1, request_id="r", in_doubt=in_doubt)


def carry(client: Client, given: Task, *, issues: bool = False, until: float | None = None) -> Outcome:
    courier = Courier(client, code_is_issued=issues, settle_seconds=15, rest_seconds=30)  # type: ignore[arg-type]
    return courier.carry(given, time.monotonic() + 60 if until is None else until)


def test_an_acknowledgement_confirms() -> None:
    done = carry(Client(), task("create"))
    assert (done.state, done.is_there, done.is_answer) == ("confirmed", True, True)
    assert carry(Client(), task("progress")).is_there is None


def test_a_step_goes_out_with_its_dossiers_code() -> None:
    client = Client()
    carry(client, task("progress"))
    assert client.sent == [("progress", {"MaHoSo": "C1", **STEP})]


@pytest.mark.parametrize("error", [NotSent("away"), Busy("busy"), GateClosed("closed", datetime.now(UTC) + timedelta(seconds=9))])
@pytest.mark.parametrize(("in_doubt", "state"), [(False, "pending"), (True, "unknown")])
def test_what_was_not_processed_leaves_a_message_as_it_was(error: Exception, in_doubt: bool, state: str) -> None:
    done = carry(Client(send=error, seen=error), task(in_doubt=in_doubt))
    assert done.state == state
    assert done.wait_seconds > 0
    assert not done.is_answer


def test_a_timeout_is_never_an_acknowledgement() -> None:
    done = carry(Client(send=UnknownOutcome("no whole answer within 15 s")), task("create"))
    assert (done.state, done.is_there, done.is_answer) == ("unknown", None, False)
    assert done.wait_seconds >= 15  # the request may still be at work over there


def test_a_refusal_is_final_and_keeps_its_reason() -> None:
    done = carry(Client(send=Refused("5", "5: the field is wrong")), task())
    assert (done.state, done.reason) == ("refused", "5: the field is wrong")


def test_a_refused_look_up_decides_nothing() -> None:
    assert carry(Client(seen=Refused("403")), task(in_doubt=True)).state == "unknown"


def test_a_dossier_that_is_there_already_becomes_an_update() -> None:
    done = carry(Client(send=AlreadyThere("3")), task("create"))
    assert (done.state, done.is_there, done.wait_seconds) == ("pending", True, 0)


def test_the_service_asks_for_a_pause_and_gets_it() -> None:
    assert carry(Client(send=Busy("busy", 120)), task()).wait_seconds == 120


def test_a_closed_gate_rests_the_whole_line() -> None:
    done = carry(Client(send=GateClosed("closed", datetime.now(UTC) + timedelta(seconds=9))), task())
    assert 8 < done.rest_seconds <= 9


def test_while_another_tries_the_line_rests_no_longer_than_a_rest() -> None:
    done = carry(Client(send=GateClosed("closed", datetime.now(UTC) + timedelta(seconds=60))), task())
    assert done.rest_seconds == 30


def test_what_stops_the_line_is_told_and_not_swallowed() -> None:
    with pytest.raises(CredentialsRefused):
        carry(Client(send=CredentialsRefused()), task())


def test_a_turn_that_came_too_late_sends_nothing() -> None:
    client = Client()
    assert carry(client, task(), until=time.monotonic() - 1).state == "pending"
    assert client.sent == []


# ------------------------------------------------------------------ papers that are put first
class Papers:
    """What putting the papers of a message comes to."""

    def __init__(self, found: dict[str, Any] | Exception | None) -> None:
        self._found = found

    def put(self, _message: dict[str, Any]) -> dict[str, Any] | None:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def with_papers(found: dict[str, Any] | Exception | None, client: Client, kind: str = "update") -> Outcome:
    courier = Courier(client, code_is_issued=False, settle_seconds=15, rest_seconds=30, papers=Papers(found))  # type: ignore[arg-type]
    return courier.carry(task(kind), time.monotonic() + 60)


def test_the_ids_of_papers_are_stored_before_the_message_leaves() -> None:
    client, changed = Client(), {**STATE, "IdTepTin": "1"}
    done = with_papers(changed, client)
    assert (done.state, done.body, done.wait_seconds, client.sent) == ("pending", changed, 0, [])
    assert with_papers(None, client).state == "confirmed"


@pytest.mark.parametrize(
    ("error", "state", "is_answer"),
    [
        (Unsendable("DuongDanTaiTepTin", "TP1: too large"), "refused", False),
        (Refused("415", "IdTepTin: TP1: 415"), "refused", True),
        (TransientError("cannot be fetched yet"), "pending", False),
    ],
)
def test_a_paper_that_cannot_be_put_keeps_its_message(error: Exception, state: str, is_answer: bool) -> None:
    client = Client()
    done = with_papers(error, client)
    assert (done.state, done.is_answer, client.sent) == (state, is_answer, [])
    assert done.reason is not None
    assert "TP1" in done.reason or state == "pending"


def test_a_step_carries_no_papers() -> None:
    assert with_papers(Refused("x"), Client(), "progress").state == "confirmed"


# ------------------------------------------------------------------ reading back
@pytest.mark.parametrize(
    ("held", "state", "is_there"),
    [
        ({**STATE, "TenTTHC": "more"}, "confirmed", True),
        ({**STATE, "DuongDanTaiTepTin": "https://b"}, "confirmed", True),
        ({**STATE, "TrangThaiHoSo": "2"}, "pending", True),
        (None, "pending", False),
    ],
)
def test_a_state_in_doubt_is_what_the_portal_holds(held: dict[str, Any] | None, state: str, is_there: bool) -> None:
    client = Client(seen=None if held is None else Seen(held, Counter()))
    done = carry(client, task("create", in_doubt=True))
    assert (done.state, done.is_there) == (state, is_there)
    assert client.sent == []


@pytest.mark.parametrize(
    ("steps", "state"),
    [([STEP], "confirmed"), ([], "pending"), ([{**STEP, "TrangThai": "5"}], "pending"), ([{**STEP, "NoiDungXuLy": "words"}], "confirmed")],
)
def test_a_step_in_doubt_is_known_by_time_status_and_unit(steps: list[dict[str, Any]], state: str) -> None:
    done = carry(Client(seen=Seen({}, Counter(map(step_key, steps)))), task("progress", in_doubt=True))
    assert done.state == state


def test_a_second_step_of_the_same_second_is_not_taken_for_the_first() -> None:
    second = replace(task("progress", in_doubt=True), like_it=1)
    assert carry(Client(seen=Seen({}, Counter([step_key(STEP)]))), second).state == "pending"
    assert carry(Client(seen=Seen({}, Counter([step_key(STEP)] * 2))), second).state == "confirmed"


def test_a_step_whose_dossier_the_portal_has_lost_goes_out_again_to_be_refused() -> None:
    done = carry(Client(seen=None), task("progress", in_doubt=True))
    assert (done.state, done.is_there) == ("pending", None)


# ------------------------------------------------------------------ codes that the portal issues
def test_an_issued_code_is_stored_before_it_is_used() -> None:
    client = Client(code="G09.20-20260609-0092637")
    done = carry(client, task("create", code=None), issues=True)
    assert (done.state, done.code) == ("pending", "G09.20-20260609-0092637")
    assert client.sent == []


def test_a_lost_code_is_a_code_lost_and_nothing_more() -> None:
    done = carry(Client(code=UnknownOutcome("reset")), task("create", code=None), issues=True)
    assert (done.state, done.code) == ("pending", None)
