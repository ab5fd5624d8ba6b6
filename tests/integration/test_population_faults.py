"""Look-ups on a bad day: each fault typed and nothing invented, an outage, forged answers, and what one bad answer costs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import FatalError, LienThongError, TransientError
from connectors.http import Busy, CertificateWrong, CredentialsRefused, NotSent, Refused, UnknownOutcome
from lienthong.config_national import AccessToken, Hmac, WsseUsername, WsseX509, XRoad
from lienthong.embedded import KafkaBroker, PostgresCluster
from tests.lookup_kit import ASK_BA, ASK_MAI, CALLER, RATE, SECRET, Town, many, town_of
from tests.national_kit import MAI, Authority, National, population

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

LOOK_UP = "TraCuuThongTinCongDan"


# ------------------------------------------------------------------ faults 31-34: each typed, nothing invented
UNKNOWN = (
    "reset-before", "reset-after", "silent", "drip", "cut", "truncated", "html", "empty", "redirect", "fault", "fault-200",
    "huge", "many-elements", "deep", "gzip-bomb", "entities", "external-dtd",
)  # fmt: skip
REFUSED = ("missing", "nil", "extra", "wrong-person", "wrong-request", "duplicate")
NOT_EVEN_A_ROW = "SELECT count(*)::int FROM hub.contribution WHERE system = 'population'"


def outcome(town: Town, kind: type[LienThongError], deadline: float = 3) -> LienThongError:
    look_up = town.look_up(deadline_seconds=deadline)
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        look_up.look_up(ASK_MAI, CALLER)
    assert time.monotonic() - began < deadline + 2
    assert MAI["full_name"] not in str(caught.value)
    assert town.sent() == []
    assert town.sql("SELECT count(*)::int FROM hub.remembered WHERE answered_at IS NOT NULL") == [(0,)]
    return caught.value


@pytest.mark.parametrize("kind", UNKNOWN)
def test_an_answer_that_does_not_come_whole_is_unknown_and_is_asked_once(town: Town, service: National, kind: str) -> None:
    service.fault(kind)
    outcome(town, UnknownOutcome, 1.5 if kind in ("silent", "drip") else 3)
    assert len(service.seen()) == 1
    assert town.accesses() == [(LOOK_UP, "unknown", "LT-NAT-003")]
    assert town.look_up().look_up(ASK_MAI, CALLER).is_known  # and the next one is well


@pytest.mark.parametrize("kind", REFUSED)
def test_an_answer_that_is_not_to_the_contract_is_refused_and_changes_nothing(town: Town, service: National, kind: str) -> None:
    town.look_up(remember_days=0).look_up(ASK_MAI, CALLER)
    town.merge()
    before = town.citizens()
    service.fault(kind)
    look_up = town.look_up(remember_days=0)
    with pytest.raises(Refused) as caught:
        look_up.look_up(ASK_MAI, CALLER)
    assert MAI["full_name"] not in str(caught.value)
    town.merge()
    assert town.citizens() == before
    assert town.accesses()[-1][1] == "refused"
    assert service.processed() == 2


def test_an_earlier_answer_is_not_taken_for_this_one(town: Town, service: National) -> None:
    look_up = town.look_up()
    look_up.look_up(ASK_BA, CALLER)
    service.fault("replayed")
    with pytest.raises(Refused):
        look_up.look_up(ASK_MAI, CALLER)


@pytest.mark.parametrize("kind", ["too-many", "unavailable", "busy"])
def test_a_busy_service_is_asked_again_and_the_effect_is_once(town: Town, service: National, kind: str) -> None:
    service.fault(kind, 2)
    assert town.look_up().look_up(ASK_MAI, CALLER).is_known
    assert (len(service.seen()), service.processed()) == (3, 1)
    assert [row[1] for row in town.accesses()] == ["not_sent", "not_sent", "found"]
    assert len({row["request_id"] for row in service.seen()}) == 3


def test_a_service_that_stays_busy_is_left_alone(town: Town, service: National) -> None:
    service.fault("busy", 100)
    with pytest.raises(Busy):
        town.look_up().look_up(ASK_MAI, CALLER)
    assert len(service.seen()) == 3


def test_a_pause_the_service_asks_for_is_kept(town: Town, service: National) -> None:
    service.fault("too-many", seconds=1)
    town.look_up().look_up(ASK_MAI, CALLER)
    first, second = (datetime.fromisoformat(row["at"]) for row in service.seen())
    assert (second - first).total_seconds() >= 0.9


def test_a_service_that_is_not_there_was_sent_nothing(town: Town) -> None:
    town.endpoint = "http://127.0.0.1:9/population"
    error = outcome(town, NotSent)
    assert isinstance(error, TransientError)


def test_credentials_that_are_refused_stop_the_line(town: Town, service: National) -> None:
    look_up = town.look_up(auth=Hmac(kind="hmac", user="us", secret="another"))
    with pytest.raises(CredentialsRefused) as caught:
        look_up.look_up(ASK_MAI, CALLER)
    assert isinstance(caught.value, FatalError)
    service.fault("session-expired")
    with pytest.raises(CredentialsRefused):
        town.look_up().look_up(ASK_MAI, CALLER)
    assert len(service.seen()) == 2
    assert [row[1] for row in town.accesses()] == ["failed", "failed"]


@pytest.mark.parametrize("kind", ["wsdl-address", "wsdl-import", "wsdl-removed"])
def test_what_the_service_says_of_itself_is_never_asked(town: Town, service: National, kind: str) -> None:
    service.fault(kind)
    town.look_up().look_up(ASK_MAI, CALLER)
    assert [row["operation"] for row in service.seen()] == [LOOK_UP]


# ------------------------------------------------------------------ fault 37: an outage
def test_an_outage_opens_the_gate_once_for_all_and_the_backlog_drains_by_itself(town: Town, service: National) -> None:
    code = """
