"""What processes write for people is told in Vietnamese on the pages: every reason, advice and step that the code can write has its form."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from connectors.postgres import _LOGIN
from lienthong.advice import ADVICE, advice
from lienthong.journey import causes, standing
from lienthong.web.told import Told, forms_vi, told
from lienthong.web.words import Words

PLACES = re.compile(r"%\((\w+)\)s")
ROOT = Path(__file__).resolve().parents[2]
VIETNAMESE, ENGLISH = Words("vi"), Words("en")
WRITERS = (
    "connectors/brokers.py", "connectors/kafka.py", "lienthong/apply", "lienthong/breaker.py", "lienthong/capture", "lienthong/hub.py",
    "lienthong/in_doubt.py", "lienthong/journey/causes.py", "lienthong/journey/handover.py", "lienthong/journey/standing.py",
    "lienthong/journey/steps.py", "lienthong/links.py", "lienthong/mapping.py", "lienthong/merge.py", "connectors/http.py",
    "lienthong/national/deliver.py", "lienthong/national/portal.py", "lienthong/national/ledger.py", "lienthong/parked_again.py",
    "lienthong/parked.py", "lienthong/parked_desk.py", "lienthong/parked_hold.py", "lienthong/parked_replay.py", "lienthong/place.py",
    "lienthong/probe.py", "lienthong/prober.py", "lienthong/readers.py", "lienthong/reading.py", "lienthong/status.py", "lienthong/too_large.py",
)  # fmt: skip
"""Whose sentences come to a page: line reasons, parked records, lost dossiers, journeys."""

PIECES = {
    " (agency {}, unit {})", " since {}", "{} of {} is {}", "{} in {}", ", {} {}", "{} {} {}{}", "a status step: ", "application {}", "• {} bytes",
    "• {} characters", "lienthong apply {}", "lienthong capture {}",
}  # fmt: skip
"""Pieces that are put together to what is tried below, codes, and names of connections."""

OF_COMMANDS = {
    "connectors/http.py", "lienthong/capture/outbox.py", "lienthong/national/deliver.py", "lienthong/national/portal.py",
    "lienthong/apply/reload.py", "lienthong/apply/run.py", "lienthong/capture/witness.py", "lienthong/parked_replay.py",
}  # fmt: skip
ONLY_OF_COMMANDS = (
    "it went back from position", "{} is not stopped for going back", "it does not show anything", "keep them apart", "make one record of the two",
    "read it again", "{} at {}", "send it to", "put its bytes", "merge it once", "--edit is for one", "{} is not written to by this service",
    "{}: it still waits for {}; does", "; after that, `lienthong resend", "lienthong resend {}", "transactions that were read there",
    "the portal refuses a message: `lienthong", "one of both has ended it",
)  # fmt: skip
"""What commands alone say, or the log."""

STATEMENTS = (
    "SELECT", "UPDATE ", "INSERT ", "DELETE ", "SET ", "SAVEPOINT", "ROLLBACK", "LOCK ", "FROM ", "WHERE ", "CREATE ", " AND ", "COPY ", " = ",
    " LIMIT",
    "%s", "({})",
)  # fmt: skip
KNOWN = "it is behind its limit"


def written() -> Iterator[tuple[str, str]]:
    """Place and sentence, with `{}` where something is filled in."""
    for name in WRITERS:
        for file in sorted((ROOT / name).rglob("*.py")) if (ROOT / name).is_dir() else [ROOT / name]:
            tree = ast.parse(file.read_text("utf-8"))
            skipped = set(_not_said(tree))
            for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
                for node in ast.walk(function):
                    text = None if id(node) in skipped else _text(node)
                    if text is not None and text.strip().count(" ") > 1 and not any(mark in text for mark in STATEMENTS):
                        yield f"{file.relative_to(ROOT).as_posix()}:{node.lineno}", text  # type: ignore[attr-defined]


def _not_said(tree: ast.Module) -> Iterator[int]:
    """Docstrings, pieces of other sentences, and what goes to the log alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and isinstance(node.body[0], ast.Expr):
            yield id(node.body[0].value)
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger.")):
            yield from (id(inner) for inner in ast.walk(node) if inner is not node)


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(piece.value) if isinstance(piece, ast.Constant) else "{}" for piece in node.values)
    return None


