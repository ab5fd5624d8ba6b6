"""From answers of the population database to unified values, in both profiles; what the answer does not say is not in them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors.http import Answer, Refused
from connectors.soap import contract, opened
from lienthong import frames, units
from lienthong.embedded.national import people
from lienthong.embedded.national.envelope import serialised, wrapped
from lienthong.national import answers
from lienthong.national.answers import Asked
from lienthong.national.lookup import packed
from tests.national_kit import BA, MAI

LOOK_UP, REQUEST = "TraCuuThongTinCongDan", "r1"
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
NAMES = ("old_identity_number", "ethnicity", "religion", "marital_status", "blood_type", "nationality", "birth_place", "home_place", "residence")
NULLS = dict.fromkeys([*NAMES, "current_place", "father", "mother", "spouse", "representative", "head", "household"])
ASK = Asked(MAI["personal_number"], "Nguyễn  Thị Mai", MAI["birth_date"])
PROFILES = {"practice": ("population", people.PRACTICE), "qcvn109": ("population_qcvn109", people.STANDARD)}


@pytest.fixture(params=sorted(PROFILES))
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def answer(profile: str, *rows: Mapping[str, Any], at: str | None = None) -> dict[str, Any]:
    """What the SOAP door makes of the stand-in's answer about some people."""
    name, made = PROFILES[profile]
    when = datetime.fromisoformat(at or (rows[0]["as_of"] if rows else "2026-10-01T00:00:00+07:00"))
    collection = people.collection([people.citizen({**NULLS, **row}, made) for row in rows], request_id=REQUEST, at=made.time(when))
    envelope = opened(Answer(200, {}, serialised(wrapped(collection))))
    contract(name).check(envelope[-1][0], "answer")
    found: dict[str, Any] = contract(name).read(LOOK_UP, envelope)
    return found


