"""The client of the national portal against the stand-in, both variants: every way an answer can go wrong has its type, and effects are counted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from connectors.http import Busy, CredentialsRefused, NotSent, Refused, UnknownOutcome
from lienthong.config_national import Portal
from lienthong.embedded import PostgresCluster
from lienthong.embedded.national.portal import FAULTS
from lienthong.embedded.national.process import StandIn
from lienthong.errors import TransientError
from lienthong.national.portal import AlreadyThere, Ministry, PortalClient, client_of
from lienthong.national.portal_messages import step_key
from tests.city import wait
from tests.portal_kit import PortalStandIn

VARIANTS = ("lgsp", "ministry")
SECRET = "portal-s3cret"
_numbers = count(1)
_opened: list[PortalClient] = []


class OpenGate:
    """Lets everybody through, and counts what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def enter(self, stop: Callable[[], bool], permits: int = 1) -> None:
        self.told.append("enter")

    def succeeded(self) -> None:
        self.told.append("succeeded")

    def failed(self) -> None:
        self.told.append("failed")


@pytest.fixture(scope="module")
def portal(stack_root: Path, pg: PostgresCluster) -> Iterator[PortalStandIn]:
    dsn = pg.create_database("portal_server")
    with StandIn(stack_root / "portal_server", module="portal", dsn=dsn, arguments=["--account", "city", SECRET]) as server:
        made = PortalStandIn(server, dsn, "portal")
        yield made
        made.close()
    pg.drop_database("portal_server")


def client(portal: PortalStandIn, variant: str, gate: OpenGate | None = None, **changes: Any) -> PortalClient:
    configured = {
        "system": "p",
        "variant": variant,
        "endpoint": portal.address.replace("localhost", "127.0.0.1"),
        "user": "city",
        "secret": SECRET,
        "unit": "H29",
    }
    _opened.append(client_of(Portal.model_validate({**configured, "deadline_seconds": 1.5, **changes}), gate or OpenGate(), lambda: False))
    return _opened[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()
    wait(lambda: not any(thread.name == "lienthong-http" for thread in threading.enumerate()))


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest, portal: PortalStandIn) -> Iterator[str]:
    portal.heal()
    yield str(request.param)
    portal.heal()


@pytest.fixture
def open_client(portal: PortalStandIn, variant: str) -> PortalClient:
    return client(portal, variant)


def dossier(variant: str, code: str, **changes: Any) -> dict[str, Any]:
    moment = "20260305100000" if variant == "lgsp" else "2026-03-05T10:00:00+07:00"
    fields = {
        "MaHoSo": code,
        "MaTTHC": "1.0",
        "DonViXuLy": "H29",
        "LoaiDoiTuong": "1",
        "TrangThaiHoSo": "2",
        "NgayNopHoSo": moment,
        "ChuHoSo": "Nguyễn Văn An",
    }
    return {**fields, **changes}


def step(variant: str, code: str, **changes: Any) -> dict[str, Any]:
    moment = "20260305100000" if variant == "lgsp" else "2026-03-05T10:00:00+07:00"
    return {"MaHoSo": code, "ThoiDiemXuLy": moment, "TrangThai": "2", **changes}


def a_code() -> str:
    return f"C-{next(_numbers)}"


# ------------------------------------------------------------------ the normal way
def test_create_update_progress_and_look_up(portal: PortalStandIn, open_client: PortalClient, variant: str) -> None:
    code = a_code()
    assert open_client.look_up(code) is None
    open_client.send("create", dossier(variant, code))
    open_client.send("update", dossier(variant, code, TrangThaiHoSo="4"))
    open_client.send("progress", step(variant, code))
    seen = open_client.look_up(code)
    assert seen is not None
    assert seen.fields["TrangThaiHoSo"] == "4"
    assert seen.steps == Counter([step_key(step(variant, code))])
    assert portal.states(code) == ["2", "4"]


def test_a_create_of_what_is_there_is_told_apart_from_other_refusals(open_client: PortalClient, variant: str) -> None:
    code = a_code()
    open_client.send("create", dossier(variant, code))
    with pytest.raises(AlreadyThere):
        open_client.send("create", dossier(variant, code))
    with pytest.raises(Refused) as caught:
        open_client.send("create", dossier(variant, a_code(), TrangThaiHoSo="11"))
    assert not isinstance(caught.value, AlreadyThere)
    with pytest.raises(Refused):
        open_client.send("update", dossier(variant, a_code()))
    with pytest.raises(Refused):
        open_client.send("progress", step(variant, a_code()))


def test_the_stand_in_refuses_what_breaks_the_rules_of_the_messages(open_client: PortalClient, variant: str) -> None:
    for wrong in ({"TrichYeuHoSo": "x" * 1001}, {"NgayNopHoSo": "05/03/2026"}, {"LoaiDoiTuong": "9"}, {"MaTTHC": ""}, {"TrangThaiHoSo": 2}):
        with pytest.raises(Refused):
            open_client.send("create", dossier(variant, a_code(), **wrong))


def test_a_wrong_secret_stops_the_line(portal: PortalStandIn, variant: str) -> None:
    with pytest.raises(CredentialsRefused):
        client(portal, variant, secret="wrong").send("create", dossier(variant, a_code()))


