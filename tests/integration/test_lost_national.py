"""Lost dossiers on the whole stack: real processes, Kafka and a stand-in of the national portal; found by the command that operators type."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lienthong import journey
from lienthong.config import load_settings
from lienthong.journey import lost
from tests.city import wait
from tests.portal_kit import CANARY, Delivery, delivery

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

EXPECTATIONS = """
version: 1
hops:
  received: [{channels: [online], within: {working_days: 1}, basis: "a test"}]
  confirmed: [{within: {hours: 4}, basis: "a test"}]
  shown: [{within: {hours: 8}, basis: "a test"}]
  seen: [{within: {hours: 0.1}, basis: "a test"}]
"""


@pytest.fixture(scope="module")
def city(stack_root: Path) -> Iterator[Delivery]:
    """A portal of the city, the national portal, and everything between them running."""
    with delivery(stack_root / "lost-national") as made:
        made.city.write("expectations.yaml", EXPECTATIONS)
        made.city.install("portal")
        made.city.start("run", "capture", "merge", "route", "deliver")
        assert made.city.cli("load", "portal").returncode == 0
        yield made


def submit(city: Delivery, code: str, status: int = 4) -> None:
    city.city.sql("portal", "INSERT INTO ho_so VALUES (%s, '1.004222', now() - INTERVAL '1 day', %s, %s)", arguments=[code, CANARY, status])


def swept(city: Delivery, code: str, **later: float) -> list[dict[str, Any]]:
    settings = load_settings(city.city.config, city.city.environment)
    lost.sweep(settings, datetime.now(UTC) + timedelta(**later), wait_seconds=5)
    return [one for one in lost.found(settings) if code in (one["local_code"], one["local_key"])]


def ledger(city: Delivery, code: str) -> set[str]:
    """The states of a dossier's messages."""
    found = city.city.sql(
        "hub", "SELECT DISTINCT m.state FROM hub.delivery m JOIN hub.delivery_dossier d USING (system, dossier) WHERE d.code = %s", arguments=[code]
    )
    return {state for (state,) in found}


def test_a_confirmed_dossier_is_never_named_and_its_journey_is_proven_on_both_sides(city: Delivery) -> None:
    submit(city, "H29-0001", 9)
    wait(lambda: ledger(city, "H29-0001") == {"confirmed"}, story=city.story)
    assert swept(city, "H29-0001", days=30) == []
    (found,) = journey.of(load_settings(city.city.config, city.city.environment), "H29-0001", viewer="tester", purpose=None)
    sent = [step for step in found["steps"] if step["kind"] == "delivery"]
    assert {step["proof"] for step in sent} == {"both"}
    assert sent[0]["what"] == "create confirmed"
    assert all(step["delay_seconds"] >= 0 for step in sent)


def test_sent_and_refused_by_the_portal(city: Delivery) -> None:
    submit(city, "H29-0002")
    wait(lambda: ledger(city, "H29-0002") == {"confirmed"}, story=city.story)
    city.portal.fault("code", 20, operation="CapNhatTienDoHoSoMC", code="7", message="không hợp lệ")
    city.city.sql("portal", "UPDATE ho_so SET tt = 5 WHERE ma = 'H29-0002'")
    wait(lambda: "refused" in ledger(city, "H29-0002"), story=city.story)
    city.portal.heal()
    assert swept(city, "H29-0002", hours=3) == []
    (found, *_) = swept(city, "H29-0002", hours=5)
    assert (found["kind"], found["system"], found["holder"], found["cause"]) == ("not_confirmed", "national-portal", "hub", "refused")
    assert CANARY not in str(found)


def test_finished_and_not_shown_at_the_national_portal(city: Delivery) -> None:
    submit(city, "H29-0003")
    wait(lambda: ledger(city, "H29-0003") == {"confirmed"}, story=city.story)
    city.portal.fault("code", 20, operation="CapNhatTienDoHoSoMC", code="7", message="không hợp lệ")
    city.city.sql("portal", "UPDATE ho_so SET tt = 9 WHERE ma = 'H29-0003'")
    wait(lambda: "refused" in ledger(city, "H29-0003"), story=city.story)
    city.portal.heal()
    (found, *_) = swept(city, "H29-0003", hours=10)
    assert (found["kind"], found["holder"], found["cause"]) == ("not_shown", "hub", "refused")


def test_the_command_names_it_with_holder_cause_and_what_to_do(city: Delivery) -> None:
    """A row that the log never brought: as one written while the slot was away."""
    before = city.city.cli("lost", "--system", "portal")
    assert before.returncode == 0, before.stdout + before.stderr
    insert = "INSERT INTO ho_so VALUES ('H29-0009', '1.004222', now() - INTERVAL '1 hour', 'Trần Thị Lạc', 4)"
    city.city.sql("portal", "ALTER PUBLICATION lienthong DROP TABLE ho_so", insert, "ALTER PUBLICATION lienthong ADD TABLE ho_so")
    document = city.city.json("lost", "--system", "portal")
    (found,) = document["lost"]
    assert (found["kind"], found["local_code"], found["holder"], found["cause"]) == ("not_seen", "H29-0009", "portal", "unknown")
    assert document["kinds"] == {"not_seen": 1}
    shown = city.city.cli("lost", "--no-sweep", "--system", "portal")
    assert shown.returncode == 1
    assert "H29-0009" in shown.stdout
    assert "lienthong load portal --entity dossier --key KEY" in shown.stdout
    assert city.city.cli("load", "portal", "--entity", "dossier", "--key", "H29-0009").returncode == 0
    wait(lambda: city.city.cli("lost", "--system", "portal").returncode == 0, story=city.city.logs)
    assert "Lạc" not in city.city.said


def test_the_journey_as_it_is_printed(city: Delivery) -> None:
    submit(city, "H29-0010")
    wait(lambda: ledger(city, "H29-0010") == {"confirmed"}, story=city.story)
    shown = city.city.cli("trace", "H29-0010")
    assert shown.returncode == 0, shown.stderr
    for expected in ("national H29-0010", "holder: portal", "brings it", "create confirmed", "both", "sent to: national-portal (sent)\n"):
        assert expected in shown.stdout
    assert CANARY not in shown.stdout
    assert city.city.cli("trace", "H29-9999").returncode == 1