def person(profile: str, row: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    asked = Asked(row["personal_number"], row["full_name"], row["birth_date"])
    found = answers.person(answer(profile, row, **more), asked, REQUEST, NOW)
    assert found is not None
    return found


def micros(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


# ------------------------------------------------------------------ what it says
def test_everything_that_is_said_is_taken(profile: str) -> None:
    assert person(profile, MAI) == {
        "personal_number": "079190000001",
        "old_identity_number": "020000001",
        "full_name": "NGUYỄN THỊ MAI",
        "sex": 2,
        "birth_date": "1990-05-04",
        "birth_place": "Phường Bến Nghé",
        "marital_status": "2",
        "ethnicity": "01",
        "religion": "00",
        "blood_type": "01",
        "identity_as_of": micros(MAI["as_of"]),
        "residence_address": "12 Đường Số 1",
        "residence_unit_code": "26740",
        "residence_unit": "26740",
        "residence_unit_rule": units.resolve("26740", date(2026, 10, 1)).rule,
        "residence_as_of": micros(MAI["as_of"]),
    }


def test_a_birth_of_which_only_the_year_is_known_stays_so(profile: str) -> None:
    assert person(profile, BA)["birth_date"] == "1938"


def test_a_name_is_put_together_and_composed() -> None:
    said = answer("practice", MAI)
    said["CongDan"][0]["HoVaTen"] = {"Ho": "NGUYÊ\u0303N", "ChuDem": " THỊ", "Ten": "MAI "}
    found = answers.person(said, ASK, REQUEST, NOW)
    assert found is not None
    assert found["full_name"] == "NGUYỄN THỊ MAI"


@pytest.mark.parametrize("name", ["marital_status", "religion", "old_identity_number", "birth_place", "residence"])
def test_what_is_not_said_is_no_word_about_it(profile: str, name: str) -> None:
    found = person(profile, {**MAI, name: None})
    assert not [field for field in found if field.startswith(name)]
    assert None not in found.values()
    mask, _ = packed("key", found)
    assert set(frames.names_of("citizen", mask)) == set(found)


@pytest.mark.parametrize("number", ["000000001", "000000000", "123456789"])
def test_a_placeholder_is_no_old_number(number: str) -> None:
    assert "old_identity_number" not in person("practice", {**MAI, "old_identity_number": number})


def test_a_date_that_cannot_be_is_refused_and_not_repeated() -> None:
    said = answer("practice", MAI)
    said["CongDan"][0]["NgayThangNamSinh"] = {"NgayThangNam": "19900231"}
    with pytest.raises(Refused) as caught:
        answers.person(said, ASK, REQUEST, NOW)
    assert "1990" not in str(caught.value)


# ------------------------------------------------------------------ addresses
def test_an_address_with_a_district_is_read_with_the_register_of_its_time() -> None:
    """27232 was Phường 10 on that day, and is Phường Bình Thới now."""
    found = person("practice", BA)
    expected = units.resolve("27232", date(2025, 2, 1))
    assert (found["residence_unit_code"], found["residence_unit"], found["residence_unit_rule"]) == ("27232", expected.unit, expected.rule)


def test_a_district_says_that_the_address_is_old_even_in_a_new_answer() -> None:
    """25945 was Phường Tân Bình (Dĩ An) and is Phường Tân Đông Hiệp now: the code alone would move people."""
    old = {"province": "74", "district": "724", "ward": "25945", "detail": "Tổ 1"}
    with_district = person("practice", {**MAI, "residence": old})
    without = person("practice", {**MAI, "residence": {**old, "district": None}})
    then, now = units.resolve("25945", date(2025, 6, 30)), units.resolve("25945", date(2026, 10, 1))
    assert then.unit != now.unit or then.rule != now.rule
    assert (with_district["residence_unit"], with_district["residence_unit_rule"]) == (then.unit, then.rule)
    assert (without["residence_unit"], without["residence_unit_rule"]) == (now.unit, now.rule)
    assert with_district["residence_unit_code"] == without["residence_unit_code"] == "25945"


def test_a_split_ward_goes_to_a_person() -> None:
    link = next(link for link in units.register().links if link.relation == "part" and link.day == units.ONE_CITY)
    found = person(
        "practice", {**MAI, "residence": {"province": "79", "district": "760", "ward": link.old, "detail": "x"}}, at="2025-03-01T00:00:00+07:00"
    )
    assert (found["residence_unit"], found["residence_unit_rule"]) == (None, "part")
    assert found["residence_unit_code"] == link.old


def test_a_place_outside_the_city_keeps_its_code_and_text(profile: str) -> None:
    found = person(profile, {**MAI, "residence": {"province": "01", "ward": "00004", "detail": "Số 9"}})
    assert (found["residence_unit_code"], found["residence_unit"], found["residence_address"]) == ("00004", None, "Số 9")


def test_a_district_alone_is_kept_too(profile: str) -> None:
    found = person(profile, {**MAI, "residence": {"province": "79", "district": "760"}}, at="2025-02-01T00:00:00+07:00")
    assert found["residence_unit_code"] == "760"
    assert "residence_address" not in found


def test_a_place_of_birth_without_text_is_named_by_its_unit() -> None:
    found = person("practice", {**MAI, "birth_place": {"province": "79", "district": "760", "ward": "26740"}})
    assert found["birth_place"] == units.register().eras[1]["26740"].full_name


# ------------------------------------------------------------------ the time
def test_a_time_without_a_zone_is_of_vietnam() -> None:
    said = answer("practice", MAI)
    said["ThoiDiemDuLieu"] = datetime(2026, 10, 1, 8)  # noqa: DTZ001 - as QCVN 109 writes it
    found = answers.person(said, ASK, REQUEST, NOW)
    assert found is not None
    assert found["identity_as_of"] == int(datetime(2026, 10, 1, 8, tzinfo=ZoneInfo("Asia/Ho_Chi_Minh")).timestamp()) * 1_000_000


def test_an_answer_without_a_time_has_none() -> None:
    said = {**answer("practice", MAI), "ThoiDiemDuLieu": None}
    found = answers.person(said, ASK, REQUEST, NOW)
    assert found is not None
    assert "identity_as_of" not in found
    assert "residence_as_of" not in found


def test_an_answer_of_the_future_is_refused() -> None:
    said = {**answer("practice", MAI), "ThoiDiemDuLieu": NOW + timedelta(minutes=15)}
    with pytest.raises(Refused, match="clock"):
        answers.person(said, ASK, REQUEST, NOW)
    said["ThoiDiemDuLieu"] = NOW + timedelta(minutes=4)
    assert answers.person(said, ASK, REQUEST, NOW) is not None


# ------------------------------------------------------------------ whom it is about
def test_nobody_is_nobody_only_when_the_service_says_so(profile: str) -> None:
    assert answers.person(answer(profile), ASK, REQUEST, NOW) is None
    with pytest.raises(Refused):
        answers.person({**answer(profile), "SoCongDan": None}, ASK, REQUEST, NOW)
    with pytest.raises(Refused):
        answers.person({**answer(profile), "SoCongDan": 1}, ASK, REQUEST, NOW)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "another"}, "wrong-request"),
        ({"SoCongDan": 2}, "answer"),
    ],
)
def test_an_answer_that_belongs_elsewhere_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused) as caught:
        answers.person({**answer("practice", MAI), **change}, ASK, REQUEST, NOW)
    assert caught.value.reason == reason


def test_another_person_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        answers.person(answer("practice", BA), ASK, REQUEST, NOW)
    assert caught.value.reason == "wrong-person"
    assert BA["full_name"] not in str(caught.value)


def test_the_same_person_twice_is_refused() -> None:
    with pytest.raises(Refused):
        answers.person(answer("practice", MAI, MAI), ASK, REQUEST, NOW)


def test_an_old_number_finds_its_person() -> None:
    asked = Asked("020000001", MAI["full_name"], "1990")
    assert answers.person(answer("practice", MAI), asked, REQUEST, NOW) is not None
    assert asked.fields() == {"SoCMND": "020000001", "HoVaTen": "NGUYỄN THỊ MAI", "NgayThangNamSinh": {"Nam": "1990"}}


def test_the_family_is_told_by_role_and_without_empty_words(profile: str) -> None:
    assert answers.family(answer(profile, MAI), ASK, REQUEST, NOW) == {
        "father": {"number": "079060000002", "name": "NGUYỄN VĂN AN", "nationality": "VN"},
        "head_of_household": {"relation": "01", "number": "079060000002", "name": "NGUYỄN VĂN AN"},
    }
    assert answers.family(answer(profile), ASK, REQUEST, NOW) is None
