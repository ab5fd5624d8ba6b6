"""`lienthong national verify-citizen` and `access` as an officer uses them: a purpose for every question, and nothing that names a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from lienthong.cli.shared import Exit
from tests import national_kit
from tests.city import City
from tests.national_kit import BA, MAI
from tests.portal_kit import NATIONAL, delivery

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

POPULATION = """\
population:
  system: population
  endpoint: "${POPULATION_URL}"
  auth: {kind: hmac, user: lienthong, secret: "${POPULATION_SECRET}"}
  unit: "000.00.00.H29"
  integration: "033"
"""
PUT = "INSERT INTO hub.record (record, entity, body, who) VALUES (%s, 'citizen', %s, '{}')"


@pytest.fixture(scope="module")
def office(stack_root: Path) -> Iterator[City]:
    """A city that holds Mai as the population database knows her, and Ba with a wrong year of birth."""
    with delivery(stack_root / "commands") as place:
        city = place.city
        with national_kit.population(stack_root / "commands_population", city.environment["NATIONAL_DSN"], "--auth", "hmac") as service:
            service.account("lienthong", secret="population-s3cret")
            city.environment |= {"POPULATION_URL": service.url(), "POPULATION_SECRET": "population-s3cret", "USER": "officer-1"}
            city.write("national.yaml", NATIONAL + POPULATION)
            city.environment["LIENTHONG_PARKED_KEY"] = Fernet.generate_key().decode()
            for record, person, birth in ((20817, MAI, MAI["birth_date"]), (20818, BA, "1939")):
                values = {"personal_number": person["personal_number"], "full_name": person["full_name"], "birth_date": birth}
                city.sql("hub", PUT, arguments=[record, json.dumps(values)])
            yield city


@pytest.fixture(autouse=True)
def _names_nobody(office: City) -> Iterator[None]:
    yield
    for person in (MAI, BA):
        assert person["personal_number"] not in office.said
        assert person["full_name"] not in office.said


def test_a_citizen_is_verified_by_record_number(office: City) -> None:
    done = office.cli("national", "verify-citizen", "20817", "--purpose", "dossier 1", "--json")
    assert done.returncode == Exit.FINE, done.stderr
    assert json.loads(done.stdout)["outcome"] == "yes"
    done = office.cli("national", "verify-citizen", "20818", "--purpose", "dossier 2", "--json")
    assert (done.returncode, json.loads(done.stdout)["outcome"]) == (Exit.FOUND_WRONG, "no")


def test_a_record_is_fetched_only_when_asked_for_and_shown_masked(office: City) -> None:
    done = office.cli("national", "verify-citizen", "20817", "--purpose", "dossier 1", "--look-up", "--json")
    assert done.returncode == Exit.FINE, done.stderr
    values = json.loads(done.stdout)["values"]
    assert values["personal_number"] == "*****0001"


def test_somebody_the_city_does_not_hold_is_asked_about_from_a_file(office: City, tmp_path: Path) -> None:
    file = tmp_path / "who.json"
    file.write_text(json.dumps({"number": BA["personal_number"], "name": BA["full_name"], "birth": "1938"}), "utf-8")
    done = office.cli("national", "verify-citizen", "--from", str(file), "--purpose", "dossier 3", "--json")
    assert json.loads(done.stdout)["outcome"] == "yes"


@pytest.mark.parametrize("words", [["20817"], ["--purpose", "x"], ["20817", "--purpose", " "], ["999", "--purpose", "x"]])
def test_a_question_without_a_purpose_or_a_person_is_not_asked(office: City, words: list[str]) -> None:
    assert office.cli("national", "verify-citizen", *words).returncode == Exit.USAGE


def test_a_dry_run_asks_nothing(office: City) -> None:
    before = office.sql("hub", "SELECT count(*) FROM hub.access")
    assert office.cli("national", "verify-citizen", "20817", "--purpose", "x", "--dry-run").returncode == Exit.FINE
    assert office.sql("hub", "SELECT count(*) FROM hub.access") == before


def test_who_looked_at_whom_why_and_when(office: City) -> None:
    office.cli("national", "verify-citizen", "20817", "--purpose", "the last one")
    found = office.json("national", "access", "--subject-of", "20817")["accesses"]
    assert (found[0]["officer"], found[0]["purpose"], found[0]["unit"]) == ("officer-1", "the last one", "000.00.00.H29")
    assert len(office.json("national", "access", "--officer", "officer-1")["accesses"]) >= len(found)
    assert office.json("national", "access", "--officer", "nobody")["accesses"] == []
    assert office.cli("national", "access").returncode == Exit.USAGE
