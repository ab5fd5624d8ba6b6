"""The pages over HTTP, on a hub with an ordinary bad day: who sees what, and that every number is the one plain SQL counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lienthong import deadlines, scorecards
from lienthong.advice import ADVICE
from lienthong.days import yesterday
from lienthong.embedded import PostgresCluster
from lienthong.settings import Settings
from lienthong.web.guard import HEADERS
from lienthong.web.pages import PAGES
from lienthong.web.words import Words
from tests import web_kit
from tests.web_kit import BROKEN, PEOPLE, Person, only, sql, tally, text_of, visitor

OPEN_TO_ALL = ("/login", "/login/oidc", "/login/oidc/back", "/login/oidc/out", "/language/{language}")
ADDRESSES = {
    "/systems/{name}": "/systems/ward-tan-dinh",
    "/certificates/{system}/{day}": "/certificates/ward-binh-thoi/2026-01-01",
    "/parked/record": "/parked/record?ref=1",
}


@pytest.fixture(scope="module")
def dsn(pg: PostgresCluster) -> Iterator[str]:
    made = pg.create_database("web")
    web_kit.fill(made)
    yield made
    pg.drop_database("web")


@pytest.fixture(scope="module")
def settings(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return web_kit.settings_of(tmp_path_factory.mktemp("web") / "config", dsn)


@pytest.fixture(scope="module")
def people(settings: Settings) -> dict[str, Person]:
    return {name: visitor(settings, name) for name in PEOPLE}


def addresses() -> list[str]:
    """One address of every page that is shown by GET."""
    paths = {route.path for router in PAGES for route in router.routes if "GET" in getattr(route, "methods", ())}
    return sorted(ADDRESSES.get(path, path) for path in paths if path not in OPEN_TO_ALL)


# ------------------------------------------------------------------ one port for people and machines
def test_browsers_are_led_from_the_root_and_clients_of_the_registry_are_not(settings: Settings) -> None:
    person = Person(settings)
    assert person.get("/").headers["location"] == "/overview"
    assert person.client.get("/", headers={"Accept": "application/json"}).json() == {}
    assert person.client.get("/schemas/types").json() == ["AVRO"]
    assert "lienthong_hub_up" in person.client.get("/metrics").text


@pytest.mark.parametrize("address", addresses())
def test_nobody_sees_a_page_without_logging_in(settings: Settings, address: str) -> None:
    answer = Person(settings).get(address)
    assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/login")


@pytest.mark.parametrize("address", addresses())
def test_every_page_answers_in_both_languages_with_its_headers_and_nothing_inline(people: dict[str, Person], address: str) -> None:
    for language in ("en", "vi"):
        answer = people["chi"].client.get(address, headers={"Accept-Language": language})
        assert answer.status_code == 200, answer.text[:500]
        if address.endswith((".csv", ".json", ".svg")):
            continue
        assert f'<html lang="{language}">' in answer.text
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", answer.text)
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', answer.text), "nothing comes from elsewhere"


def test_no_page_shows_a_name_or_number_of_a_person(people: dict[str, Person]) -> None:
    for address in addresses():
        shown = people["chi"].get(address).text
        assert "Bí Mật" not in shown, address
        assert "0900000000" not in shown, address


# ------------------------------------------------------------------ at a glance
def test_the_banner_says_which_line_is_broken_since_when_what_is_at_risk_and_what_to_do(people: dict[str, Person]) -> None:
    page = people["an"].get("/overview").text
    first = page[page.index('class="alarm ') : page.index("</article>")]
    said = text_of(first)
    assert "bad" in first[:30]
    assert f"{BROKEN} : apply" in said
    assert "(12 min" in said
    assert "Nothing is lost" in said
    assert "Connection refused" in said
    assert f"lienthong check --system {BROKEN}" in said


def test_of_many_things_wrong_the_worst_is_said_in_full_and_the_rest_in_a_line_each(people: dict[str, Person], dsn: str) -> None:
    stop = "UPDATE hub.line SET state = 'stopped', reason = system || stage, through = now() - INTERVAL '1 hour' WHERE system <> '*'"
    sql(dsn, f"{stop} AND state = 'running'")
    try:
        page = people["an"].get("/overview").text
        others = people["dung"].get("/overview").text
    finally:
        sql(dsn, "UPDATE hub.line SET state = 'running', reason = NULL, through = now() + INTERVAL '1 hour' WHERE state = 'stopped'")
    assert (page.count("<article"), page.count("<details"), page.count("<summary")) == (1, 11, 11)
    assert "ward-tan-dinh" in page
    assert (others.count("<article"), others.count("<details")) == (1, 1), "an agency sees its own lines"


def test_the_numbers_on_the_overview_are_those_of_plain_sql(people: dict[str, Person], dsn: str) -> None:
    page = people["chi"].get("/overview").text
    shown = dict(re.findall(r'<(?:a|div) class="card"(?: href="([^"]+)")?><b>([^<]*)</b>', page))
    counted = {name: Words("en").number(n) for name, n in tally(dsn).items()}
    assert shown["/parked"] == counted["parked"]
    assert shown["/differences"] == counted["differences"]
    assert shown["/differences#corrections"] == counted["corrections"]
    assert shown["/lost"] == counted["lost"]
    assert shown[""] == counted["today"]


def test_the_numbers_of_a_system_are_those_of_plain_sql(people: dict[str, Person], dsn: str) -> None:
    page = text_of(people["an"].get("/systems/ward-tan-dinh").text)
    ever, today = sql(
        dsn,
        """SELECT sum(n)::bigint, sum(n) FILTER (WHERE day = (now() AT TIME ZONE 'Asia/Ho_Chi_Minh')::date)::bigint FROM hub.day_count
           WHERE system = 'ward-tan-dinh' AND entity = 'dossier' AND outcome = 'captured'""",
    )[0]
    assert f"{Words('en').number(ever)} today {Words('en').number(today)}" in page
    parked = only(dsn, "SELECT count(*) FROM hub.parked WHERE state = 'open' AND system = 'ward-tan-dinh' AND reason = 'unmapped_word'")
    assert f"{parked} refused unmapped_word" in page


def test_sums_by_kind_of_lost_dossiers_are_those_of_plain_sql(people: dict[str, Person], dsn: str) -> None:
    page = people["an"].get("/lost").text
    shown = dict(re.findall(r'href="/lost\?kind=(\w+)"[^>]*><b>(\d+)</b>', page))
    assert {kind: int(n) for kind, n in shown.items()} == dict(sql(dsn, "SELECT kind, count(*) FROM hub.lost_dossier GROUP BY 1"))


def test_states_of_days_are_those_of_the_certificates(people: dict[str, Person], dsn: str) -> None:
    page = people["an"].get("/certificates").text
    closed = only(dsn, "SELECT count(*) FROM hub.certificate WHERE state = 'closed'")
    assert page.count('class="day closed" href=') == closed - page.count('class="day late" href=')
    assert page.count('class="day open" href=') == 1
    day = only(dsn, "SELECT day FROM hub.certificate WHERE state = 'open'")
    assert "open because of parked : 3" in text_of(people["an"].get(f"/certificates/ward-binh-thoi/{day}").text).replace("<code>", "")


# ------------------------------------------------------------------ who may do what
def test_a_parked_record_is_masked_until_a_purpose_is_given_which_is_recorded(people: dict[str, Person], dsn: str) -> None:
    page = people["binh"].get("/parked/record?ref=2").text
    assert "• 17 characters" in page
    shown = people["binh"].post("/parked/record?ref=2", at="/parked/record?ref=2", purpose="người dân hỏi").text
    assert "Nguyễn Thị Bí Mật" in shown
    assert sql(dsn, "SELECT officer, action, parked, why FROM hub.parked_action WHERE action = 'reveal'") == [
        ("web:binh", "reveal", 2, "người dân hỏi")
    ]


@pytest.mark.parametrize("name", ["an", "chi", "dung"])
def test_roles_hide_and_refuse_what_is_not_theirs(people: dict[str, Person], name: str) -> None:
    refused = {"an": ("replay", "reveal", "audit"), "chi": ("replay",), "dung": ("reveal", "audit")}[name]
    person, ref = people[name], "/parked/record?ref=3"  # of the ward Tân Định
    page = person.get(ref).text
    assert ("/parked/act" in page) is ("replay" not in refused)
    assert ('name="purpose"' in page) is ("reveal" not in refused)
    if "replay" in refused:
        assert person.post("/parked/act?ref=3", at="/overview", action="discard", why="weil").status_code == 403
    if "reveal" in refused:
        assert person.post(ref, at="/overview", purpose="aus Neugier").status_code == 403
        assert person.post("/journey", at="/journey", code="1", purpose="aus Neugier").status_code == 403
    assert person.get("/audit").status_code == (403 if "audit" in refused else 200)


def test_the_operator_gives_a_record_up_through_the_desk(people: dict[str, Person], dsn: str) -> None:
    ref = only(dsn, "SELECT max(id) FROM hub.parked WHERE state = 'open'")
    where = f"/parked/record?ref={ref}"
    assert "giving a record up needs a reason" in people["binh"].post(f"/parked/act?ref={ref}", at=where, action="discard").text
    answer = people["binh"].post(f"/parked/act?ref={ref}", at=where, action="discard", why="bản ghi thử")
    assert answer.headers["location"] == "/parked?done=discarded"
    assert only(dsn, "SELECT state FROM hub.parked WHERE id = %s", [ref]) == "discarded"
    assert sql(dsn, "SELECT officer, why, outcome FROM hub.parked_action WHERE action = 'discard'") == [("web:binh", "bản ghi thử", "discarded")]
    assert "giving a record up" not in people["binh"].get("/parked").text


def test_a_frame_of_which_nobody_knows_whose_it_is_is_the_citys(people: dict[str, Person], dsn: str) -> None:
    message = "a frame that cannot be opened"
    put = "INSERT INTO hub.parked (system, entity, kind, reason, message) VALUES ('?', '?', 'damaged', 'damaged', %s) RETURNING id"
    ref = only(dsn, put, [message])
    for address in (f"/parked/record?ref={ref}", "/parked?system=%3F&reason=damaged"):
        assert message in people["an"].get(address).text
        assert people["dung"].get(address).status_code == 404
    assert message not in people["dung"].get("/parked").text
    sql(dsn, "DELETE FROM hub.parked WHERE id = %s", [ref])


def test_a_decision_about_a_ghost_is_taken(people: dict[str, Person], dsn: str) -> None:
    where = "/parked/record?ref=7"
    assert "Keep it" in people["binh"].get(where).text
    assert people["binh"].post("/parked/act?ref=7", at=where, action="keep", why="nó có thật").headers["location"] == "/parked?done=kept"
    assert only(dsn, "SELECT state FROM hub.parked WHERE id = 7") == "kept"


# ------------------------------------------------------------------ people of an agency
def test_people_of_an_agency_see_only_what_is_of_it(people: dict[str, Person], dsn: str) -> None:
    mine = people["dung"]
    others = [system for system in web_kit.SYSTEMS if system != "ward-tan-dinh"]
    for address in ("/overview", "/parked", "/differences", "/certificates", "/scorecards"):
        page = mine.get(address).text
        assert [system for system in others if f"/systems/{system}" in page or f"<td>{system}</td>" in page] == [], address
    assert [mine.get(f"/systems/{system}").status_code for system in (*others, "nobody")] == [404] * 6
    assert mine.get("/systems/ward-tan-dinh").status_code == 200
    assert mine.get("/parked?system=one-stop").status_code == 404
    assert mine.get("/parked?place=one-stop").status_code == 404
    assert mine.get("/parked/record?ref=1").status_code == 404
    assert mine.get("/parked/record?ref=one-stop/1").status_code == 404
    assert mine.get("/certificates/one-stop/2026-11-01").status_code == 404
    assert mine.post("/parked/act?ref=1", at="/overview", action="discard", why="x").status_code == 404
    assert only(dsn, "SELECT state FROM hub.parked WHERE id = 1") == "open"
    lost = only(dsn, "SELECT count(*) FROM hub.lost_dossier WHERE agency = 'H29.26737'")
    assert len(re.findall(r"H29\.26740-261101-\d+</code>", mine.get("/lost").text)) == lost
    shown = dict(re.findall(r'<a class="card" href="([^"]+)"><b>([^<]*)</b>', mine.get("/overview").text))
    assert int(shown["/parked"]) == only(dsn, "SELECT count(*) FROM hub.parked WHERE state = 'open' AND system = 'ward-tan-dinh'")


def test_people_of_an_agency_find_only_dossiers_that_their_systems_hold(people: dict[str, Person]) -> None:
    theirs, others = ("H29.26737-261101-0000003", "H29.26737-261101-0000004")
    assert "Expected next" in people["dung"].post("/journey", at="/journey", code=theirs).text
    assert "No record that you may see" in people["dung"].post("/journey", at="/journey", code=others).text
    assert "Expected next" in people["an"].post("/journey", at="/journey", code=others).text


def test_a_journey_is_masked_and_each_look_is_recorded(people: dict[str, Person], dsn: str) -> None:
    code = "H29.26737-261101-0000005"
    assert "Bí Mật" not in people["chi"].post("/journey", at="/journey", code=code).text
    assert "Bí Mật" in people["chi"].post("/journey", at="/journey", code=code, purpose="đơn khiếu nại 12").text
    looks = sql(dsn, "SELECT viewer, purpose FROM hub.view_audit WHERE record = 5 ORDER BY id")
    assert looks == [("web:chi", None), ("web:chi", "đơn khiếu nại 12")]
    assert "đơn khiếu nại 12" in people["chi"].get("/audit").text


def test_scorecards_and_figures_that_were_kept_are_shown_with_what_they_lack(people: dict[str, Person], settings: Settings, dsn: str) -> None:
    now = datetime.now(UTC)
    last = yesterday(now)
    deadlines.store(settings, last.replace(day=1), now)
    scorecards.compute(settings, last, last, now=now)
    try:
        page = people["chi"].get("/scorecards").text
        assert f"Of {Words('en').day(last)} to" in page
        assert "None were computed yet." not in page
        assert "an end before their reception" not in page
        sql(dsn, """UPDATE hub.deadline_figures SET rows = jsonb_set(rows, '{agency,0,inconsistent}', '3')""")
        assert "3 dossiers have an end before their reception" in people["chi"].get("/scorecards").text
        sql(dsn, """UPDATE hub.scorecard SET body = jsonb_set(body::jsonb, '{closed_days}', '0')::text::json""")
        assert "None of these days is closed by certificates yet" in people["chi"].get("/scorecards").text
    finally:
        sql(dsn, "DELETE FROM hub.deadline_figures; DELETE FROM hub.scorecard")


# ------------------------------------------------------------------ one language on a page
ENGLISH_PART = re.compile(r'<(?!a )(?!html)[^>]*\blang="en"')
"""What is marked as English; the link to the English page apart."""


@pytest.mark.parametrize("address", addresses())
def test_a_vietnamese_page_has_no_english_reason_or_advice(settings: Settings, dsn: str, address: str) -> None:
    before = sql(dsn, "SELECT id, reason, message FROM hub.parked ORDER BY id")
    reasons = sorted(ADVICE)
    for number, (id_, *_) in enumerate(before):
        sql(dsn, "UPDATE hub.parked SET reason = %s WHERE id = %s", [reasons[number % len(reasons)], id_])
    try:
        page = visitor(settings, "chi", "vi").get(address).text
    finally:
        for id_, reason, message in before:
            sql(dsn, "UPDATE hub.parked SET reason = %s, message = %s WHERE id = %s", [reason, message, id_])
    assert not ENGLISH_PART.search(page)
    said = text_of(page)
    assert not [
        advice for advice in ADVICE.values() if advice.split("{")[0].strip() and len(advice.split("{")[0]) > 12 and advice.split("{")[0] in said
    ]


def test_a_vietnamese_reader_is_told_in_vietnamese_why_and_what_to_do(settings: Settings) -> None:
    reader = visitor(settings, "chi", "vi")
    assert "không kết nối được đến máy chủ" in reader.get("/overview").text
    lost = text_of(reader.get("/lost").text)
    assert f"tuyến ghi vào của {BROKEN} đang thử lại: không kết nối được đến máy chủ" in lost
    assert "lienthong status cho biết người vận hành phải làm gì" in lost
    assert "thêm từ này vào values" in reader.get("/systems/one-stop").text
    journey = reader.post("/journey", at="/journey", code="H29.26737-261101-0000003").text
    assert "đưa hồ sơ đến" in journey
    assert not ENGLISH_PART.search(journey)


def test_what_somebody_elses_program_says_stays_as_it_is_and_is_marked(settings: Settings, dsn: str) -> None:
    sql(dsn, "UPDATE hub.line SET reason = 'XX000: the flux capacitor is empty' WHERE system = %s AND stage = 'apply'", [BROKEN])
    try:
        page = visitor(settings, "chi", "vi").get("/overview").text
    finally:
        why = 'LT-DB-001: connection to server at "10.0.0.5", port 5432 failed: Connection refused'
        sql(dsn, "UPDATE hub.line SET reason = %s WHERE system = %s AND stage = 'apply'", [why, BROKEN])
    assert '<span lang="en">XX000: the flux capacitor is empty</span> <small>(nguyên văn)</small>' in page


# ------------------------------------------------------------------ small things that break pages
def test_an_address_that_is_none_is_a_page_of_ours(people: dict[str, Person]) -> None:
    assert people["an"].get("/systems/ward-tan-dinh/more").status_code == 404
    assert people["an"].get("/scorecards?by=person").status_code == 404
    assert people["an"].get("/scorecards?month=2026-13").status_code == 404
    assert people["an"].get("/certificates/ward-tan-dinh/yesterday").status_code == 404


def test_the_browser_is_asked_to_come_back_only_where_the_reader_wants_it(people: dict[str, Person]) -> None:
    assert "Refresh" not in people["an"].get("/overview").headers
    assert people["an"].get("/overview?refresh=1").headers["Refresh"] == "5"


def test_a_language_is_remembered_and_leads_back_to_our_own_pages_only(settings: Settings) -> None:
    person = Person(settings)
    answer = person.get("/language/vi?back=/lost")
    assert answer.headers["location"] == "/lost"
    assert "Đăng nhập" in person.get("/login").text
    for elsewhere in ("//evil.example", "https://evil.example", "/\\evil.example"):
        assert person.client.get("/language/vi", params={"back": elsewhere}).headers["location"] == "/overview"
    assert person.get("/language/fr").status_code == 404


def test_a_hub_that_does_not_answer_is_said_so(settings: Settings) -> None:
    away: Any = settings.model_copy(update={"hub": settings.hub.model_copy(update={"dsn": "host=127.0.0.1 port=1 dbname=hub"})})
    answer = Person(away).get("/overview")
    assert answer.status_code == 503
    assert "The hub does not answer" in answer.text
    assert "LT-DB-001" in answer.text


def test_static_files_are_of_this_release(people: dict[str, Person]) -> None:
    page = people["an"].get("/overview").text
    for address in set(re.findall(r'"(/static/[^"]+)"', page)):
        assert people["an"].get(address).status_code == 200
    assert Path("lienthong/web/static/style.css").exists()
