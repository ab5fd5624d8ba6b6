"""Words of the pages: every sentence has its Vietnamese, none is left over, and numbers, times and durations are written as readers expect."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

import lienthong.web
from lienthong.config_web import Oidc
from lienthong.web.accounts import ROLES, Account
from lienthong.web.pages.log_in_oidc import account_of
from lienthong.web.words import Words, catalogue, chosen, phrase

WEB = Path(lienthong.web.__file__).parent
PLACES = re.compile(r"%\((\w+)\)s")
JOINED = {
    "role ": ROLES,
    "day ": ("closed", "open", "late"),
    "message ": ("pending", "sent", "unknown", "refused", "confirmed"),
    "hop ": ("capture", "merge", "delivery"),
    "difference ": ("missing", "extra", "stale", "different", "parent"),
    "log-in ": ("in", "refused", "out"),
    "sent ": ("sent", "withdrawn", "deleted", "merged"),
    "by ": ("agency", "unit", "procedure"),
}
"""Sentences that templates put together from a word of the data."""
OUTCOMES = ("captured", "merged", "unchanged", "older", "duplicate", "refused", "parked")


def in_templates() -> Iterator[str]:
    """The constants that templates say."""
    for file in sorted((WEB / "templates").glob("*.html")):
        for call in Environment().parse(file.read_text("utf-8")).find_all(nodes.Call):
            is_said = (isinstance(call.node, nodes.Name) and call.node.name == "_") or (
                isinstance(call.node, nodes.Getattr) and call.node.attr == "say"
            )
            if is_said:
                yield from (const.value for const in _constants(call.args[0]))


def _constants(argument: nodes.Node) -> Iterator[nodes.Const]:
    if isinstance(argument, nodes.Const):
        yield argument
    elif isinstance(argument, nodes.CondExpr):
        yield from (const for side in (argument.expr1, argument.expr2) if side is not None for const in _constants(side))
    elif isinstance(argument, nodes.Concat):
        assert isinstance(argument.nodes[0], nodes.Const)
        assert argument.nodes[0].value in JOINED


def in_code() -> Iterator[str]:
    """The constants given to `phrase`."""
    for file in sorted(WEB.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "phrase" and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)


def sentences() -> set[str]:
    """Everything the pages can say."""
    return {*in_templates(), *in_code(), *(start + word for start, words in JOINED.items() for word in words), *OUTCOMES}


def test_every_sentence_has_its_vietnamese_and_none_is_left_over() -> None:
    assert sentences() - set(catalogue("vi")) == set()
    assert set(catalogue("vi")) - sentences() == set()
    assert set(catalogue("en")) - sentences() == set()


def test_a_sentence_keeps_its_places_in_every_language() -> None:
    for language in ("vi", "en"):
        wrong = {text for text, said in catalogue(language).items() if sorted(set(PLACES.findall(text))) != sorted(set(PLACES.findall(said)))}
        assert wrong == set()


def test_nothing_of_the_english_is_left_in_vietnamese() -> None:
    same = {text for text, said in catalogue("vi").items() if text == said}
    assert same <= {"–"}


@pytest.mark.parametrize(
    ("language", "number", "lag", "span", "moment"),
    [
        ("en", "1,234,567", "12.3 s", "1 h 1 min", "07:30:00 2 Sep 2026"),
        ("vi", "1.234.567", "12,3 giây", "1 giờ 1 phút", "07:30:00 02/09/2026"),
    ],
)
def test_numbers_and_times_are_written_in_the_readers_language(language: str, number: str, lag: str, span: str, moment: str) -> None:
    words = Words(language)
    assert words.number(1_234_567) == number
    assert words.seconds(12.34) == lag
    assert words.span(3675) == span
    assert words.moment(datetime(2026, 9, 2, 0, 30, tzinfo=UTC)) == moment
    assert words.day(date(2026, 9, 2)) == words.day("2026-09-02")
    assert [words.number(None), words.seconds(None), words.span(None), words.moment(None), words.day(None), words.ago(None), words.percent(None)] == [
        "–"
    ] * 7


def test_values_in_sentences_are_written_in_the_readers_language_too() -> None:
    assert Words("vi").say(phrase("%(n)s more", n=12_000)) == "thêm 12.000"
    assert Words("vi").say("It is still parked: %(words)s", words=phrase("Nothing.")) == "Vẫn bị giữ lại: Không có."
    assert Words("en").say("100 % of it") == "100 % of it", "without values nothing is filled in"


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        (None, "", "vi"), (None, "en-GB,en;q=0.9", "en"), (None, "fr,en;q=0.8,vi;q=0.5", "en"), (None, "de", "vi"),
        ("vi", "en", "vi"), ("xx", "en", "en"), ("en", "vi", "en"),
    ],
)  # fmt: skip
def test_the_language_is_what_was_chosen_then_what_the_browser_asks_for_then_vietnamese(cookie: str | None, accepted: str, language: str) -> None:
    assert chosen(cookie, accepted) == language


# ------------------------------------------------------------------ who somebody is by a provider's claims
OIDC = Oidc(
    issuer="https://sso.example",
    client_id="x",
    client_secret="y",
    roles={"ops": "operator", "look": "viewer", "audit": "auditor"},
    agency_claim="agency",
)


@pytest.mark.parametrize(
    ("claims", "account"),
    [
        ({"preferred_username": "lan", "roles": ["ops", "other"], "agency": ["*"]}, Account("lan", "operator")),
        ({"preferred_username": "lan", "roles": "look", "agency": "H29.15"}, Account("lan", "viewer", ("H29.15",))),
        ({"sub": "17", "roles": ["look", "audit"], "agency": ["H29.2", "H29.1"]}, Account("17", "auditor", ("H29.1", "H29.2"))),
        ({"preferred_username": "lan", "roles": ["other"], "agency": ["*"]}, None),
        ({"preferred_username": "lan", "agency": ["*"]}, None),
        ({"preferred_username": "lan", "roles": ["ops"]}, None),
        ({"preferred_username": "lan", "roles": ["ops"], "agency": []}, None),
        ({"preferred_username": "lan", "roles": {"ops": True}, "agency": ["*"]}, None),
        ({"roles": ["ops"], "agency": ["*"]}, None),
    ],
)
def test_who_a_provider_vouches_for_is_let_in_only_with_a_role_and_an_agency(claims: dict[str, object], account: Account | None) -> None:
    assert account_of(OIDC, claims) == account


def test_without_a_claim_for_agencies_everybody_is_of_the_city() -> None:
    everybody = OIDC.model_copy(update={"agency_claim": None})
    assert account_of(everybody, {"sub": "17", "roles": ["look"]}) == Account("17", "viewer")