def test_a_session_that_is_over_is_opened_anew(portal: PortalStandIn, open_client: PortalClient, variant: str) -> None:
    open_client.send("create", dossier(variant, a_code()))
    portal.sql("DELETE FROM session")
    code = a_code()
    open_client.send("create", dossier(variant, code))
    assert portal.states(code) == ["2"]


def test_codes_are_issued_and_files_are_put(portal: PortalStandIn) -> None:
    portal.heal()
    ministry = client(portal, "ministry")
    assert isinstance(ministry, Ministry)
    first, second = ministry.next_code("r1"), ministry.next_code("r2")
    assert first != second
    assert first.startswith("G09.20-")
    file, digest = ministry.upload("a.pdf", b"content")
    assert file
    assert digest == sha256(b"content").hexdigest()


# ------------------------------------------------------------------ what went wrong
NOT_PROCESSED: dict[str, type[Exception]] = {
    "reset-before": UnknownOutcome,
    "too-many": Busy,
    "unavailable": Busy,
    "failed-before": UnknownOutcome,
    "code": Refused,
    "exists": AlreadyThere,
    "redirect": UnknownOutcome,
}
PROCESSED: dict[str, type[Exception] | None] = {
    "latency": UnknownOutcome,
    "silent": UnknownOutcome,
    "reset-after": UnknownOutcome,
    "failed-after": UnknownOutcome,
    "html": UnknownOutcome,
    "truncated": UnknownOutcome,
    "cut": UnknownOutcome,
    "drip": UnknownOutcome,
    "huge": UnknownOutcome,
    "session-expired": None,
}


@pytest.mark.parametrize("kind", NOT_PROCESSED)
def test_nothing_was_processed(portal: PortalStandIn, open_client: PortalClient, variant: str, kind: str) -> None:
    operation = "DongBoHoSoMC" if variant == "lgsp" else "TaoHoSo"
    portal.fault(kind, operation=operation)
    code = a_code()
    with pytest.raises(NOT_PROCESSED[kind]):
        open_client.send("create", dossier(variant, code))
    assert portal.states(code) == []


@pytest.mark.parametrize("kind", PROCESSED)
def test_the_effect_is_there_and_no_answer_says_so(portal: PortalStandIn, open_client: PortalClient, variant: str, kind: str) -> None:
    operation = "DongBoHoSoMC" if variant == "lgsp" else "TaoHoSo"
    portal.fault(kind, operation=operation)
    code, expected = a_code(), PROCESSED[kind]
    if expected is None:
        open_client.send("create", dossier(variant, code))
    else:
        with pytest.raises(expected):
            open_client.send("create", dossier(variant, code))
    seen = open_client.look_up(code)
    assert seen is not None or kind == "latency"  # that one may still be at work


def test_part_of_an_answer_that_is_refused_is_a_refusal(portal: PortalStandIn) -> None:
    portal.heal()
    portal.fault("half", operation="DongBoHoSoMC")
    with pytest.raises(Refused, match=r"^5"):
        client(portal, "lgsp").send("create", dossier("lgsp", a_code()))


def test_every_fault_is_played_by_one_of_these_tests() -> None:
    assert set(FAULTS) == {*NOT_PROCESSED, *PROCESSED, "half"}


def test_a_refusal_repeats_nothing_of_the_message(portal: PortalStandIn, open_client: PortalClient, variant: str) -> None:
    message = "Nguyễn Văn An, 079200000001 không hợp lệ, cán bộ TRẦN THỊ BÌNH"
    portal.fault("code", operation="DongBoHoSoMC" if variant == "lgsp" else "TaoHoSo", code="7", message=message)
    with pytest.raises(Refused) as caught:
        open_client.send("create", dossier(variant, a_code()))
    assert "không hợp lệ" in str(caught.value)
    assert "Nguyễn" not in str(caught.value)
    assert "TRẦN" not in str(caught.value)
    assert "0792" not in str(caught.value)


def test_a_log_in_whose_answer_was_lost_has_sent_no_message(portal: PortalStandIn, variant: str) -> None:
    portal.fault("reset-after", operation="login")
    gate, code = OpenGate(), a_code()
    made = client(portal, variant, gate)
    with pytest.raises(TransientError):
        made.send("create", dossier(variant, code))
    assert gate.told == ["enter", "failed"]
    made.send("create", dossier(variant, code))
    assert portal.states(code) == ["2"]
    assert gate.told[2:] == ["enter", "succeeded"] * 2


def test_a_turn_that_comes_too_late_is_not_taken(portal: PortalStandIn, variant: str) -> None:
    """The claim has ended while it waited at the gate: another process may have read the message back and sent it."""

    class Slow(OpenGate):
        def enter(self, stop: Callable[[], bool], permits: int = 1) -> None:
            time.sleep(0.1)
            if stop():
                raise TransientError("stopped while waiting")

    code, made = a_code(), client(portal, variant, Slow())
    made.send("create", dossier(variant, code))
    with pytest.raises(TransientError), made.within(time.monotonic() + 0.05):
        made.send("update", dossier(variant, code))
    assert portal.states(code) == ["2"]


def test_a_portal_that_is_away_was_sent_nothing(portal: PortalStandIn, variant: str) -> None:
    with pytest.raises(NotSent):
        client(portal, variant, endpoint="http://127.0.0.1:1").send("create", dossier(variant, a_code()))
