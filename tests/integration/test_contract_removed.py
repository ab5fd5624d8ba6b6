"""A contract that is taken away: what the party was sent is withdrawn there, through the processes as they run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.city import AUTHORITY, PROFILE, TABLE, City, city, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}"}
systems:
  portal: {profile: simple, dsn: "${PORTAL_DSN}", kind: portal}
  ward: {profile: simple, dsn: "${WARD_DSN}", kind: ward}
"""
CONTRACT = "  {0}: {{system: {0}, purpose: test, legal_ground: test, entities: {{dossier: {{}}}}}}\n"


def contracts(*systems: str) -> str:
    return "version: 1\ncontracts:\n" + "".join(CONTRACT.format(system) for system in systems)


@pytest.fixture
def made(stack_root: Path) -> Iterator[City]:
    with city(stack_root / "contract_removed", clusters=("hub",)) as made:
        for name in ("portal", "ward"):
            made.database("hub", name, TABLE)
        made.write("systems.yaml", SYSTEMS)
        made.write("authority.yaml", AUTHORITY)
        made.write("contracts.yaml", contracts("portal", "ward"))
        made.write("profiles/simple.yaml", PROFILE)
        made.install("portal", "ward")
        yield made


def test_a_party_without_a_contract_keeps_nothing_that_we_gave_it_and_is_then_let_go_of(made: City) -> None:
    made.run()
    for system in ("portal", "ward"):
        assert made.cli("load", system).returncode == 0
    made.sql("portal", "INSERT INTO ho_so VALUES ('H1', '1.001', now(), 'An', 'moi'), ('H2', '1.001', now(), 'Bình', 'moi')")
    made.sql("ward", "INSERT INTO ho_so VALUES ('H3', '1.001', now(), 'its own', 'moi')")
    made.until("ward", "SELECT count(*) FROM ho_so", 3)
    made.until("portal", "SELECT count(*) FROM ho_so", 3)
    made.stop()
    made.write("contracts.yaml", contracts("portal"))
    made.run()
    made.until("ward", "SELECT ma FROM ho_so ORDER BY ma", [("H3",)])
    made.until("hub", "SELECT DISTINCT state::text FROM hub.entitled WHERE system = 'ward'", [("w",)])
    made.until("hub", "SELECT count(*) FROM hub.line WHERE system = 'ward' AND stage = 'apply'", 0)
    wait(lambda: {line["stage"] for line in made.json("lag")["lines"] if line["system"] == "ward"} == {"capture", "merge", "route"})
    made.sql("portal", "INSERT INTO ho_so VALUES ('H4', '1.001', now(), 'Chi', 'moi')")
    made.stop()
    made.write("contracts.yaml", contracts("portal", "ward"))
    made.run()
    made.until("ward", "SELECT ma FROM ho_so ORDER BY ma", [("H1",), ("H2",), ("H3",), ("H4",)])
