"""Three real brokers and worker sets that come and go under load: whatever joins, leaves or is killed, nothing is lost and nothing goes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

from benchmarks.scaling import happen
from benchmarks.scaling_city import ScalingCity, Watch, scaling_city
from benchmarks.servers import Servers

pytestmark = [pytest.mark.slow]

ROWS, SEED, RATE = 1000, 7, 60.0
LEASE_SECONDS_MAX = 45.0


@pytest.fixture(scope="module")
def city(stack_root: Path) -> Iterator[ScalingCity]:
    """A loaded city with two worker sets at work."""
    folder = stack_root / "scaling"
    folder.mkdir()
    folder.chmod(0o711)
    servers = Servers(folder)
    servers.start()
    try:
        with scaling_city(servers, rows=ROWS, seed=SEED) as made:
            made.join(1)
            made.load()
            yield made
    finally:
        servers.stop()


def test_a_set_joins_a_broker_and_the_leading_set_are_killed_and_nothing_is_lost(city: ScalingCity) -> None:
    """The broker stays away: two of three acknowledge. Nobody starts the killed set again: the other one takes everything over."""
    broker = Random(SEED).choice(city.cluster.brokers)
    with Watch(city) as watch, city.living(RATE):
        happen(city, watch, "set 2 joins", partial(city.join, 2))
        happen(city, watch, "a broker is killed", broker.kill)
        leader = city.leader()
        killed = happen(city, watch, "the leading set is killed", partial(city.leave, leader, killed=True))
    city.await_equal()
    verdict = city.judge()
    assert verdict.right, verdict
    assert verdict.rows > ROWS
    assert city.leader() == 3 - leader
    assert max(killed.longest_pause_seconds.values()) < LEASE_SECONDS_MAX


WRONGS = {
    "lost": "DELETE FROM copy WHERE dossier_code = (SELECT min(dossier_code) FROM copy)",
    "old": "UPDATE copy SET status = (status + 1) % 7 WHERE dossier_code = (SELECT max(dossier_code) FROM copy)",
    "twice": "INSERT INTO copy SELECT * FROM copy LIMIT 1",
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_the_judge_sees_a_single_row_that_is_wrong(city: ScalingCity, wrong: str) -> None:
    """What the test before rests on."""
    must, held = city.due["part-0"]
    copy = replace(held, relation="copy")
    with held.open() as at:
        at.execute("DROP TABLE IF EXISTS copy; CREATE TABLE copy AS TABLE dossier")
        assert copy.digest() == must.digest()
        at.execute(WRONGS[wrong])
        assert copy.digest() != must.digest()
