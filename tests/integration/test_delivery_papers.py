"""Delivery by the interface of 2026: codes the portal issues, and papers that are there before the message that carries them, each content once."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from lienthong.national import papers
from tests.city import wait
from tests.portal_kit import NATIONAL, Delivery, PaperServer, delivery

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NO_CODE = {"national_code": None}


@pytest.fixture(scope="module")
def ward() -> Iterator[PaperServer]:
    made = PaperServer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def office(stack_root: Path, ward: PaperServer) -> Iterator[Delivery]:
    configured = f"{NATIONAL}  variant: ministry\n  files: [{ward.url}]\n"
    with delivery(stack_root / "ministry", national=configured) as made, made.running(2):
        yield made


@pytest.fixture
def place(office: Delivery, ward: PaperServer) -> Iterator[Delivery]:
    """The office, which two processes deliver for; of what was asked of portal and ward before, nothing is known."""
    office.portal.heal()
    office.portal.forget()
    ward.papers.clear()
    ward.asked.clear()
    yield office
    office.portal.heal()


def held(place: Delivery, record: int) -> dict[str, Any]:
    """What the portal holds of a dossier."""
    ((code,),) = place.city.sql("hub", "SELECT code FROM hub.delivery_dossier WHERE dossier = %s", arguments=[record])
    found = place.portal.holds(code)
    assert found is not None
    return found


def with_papers(place: Delivery, record: int | None, *links: str, **values: Any) -> int:
    """Say a dossier with papers that have these links; its record."""
    papers_ = [{"component_code": f"TP{number}", "name": f"Tờ khai {number}", "file_link": link} for number, link in enumerate(links, start=1)]
    return place.filed(record, *papers_, **NO_CODE, **values)


def files(place: Delivery) -> list[tuple[Any, ...]]:
    """Hash and how many files of it the portal has."""
    return place.portal.sql("SELECT hash, count(*)::int FROM file GROUP BY hash ORDER BY hash")


def each_once(place: Delivery, record: int) -> bool:
    """Whether the portal took every confirmed state of a dossier once, and nothing else of it."""
    confirmed = [kind for kind, state in place.ledger(record) if state == "confirmed" and kind != "progress"]
    return len(place.portal.states(held(place, record)["MaHoSo"])) == len(confirmed) >= 1


def reason(place: Delivery, record: int) -> str:
    """Why the newest message of a dossier was refused."""
    statement = "SELECT reason FROM hub.delivery WHERE dossier = %s AND state = 'refused' ORDER BY id DESC LIMIT 1"
    ((found,),) = place.city.sql("hub", statement, arguments=[record])
    return str(found)


def test_the_ministrys_interface_issues_the_code_and_takes_the_whole_life(place: Delivery) -> None:
    """With an answer lost at every second kind of request."""
    for operation in ("login", "MaHoSo", "TaoHoSo", "CapNhatHoSo", "CapNhatTienTrinh"):
        place.portal.fault("reset-after", 1, operation=operation)
    record = place.dossier("", **NO_CODE, status=1)
    for hour, status in enumerate((1, 2, 4, 9, 10)):
        place.dossier("", record, **NO_CODE, status=status)
        place.step(record, status, hour)
    place.settled(record)
    ((code,),) = place.city.sql("hub", "SELECT code FROM hub.delivery_dossier WHERE dossier = %s", arguments=[record])
    assert code.startswith("G09.20-")
    assert place.portal.states(code) == ["1", "2", "4", "9", "10"]
    assert place.portal.steps(code) == ["1", "2", "4", "9", "10"]
    assert place.portal.sql("SELECT count(*) FROM dossier WHERE code = %s", (code,)) == [(1,)]


def test_a_paper_is_put_before_the_message_that_carries_it_and_its_link_stays_here(place: Delivery, ward: PaperServer) -> None:
    content = b"%PDF a paper of the ward"
    record = with_papers(place, None, ward.put("1.pdf", content))
    place.settled(record)
    (paper,) = held(place, record)["TaiLieuNop"]
    digest = sha256(content).hexdigest()
    assert (paper["MaThanhPhanHoSo"], paper["HashTepTin"]) == ("TP1", digest)
    assert place.portal.sql("SELECT hash FROM file WHERE id = %s", (paper["IdTepTin"],)) == [(digest,)]
    assert "DuongDanTaiTepTin" not in paper
    operations = [row["operation"] for row in place.portal.seen()]
    assert "TepTin" in operations[: len(operations) - 1]
    assert operations[-1] in ("TaoHoSo", "CapNhatHoSo")  # a create that went before, without the paper, is possible: the topic came in two parts
    assert place.portal.sql("SELECT count(*)::int FROM history WHERE fields::text LIKE '%%DuongDanTaiTepTin%%'") == [(0,)]
    assert ward.asked == ["/papers/1.pdf?t=1"]
    assert content.decode() not in place.city.logs()


def test_one_content_is_put_once_whoever_carries_it(place: Delivery, ward: PaperServer) -> None:
    same = b"the same form of everybody"
    records = [with_papers(place, None, ward.put(f"same-{number}.pdf", same), ward.put("own.pdf", b"own")) for number in range(6)]
    place.settled(*records)
    with_papers(place, records[0], ward.put("same-0.pdf", same), ward.put("own.pdf", b"own"), status=4)
    place.settled(records[0])
    assert {hash_: count for hash_, count in files(place) if hash_ in {sha256(c).hexdigest() for c in (same, b"own")}} == {
        sha256(same).hexdigest(): 1,
        sha256(b"own").hexdigest(): 1,
    }
    assert len({paper["IdTepTin"] for record in records for paper in held(place, record)["TaiLieuNop"]}) == 2
    assert held(place, records[0])["TrangThaiHoSo"] == "4"


@pytest.mark.parametrize("kind", ["reset-before", "too-many", "unavailable", "session-expired", "failed-before"])
def test_what_did_not_arrive_is_put_again_and_is_there_once(place: Delivery, ward: PaperServer, kind: str) -> None:
    place.portal.fault(kind, 1, operation="TepTin")
    content = f"put again {kind}".encode()
    record = with_papers(place, None, ward.put("again.pdf", content))
    place.settled(record)
    assert (sha256(content).hexdigest(), 1) in files(place)
    assert each_once(place, record)


@pytest.mark.parametrize("kind", ["reset-after", "html", "cut"])
def test_a_file_whose_answer_was_lost_is_put_again_and_the_dossier_has_one_paper(place: Delivery, ward: PaperServer, kind: str) -> None:
    """The interface cannot tell which files it has: the first one stays there, and no message names it."""
    place.portal.fault(kind, 1, operation="TepTin")
    content = f"lost {kind}".encode()
    record = with_papers(place, None, ward.put("lost.pdf", content))
    place.settled(record)
    (paper,) = held(place, record)["TaiLieuNop"]
    assert (sha256(content).hexdigest(), 2) in files(place)
    assert place.city.sql("hub", "SELECT count(*)::int FROM hub.delivery_file WHERE id = %s", arguments=[paper["IdTepTin"]]) == [(1,)]
    assert each_once(place, record)


def test_a_message_whose_answer_was_lost_is_found_by_its_papers_and_not_sent_twice(place: Delivery, ward: PaperServer) -> None:
    for operation in ("TaoHoSo", "CapNhatHoSo"):
        place.portal.fault("reset-after", 1, operation=operation)
    record = with_papers(place, None, ward.put("found.pdf", b"found"))
    place.settled(record)
    with_papers(place, record, ward.put("found.pdf", b"found"), status=4)
    wait(lambda: place.portal.states(held(place, record)["MaHoSo"])[-1] == "4", story=place.story)
    place.settled(record)
    assert each_once(place, record)


def test_a_server_of_papers_that_is_away_keeps_only_its_own_papers_waiting(place: Delivery, ward: PaperServer) -> None:
    link = ward.put("later.pdf", b"later", status=500)
    waits, goes = with_papers(place, None, link), with_papers(place, None)
    place.settled(goes)
    wait(lambda: any("cannot be fetched yet (HTTP 500)" in str(row[4]) for row in place.reasons()), story=place.story)
    assert place.ledger(waits) in ([("create", "pending")], [("create", "sent")])
    ward.put("later.pdf", b"later")
    place.settled(waits)
    assert held(place, waits)["TaiLieuNop"][0]["HashTepTin"] == sha256(b"later").hexdigest()


LARGE = papers.PAPER_BYTES_MAX + 1


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("missing.pdf", "DuongDanTaiTepTin: TP1: there is no file at its link (HTTP 404, 0 bytes)"),
        ("empty.pdf", "DuongDanTaiTepTin: TP1: there is no file at its link (HTTP 200, 0 bytes)"),
        ("large.pdf", f"DuongDanTaiTepTin: TP1: the file is larger than {papers.PAPER_BYTES_MAX:,} bytes"),
        ("../secret", "DuongDanTaiTepTin: TP1: the link leads to none of the places in portal.files"),
        ("http://127.0.0.1:1/papers/1.pdf", "DuongDanTaiTepTin: TP1: the link leads to none of the places in portal.files"),
    ],
)
def test_a_paper_that_cannot_be_put_refuses_its_message_with_paper_and_field(place: Delivery, ward: PaperServer, link: str, why: str) -> None:
    ward.put("empty.pdf", b"")
    ward.put("large.pdf", b"x" * LARGE)
    asked = f"{ward.url}{link}" if "//" not in link else link
    record = with_papers(place, None, asked)
    place.settled(record)
    assert reason(place, record) == why
    assert place.portal.sql("SELECT count(*)::int FROM file WHERE bytes > 1000000") == [(0,)]
    assert "TepTin" not in [row["operation"] for row in place.portal.seen()]
    if "secret" in link:
        assert ward.asked == []


def test_a_file_that_is_not_the_one_its_system_told_of_is_refused(place: Delivery, ward: PaperServer) -> None:
    paper = {"component_code": "TP9", "file_link": ward.put("other.pdf", b"other"), "file_hash": sha256(b"told").hexdigest()}
    record = place.filed(None, paper, **NO_CODE)
    place.settled(record)
    assert reason(place, record) == "HashTepTin: TP9: the file at its link is not the one its system told of"


def test_a_file_the_portal_will_not_have_is_its_refusal(place: Delivery, ward: PaperServer) -> None:
    place.portal.fault("code", 1, operation="TepTin", code="415", message="Loại tệp không được hỗ trợ")
    record = with_papers(place, None, ward.put("virus.exe", b"not wanted"))
    place.settled(record)
    assert reason(place, record).startswith("IdTepTin: TP1: ")
    assert "không được hỗ trợ" in reason(place, record)
