"""Look-ups end to end: the stand-in of the population database, a real hub and a real broker, until the golden record has its word."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from connectors.errors import ConfigError, LienThongError
from connectors.postgres import connect, transaction
from lienthong.national import access
from lienthong.national.access import Caller
from lienthong.national.answers import Asked
from lienthong.national.lookup import LookUp
from lienthong.vault import Vault
from tests.lookup_kit import ASK_BA, ASK_MAI, CALLER, RATE, SYSTEM, Town, many, settings
from tests.merge_kit import state
from tests.national_kit import BA, MAI, National

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

LOOK_UP, VERIFY, FAMILY = "TraCuuThongTinCongDan", "XacThucThongTinCongDan", "XacMinhThongTinNhanThan"
PORTAL_SAYS = {"personal_number": MAI["personal_number"], "full_name": "Nguyễn Thị Mai", "birth_date": "1990", "phone": "0900000001"}
PORTAL_MAI = state("portal", "P1", 1, PORTAL_SAYS, entity="citizen")


# ------------------------------------------------------------------ the word of the population database
@pytest.mark.parametrize("messages", ["practice", "qcvn109"])
def test_the_golden_record_gets_identity_and_residence_by_authority(town: Town, service: National, messages: str) -> None:
    town.endpoint = service.url(messages)
    known = town.look_up(messages=messages).look_up(ASK_MAI, CALLER)
    assert (known.is_known, known.is_remembered) == (True, False)
    assert town.merge(PORTAL_MAI) == 1
    ((body, who),) = town.citizens()
    assert body["full_name"] == "NGUYỄN THỊ MAI"
    assert body["birth_date"] == "1990-05-04"
    assert body["residence_address"] == "12 Đường Số 1"
    assert body["residence_unit"] == "26740"
    assert body["phone"] == "0900000001"
    assert body["identity_as_of"] == body["residence_as_of"] == int(datetime.fromisoformat(MAI["as_of"]).timestamp()) * 1_000_000
    assert who is not None
    assert (who["identity"], who["residence"], who["contact"]) == (SYSTEM, SYSTEM, "portal")


def test_the_record_may_come_after_the_look_up_or_before_it(town: Town) -> None:
    town.merge(PORTAL_MAI)
    town.look_up().look_up(ASK_MAI, CALLER)
    town.merge()
    assert [body["birth_date"] for body, _ in town.citizens()] == ["1990-05-04"]
    assert town.sql("SELECT count(*)::int FROM hub.identifier") == [(1,)]


def test_a_year_of_birth_and_an_old_address_arrive_as_such(town: Town) -> None:
    town.look_up().look_up(ASK_BA, CALLER)
    town.merge()
    ((body, _),) = town.citizens()
    assert (body["birth_date"], body["residence_unit_code"], body["residence_unit_rule"]) == ("1938", "27232", "whole")


def test_all_look_ups_of_a_person_are_one_word_and_the_newest_counts(town: Town, service: National) -> None:
    look_up = town.look_up(remember_days=0)
    look_up.look_up(ASK_MAI, CALLER)
    service.people({**MAI, "marital_status": "3", "as_of": "2026-11-01T00:00:00+07:00"})
    assert not look_up.look_up(ASK_MAI, CALLER).is_remembered
    assert town.merge() == 2
    assert [body["marital_status"] for body, _ in town.citizens()] == ["3"]
    ((key, version),) = town.sql("SELECT local_key, version FROM hub.contribution WHERE system = %s", SYSTEM)
    assert MAI["personal_number"] not in key
    assert version > 1_700_000_000_000


def test_nobody_can_tell_a_person_from_keys_and_ledger(town: Town) -> None:
    town.look_up().look_up(ASK_MAI, CALLER)
    assert [message.key for message in town.sent()] == [None]
    rows = town.sql("SELECT to_jsonb(a)::text FROM hub.access a UNION ALL SELECT to_jsonb(r)::text FROM hub.remembered r")
    assert len(rows) == 2
    assert not [row for (row,) in rows if MAI["personal_number"] in row or "MAI" in row.upper().replace("MAIL", "")]


# ------------------------------------------------------------------ as few requests as possible
def test_equal_questions_are_asked_once_and_other_names_are_other_questions(town: Town, service: National) -> None:
    look_up = town.look_up()
    assert look_up.verify(ASK_MAI, CALLER).is_known
    assert look_up.verify(Asked(ASK_MAI.number, "NGUYỄN  THỊ MAI", ASK_MAI.birth), CALLER).is_remembered
    assert not look_up.verify(Asked(ASK_MAI.number, "Nguyễn Thị Lan", ASK_MAI.birth), CALLER).is_known
    assert len(service.seen()) == 2
    assert [row[1] for row in town.accesses()] == ["yes", "remembered", "no"]


def test_a_look_up_answers_verification_and_verification_asks_for_no_record(town: Town, service: National) -> None:
    look_up = town.look_up()
    assert look_up.verify(ASK_MAI, CALLER).values is None
    assert town.sent() == []
    assert look_up.look_up(ASK_MAI, CALLER).values is not None
    assert look_up.verify(ASK_MAI, CALLER).is_remembered
    assert [row["operation"] for row in service.seen()] == [VERIFY, LOOK_UP]


def test_a_negative_is_remembered_for_its_own_time_and_becomes_nothing(town: Town, service: National) -> None:
    (nobody,) = many(1)
    look_up = town.look_up()
    assert not look_up.look_up(nobody, CALLER).is_known
    assert look_up.look_up(nobody, CALLER).is_remembered
    assert look_up.verify(nobody, CALLER).is_remembered
    assert len(service.seen()) == 1
    assert town.sent() == []
    assert not town.look_up(remember_missing_days=0).look_up(nobody, CALLER).is_remembered


def test_equal_questions_of_several_processes_are_asked_once(town: Town, service: National) -> None:
    service.fault("latency", seconds=1.5)
    processes = town.others(4, "assert look_up.look_up(people[0], caller).is_known", [ASK_MAI])
    assert [process.wait(60) for process in processes] == [0] * 4
    assert service.processed() == len(service.seen()) == 1
    assert sorted(row[1] for row in town.accesses()) == ["found", "remembered", "remembered", "remembered"]


def test_a_question_whose_process_died_is_asked_by_another(town: Town) -> None:
    look_up = town.look_up(deadline_seconds=0.4)
    question = look_up._question(ASK_MAI)  # noqa: SLF001
    assert look_up._memory.take(question, "11111111-1111-4111-8111-111111111111")  # noqa: SLF001
    town_sql(town, "UPDATE hub.remembered SET asking_until = clock_timestamp() + interval '0.5 s'")
    assert look_up.verify(ASK_MAI, CALLER).is_known


def test_all_processes_together_stay_under_the_contract_rate(town: Town, service: National) -> None:
    code = "for one in people: look_up.verify(one, caller)"
    groups = [many(80)[n::4] for n in range(4)]
    processes = [town.others(1, code, group, rate_per_second=RATE)[0] for group in groups]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert service.processed() == len(service.seen()) == 80
    assert service.most_in_a_second() <= RATE
    assert {row["status"] for row in service.seen()} == {200}


# ------------------------------------------------------------------ who looked at whom
def test_the_ledger_says_who_looked_at_whom_why_and_when(town: Town, service: National) -> None:
    look_up = town.look_up()
    look_up.look_up(ASK_MAI, CALLER)
    look_up.verify(ASK_BA, Caller("canbo02", "000.00.02.H29", "residence certificate"))
    with transaction(town.connection) as cursor:
        (of_mai,) = access.accesses(cursor, subjects=[look_up.subject(ASK_MAI.number)])
        (by_two,) = access.accesses(cursor, officer="canbo02")
    assert (of_mai["officer"], of_mai["unit"], of_mai["purpose"], of_mai["outcome"]) == ("canbo01", "000.00.01.H29", "a test of look-ups", "found")
    assert (by_two["subject"], by_two["purpose"]) == (look_up.subject(ASK_BA.number), "residence certificate")
    assert [row["request_id"] for row in service.seen()] == [of_mai["request_id"], by_two["request_id"]]
    assert [row["officer"] for row in service.seen()] == ["canbo01", "canbo02"]
    assert of_mai["at"] <= datetime.fromisoformat(service.seen()[0]["at"]) <= of_mai["answered_at"]


def test_the_access_is_written_down_before_the_call(town: Town, service: National) -> None:
    service.fault("latency", seconds=1)
    look_up = town.look_up()
    calling = threading.Thread(target=look_up.verify, args=(ASK_MAI, CALLER))
    calling.start()
    while not service.seen():
        time.sleep(0.02)
    assert town.accesses() == [(VERIFY, "asked", None)]
    calling.join()
    assert town.accesses() == [(VERIFY, "yes", None)]


def test_what_cannot_be_written_down_is_not_asked(town: Town, service: National) -> None:
    look_up = town.look_up()
    town_sql(town, "ALTER TABLE hub.access RENAME TO gone")
    with pytest.raises(LienThongError):
        look_up.verify(ASK_MAI, CALLER)
    assert service.seen() == []


@pytest.mark.parametrize("who", [("", "u", "p"), ("o", " ", "p"), ("o", "u", "")])
def test_a_look_up_nobody_answers_for_is_not_made(who: tuple[str, str, str]) -> None:
    with pytest.raises(ConfigError):
        Caller(*who)


def test_without_a_key_for_pseudonyms_nothing_is_asked(town: Town) -> None:
    with pytest.raises(ConfigError, match="LIENTHONG_PARKED_KEY"):
        LookUp(settings(town.dsn, town.bootstrap, town.endpoint), Vault(None))


# ------------------------------------------------------------------ family and periods
def test_the_family_is_told_and_not_kept(town: Town) -> None:
    found = town.look_up().family(ASK_MAI, CALLER)
    assert found is not None
    assert found["father"]["name"] == "NGUYỄN VĂN AN"
    assert town.sent() == []
    assert town.accesses() == [(FAMILY, "found", None)]


def test_a_period_brings_those_the_city_holds_and_nobody_else(town: Town, service: National) -> None:
    town.merge(PORTAL_MAI)
    day = datetime.fromisoformat(MAI["as_of"]).astimezone(UTC)
    service.people(*[{**BA, "personal_number": f"07903800{n:04}", "as_of": day.isoformat()} for n in range(250)])
    brought = town.look_up().refresh(day - timedelta(days=1), day + timedelta(days=1), CALLER)
    assert brought == 1
    assert len(service.seen()) == 2  # two pages
    town.merge()
    assert [body["residence_address"] for body, _ in town.citizens()] == ["12 Đường Số 1"]
    assert town.sql("SELECT count(*)::int FROM hub.contribution WHERE system = %s", SYSTEM) == [(1,)]


def town_sql(town: Town, statement: str) -> None:
    connection = connect(town.dsn, application_name="test")
    with transaction(connection) as cursor:
        cursor.execute(statement)
    connection.close()