def in_vietnamese(text: str) -> bool:
    """Whether a sentence is known, with a word or with another sentence of ours in its places."""
    places = text.count("{}")
    return any(told(VIETNAMESE, text.format(*filled)).language == "vi" for filled in product(("x", KNOWN), repeat=places))


def is_shown(place: str, text: str) -> bool:
    return text not in PIECES and not (place.split(":")[0] in OF_COMMANDS and text.startswith(ONLY_OF_COMMANDS))


SAID = sorted({(place, text) for place, text in written() if is_shown(place, text)})


@pytest.mark.parametrize(("place", "text"), SAID, ids=[place for place, _ in SAID])
def test_every_sentence_that_a_process_writes_is_told_in_vietnamese(place: str, text: str) -> None:
    assert in_vietnamese(text), f"{place}: add to told.vi.json: {text}"


def test_what_is_put_together_is_told_too() -> None:
    line = "capture of ward-a is stopped since 2026-11-24T00:10:00+00:00: ward-a: another process reads this source now"
    assert told(VIETNAMESE, line) == Told(
        "tuyến thu nhận của ward-a đã dừng từ 07:10:00 24/11/2026: ward-a: một tiến trình khác đang đọc nguồn này", "vi"
    )
    scope = told(VIETNAMESE, "the contract of ward-a does not include it (agency H29.1, unit ?)")
    assert scope == Told("thỏa thuận của ward-a không gồm nó (cơ quan H29.1, đơn vị ?)", "vi")
    step = told(VIETNAMESE, "status 1 Mới đăng ký → 2 Được tiếp nhận; changes status, due_at")
    assert step == Told("trạng thái 1 Mới đăng ký → 2 Được tiếp nhận; đổi status, due_at", "vi")
    both = told(VIETNAMESE, "update was sent and not answered: the service is busy; deliver of portal is late: it is behind its limit")
    assert both == Told("thông điệp cập nhật đã gửi mà chưa được trả lời: dịch vụ đang bận; tuyến gửi của portal trễ: trễ quá mức cam kết", "vi")


@pytest.mark.parametrize("reason", [*ADVICE, "something new"])
@pytest.mark.parametrize("system", ["ward-a", "?"])
def test_what_to_do_about_every_reason_is_told_in_vietnamese(reason: str, system: str) -> None:
    said = told(VIETNAMESE, advice(reason, system))
    assert said.language == "vi"
    assert "its source" not in said.text


def test_what_a_message_and_a_dossier_wait_for_is_told_in_vietnamese() -> None:
    messages = [text.format(kind=kind) for text in causes._MESSAGES.values() for kind in ("create", "update", "progress", "remove")]
    waits = [*standing._APPLICANT.values(), "agency ? finishes it", "ward-a receives it"]
    states = [
        f"{kind} {state}{why}"
        for kind in ("create", "remove")
        for state in ("pending", "sent", "unknown", "refused", "confirmed")
        for why in ("", ": x")
    ]
    assert {text for text in [*messages, *waits, *states] if told(VIETNAMESE, text).language != "vi"} == set()


def test_what_the_commonest_failures_of_servers_say_is_told_in_vietnamese() -> None:
    failures = [
        'connection to server at "127.0.0.1", port 5432 failed: Connection refused', "server closed the connection unexpectedly",
        'password authentication failed for user "lienthong": correct the password in the variable of its dsn',
        *(text for _, text in _LOGIN), "57P01: terminating connection due to administrator command",
        '42703: column "name" of relation "dossier" does not exist',
    ]  # fmt: skip
    assert {text for text in failures if told(VIETNAMESE, text).language != "vi"} == set()


def test_a_sentence_of_somebody_else_stays_as_it_is_and_says_so() -> None:
    assert told(VIETNAMESE, "out of memory in the flux capacitor") == Told("out of memory in the flux capacitor", "en")
    assert told(VIETNAMESE, "ward-a: out of memory: Connection broken") == Told("ward-a: out of memory: Connection broken", "en")
    assert told(ENGLISH, "brings it") == Told("brings it", "en")


def test_a_form_keeps_its_places_and_its_commands() -> None:
    for form, said in forms_vi().items():
        assert sorted(PLACES.findall(form)) == sorted(PLACES.findall(said)), form
        assert sorted(_commands(form)) == sorted(_commands(said)), form


def _commands(text: str) -> list[str]:
    return re.findall(r"`[^`]+`|lienthong [a-z]+(?: --?[a-z-]+)*", text)
