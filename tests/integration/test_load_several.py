"""Several systems in one load, and a slot that somebody's open transaction holds up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.postgres import connect, transaction
from lienthong.capture import wal
from lienthong.capture.wal import WalLine
from lienthong.embedded import PostgresCluster
from lienthong.errors import TransientError
from tests.city import AUTHORITY, PROFILE, TABLE, City, city
from tests.integration.test_contract_removed import SYSTEMS, contracts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
MORE_SYSTEMS = """\
  away: {profile: simple, dsn: "host=127.0.0.1 port=1 dbname=x", kind: ward}
  reader: {profile: simple, dsn: "${WARD_DSN}", capture: none, apply: false}
"""


@pytest.fixture(scope="module")
def made(stack_root: Path) -> Iterator[City]:
    with city(stack_root / "load_several", clusters=("hub",)) as made:
        for name in ("portal", "ward"):
            made.database("hub", name, TABLE)
            made.sql(name, f"INSERT INTO ho_so SELECT '{name}' || n, '1.001', now(), 'An', 'moi' FROM generate_series(1, 50) n")  # noqa: S608
        made.write("systems.yaml", SYSTEMS + MORE_SYSTEMS)
        made.write("authority.yaml", AUTHORITY)
        made.write("contracts.yaml", contracts("portal"))
        made.write("profiles/simple.yaml", PROFILE)
        made.install("portal", "ward")
        yield made


def test_all_systems_are_loaded_and_one_that_is_away_is_named(made: City) -> None:
    done = made.cli("load", "--all", "--json")
    assert done.returncode == 1
    assert [word in done.stdout for word in ('"portal"', '"ward"', '"away"', '"reader"')] == [True, True, True, False]
    assert "away cannot be reached" in done.stdout
    assert done.stdout.count('"records": 50') == 2


def test_several_systems_by_name(made: City) -> None:
    done = made.cli("load", "portal", "ward")
    assert done.returncode == 0, done.stderr
    assert [word in done.stdout for word in ("portal: 50 records", "ward: 50 records")] == [True, True]
    for wrong in ((), ("portal", "--all"), ("portal", "ward", "--new-epoch"), ("portal", "ward", "--entity", "dossier", "--key", "1")):
        assert made.cli("load", *wrong).returncode == 2


def test_a_slot_waits_for_open_writers_only_so_long_and_names_the_oldest(pg: PostgresCluster, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    del pg
    monkeypatch.setattr(wal, "SLOT_WAIT_SECONDS", 1)
    writer, ours = connect(database, application_name="a form left open"), connect(database, application_name="test")
    line = object.__new__(WalLine)
    line.system, line.connection = "slow", ours
    with transaction(ours) as cursor:
        cursor.execute("CREATE PUBLICATION lienthong; CREATE TABLE t (a int)")
    with transaction(writer) as cursor:
        cursor.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(TransientError, match=rf"pid {writer.info.backend_pid}, .* application a form left open"):
            line.first_position()
    try:
        assert line.first_position() == "slot lienthong_slow"
    finally:
        line.forget_position()
        writer.close()
        ours.close()