from lienthong.errors import TransientError
left = list(people)
while left:
    try:
        look_up.verify(left[0], caller)
    except TransientError:
        time.sleep(0.02)
    else:
        left.pop(0)
"""
    service.fault("unavailable", 100_000, seconds=0)
    groups = [many(60)[n::3] for n in range(3)]
    processes = [town.others(1, code, group, rate_per_second=RATE)[0] for group in groups]
    try:
        while len(service.seen()) < 3:
            time.sleep(0.05)
        time.sleep(2)
        during = len(service.seen())
        service.heal()
        assert [process.wait(60) for process in processes] == [0] * 3
    finally:
        end(processes)
    ((openings, until),) = town.sql("SELECT openings, opened_until FROM hub.gate")
    assert (openings, until) == (1, None)
    assert during <= 3 + 2 * 3 + 2 / 0.5  # the failures that opened it, those under way, and a probe each half second
    assert service.processed() == 60
    assert len({row["request_id"] for row in service.seen()}) == len(service.seen())
    assert service.most_in_a_second() <= RATE


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
        process.wait()


# ------------------------------------------------------------------ other proofs; fault 36
def one_call(database: str, broker: KafkaBroker, served: National, auth: Any, **more: Any) -> None:
    with town_of(database, broker.bootstrap, served.url()) as made:
        assert made.look_up(auth=auth, **more).look_up(ASK_MAI, CALLER).is_known


PROOFS = {
    "access-token": (AccessToken(kind="access-token", token="eyJBY2Nlc3NLZXkiOiAidXMiLCAiU2VjcmV0S2V5IjogInNlY3JldCJ9"), "us", "secret"),
    "x-road": (XRoad(kind="x-road", client="VN/GOV/H29/lienthong", service="VN/GOV/BCA/dancu"), "VN/GOV/H29/lienthong", None),
    "wsse-username": (WsseUsername(kind="wsse-username", user="us", secret="secret"), "us", "secret"),
}


@pytest.mark.parametrize("kind", PROOFS)
def test_each_proof_is_let_in(pg: PostgresCluster, database: str, broker: KafkaBroker, tmp_path: Path, kind: str) -> None:
    auth, name, secret = PROOFS[kind]
    with population(tmp_path, pg.create_database(f"national_{kind.replace('-', '_')}"), "--auth", kind) as made:
        made.account(name, secret)
        one_call(database, broker, made, auth)


def test_a_service_whose_clock_is_ahead_is_not_believed(pg: PostgresCluster, database: str, broker: KafkaBroker, tmp_path: Path) -> None:
    """A time in the future would count above every later word."""
    auth, name, secret = PROOFS["access-token"]
    with population(tmp_path, pg.create_database("national_ahead"), "--auth", "access-token") as made:
        made.account(name, secret)
        made.fault("clock-ahead")
        with pytest.raises(Refused, match="clock"):
            one_call(database, broker, made, auth)


def test_a_clock_that_is_wrong_is_named_where_the_proof_has_a_time(town: Town, service: National) -> None:
    service.fault("clock-ahead")
    with pytest.raises(CredentialsRefused, match="clock"):
        town.look_up().look_up(ASK_MAI, CALLER)


@pytest.fixture(scope="module")
def signed(pg: PostgresCluster, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[National, WsseX509]]:
    """A service that wants signatures and signs."""
    ours, theirs = authority.issue("us"), authority.issue("service")
    arguments = ("--auth", "wsse-x509", "--sign", *map(str, theirs))
    with population(tmp_path_factory.mktemp("signed"), pg.create_database("national_signed"), *arguments) as made:
        made.account("us", certificate=ours[1].read_text())
        yield made, WsseX509(kind="wsse-x509", key=str(ours[0]), certificate=str(ours[1]), authority=str(authority.ca))


def test_signatures_are_let_in_and_believed(database: str, broker: KafkaBroker, signed: tuple[National, WsseX509]) -> None:
    one_call(database, broker, *signed)


FORGED = (
    "unsigned", "sha1", "body-unsigned", "wrong-signature", "wrapped-signature", "two-bodies", "replayed", "fault", "busy", "session-expired",
)  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_an_answer_that_is_not_proven_is_unknown_and_written_down(
    database: str, broker: KafkaBroker, signed: tuple[National, WsseX509], kind: str
) -> None:
    served, auth = signed
    served.heal()
    with town_of(database, broker.bootstrap, served.url()) as made:
        look_up = made.look_up(auth=auth)
        look_up.look_up(ASK_BA, CALLER)
        made.merge()
        served.fault(kind)
        with pytest.raises(UnknownOutcome):
            look_up.look_up(ASK_MAI, CALLER)
        assert made.merge() == 0
        assert made.accesses()[-1][1] == "unknown"
        assert len(made.citizens()) == 1


@pytest.mark.parametrize("is_expired", [False, True])
def test_mutual_tls_and_an_expired_certificate(
    pg: PostgresCluster, database: str, broker: KafkaBroker, authority: Authority, tmp_path: Path, is_expired: bool
) -> None:
    ours, theirs = authority.issue("us"), authority.issue("tls", expired=is_expired)
    arguments = ("--auth", "hmac", "--tls", *map(str, theirs), "--client-ca", str(authority.ca))
    with population(tmp_path, pg.create_database(f"national_tls_{is_expired}".lower()), *arguments) as made:
        made.account(SECRET.user, SECRET.secret)
        more = {"authority": str(authority.ca), "key": str(ours[0]), "certificate": str(ours[1])}
        if not is_expired:
            one_call(database, broker, made, SECRET, **more)
            return
        with pytest.raises(CertificateWrong):
            one_call(database, broker, made, SECRET, **more)
        assert made.seen() == []


# ------------------------------------------------------------------ fault 34: what one bad answer costs
MEMORY = """
import resource, sys, time
from connectors.http import Limits, UnknownOutcome, Refused
from connectors.soap import SoapDoor
from connectors.soap_security import HmacHeader
from tests.national_kit import ASK_MAI, CALL
def peak():  # in MB, of this program alone: ru_maxrss is that of whoever started it
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
door = SoapDoor("population", sys.argv[1], proof=HmacHeader("us", sys.argv[2]), limits=Limits(seconds=float(sys.argv[3])))
door.call("TraCuuThongTinCongDan", {**CALL, **ASK_MAI})
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 300 * 1024 * 1024,) * 2)
before = peak()
began = time.monotonic()
try:
    door.call("TraCuuThongTinCongDan", {**CALL, **ASK_MAI})
except (UnknownOutcome, Refused) as error:
    print(peak() - before, time.monotonic() - began)
door.close()
"""
BOMBS: dict[str, dict[str, Any]] = {
    "gzip-bomb": {"bytes": 1_000_000_000},
    "huge": {"bytes": 100_000_000},
    "huge-allowed": {"bytes": 3_900_000},
    "many-elements": {"count": 3_000_000},
    "many-elements-allowed": {"count": 45_000},
    "deep": {"depth": 500_000},
    "entities": {},
    "drip": {},
}


@pytest.mark.parametrize("kind", BOMBS)
def test_one_bad_answer_costs_little_memory_and_no_more_than_its_time(served: National, kind: str) -> None:
    served.heal()
    served.fault("latency", 1, seconds=0)
    served.fault(kind.removesuffix("-allowed"), 1, **BOMBS[kind])
    deadline = 2.0 if kind == "drip" else 5.0
    call = [sys.executable, "-c", MEMORY, served.url(), SECRET.secret, str(deadline)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    served.heal()
    assert done.returncode == 0, done.stderr
    megabytes, seconds = done.stdout.split()
    assert float(megabytes) < 100
    assert float(seconds) < deadline + 0.5
