"""Another number of partitions for `lienthong.in`, as the runbook says under Topics: step by step, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from lienthong import frames
from tests.city import wait
from tests.lines_kit import lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVERYWHERE = ("portal", "ward_near", "ward_far")
RUNBOOK = Path(__file__).resolve().parents[2] / "docs" / "runbook.md"
STEPS = "write the new number into `systems.yaml`,\n`lienthong load --all --new-epoch`, and start."


def test_the_topic_is_made_anew_with_more_partitions_and_everything_goes_on(stack_root: Path) -> None:
    assert STEPS in RUNBOOK.read_text("utf-8")
    with lines(stack_root / "partitions") as here:
        code = here.submit()
        here.wait_same(*EVERYWHERE)
        here.stop("capture")

        def merged() -> bool:
            return all(line["lag_seconds"] < 2 for line in here.city.json("lag")["lines"] if line["stage"] == "merge")

        wait(merged, 30, lambda: here.city.cli("lag").stdout)
        here.stop()
        here.city.sql("portal", f"UPDATE ho_so SET ten = 'Trong lúc dừng' WHERE ma = '{code}'")  # noqa: S608 - a code of our own
        admin = KafkaAdminClient(bootstrap_servers=here.city.environment["KAFKA_BOOTSTRAP"])
        admin.delete_topics([frames.TOPIC])
        wait(lambda: frames.TOPIC not in admin.list_topics(), 20)
        file = here.city.config / "systems.yaml"
        file.write_text(file.read_text("utf-8").replace("bootstrap: ", "partitions: 8, bootstrap: "), "utf-8")
        done = here.city.cli("load", "--all", "--new-epoch", seconds=120)
        assert done.returncode == 0, done.stdout + done.stderr + here.city.logs()[-3000:]
        here.start()
        here.wait_same(*EVERYWHERE, seconds=90)
        assert here.city.sql("ward_far", f"SELECT ten FROM ho_so WHERE ma = '{code}'") == [("Trong lúc dừng",)]  # noqa: S608
        assert len(next(t for t in admin.describe_topics([frames.TOPIC]))["partitions"]) == 8
        admin.close()
        wait(lambda: here.city.cli("status").returncode == 0, 60, lambda: here.city.cli("status").stdout)
        assert here.city.sql("hub", "SELECT count(*) FROM hub.entitled WHERE state <> 's'") == [(0,)]  # nothing was withdrawn meanwhile
        own = [here.submit(at=system) for system in EVERYWHERE]
        here.wait_same(*EVERYWHERE)
        assert here.city.sql("portal", "SELECT ma FROM ho_so ORDER BY ma") == [(one,) for one in sorted([code, *own])]
