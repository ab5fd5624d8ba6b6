"""A system that went back in time and has missed what was sent to it as well: there is always one way out, and every refusal names it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lienthong.capture.witness import LOOK_SECONDS
from lienthong.route import topic_of
from tests.lines_kit import Lines, lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVERYWHERE = ("portal", "ward_near", "ward_far")
LOAD, RESEND = "lienthong load ward-far --new-epoch", "lienthong resend ward-far"


@pytest.fixture(scope="module")
def there(stack_root: Path) -> Iterator[Lines]:
    """A portal and two wards, of which one has a server of its own."""
    with lines(stack_root / "restored-and-held") as made:
        made.start("watch")
        yield made


def refused(there: Lines, *command: str) -> str:
    done = there.city.cli(*command, seconds=60)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def away_until_its_topic_has_moved_on(there: Lines) -> list[str]:
    """What was submitted meanwhile: one dossier that is gone from the topic, and one that stands there after it."""
    there.stop("apply", "capture")
    there.far.stop()
    there.start("apply", "capture")
    codes = []
    for is_gone in (True, False):
        codes.append(there.submit())
        there.city.until("ward_near", f"SELECT count(*) FROM ho_so WHERE ma = '{codes[-1]}'", 1)  # noqa: S608
        if is_gone:
            there.delete_before(topic_of("ward-far"))
    there.far.start()
    return codes


def test_a_system_that_is_fenced_and_held_has_one_way_out_and_it_is_named(there: Lines) -> None:
    early, own = there.submit(), there.submit(at="ward_far")
    there.wait_same(*EVERYWHERE, seconds=90)
    time.sleep(LOOK_SECONDS + 2)  # until the hub knows how far the system was
    copy = there.copied()
    forgotten = there.submit(at="ward_far")
    there.city.sql("portal", f"UPDATE ho_so SET ten = 'Đổi sau bản sao' WHERE ma = '{early}'")  # noqa: S608
    there.wait_same(*EVERYWHERE, seconds=90)
    time.sleep(LOOK_SECONDS + 2)
    missed = away_until_its_topic_has_moved_on(there)
    there.wait_line("ward-far", "capture", "stopped", RESEND, seconds=90)
    assert RESEND in refused(there, "load", "ward-far", "--new-epoch")  # it is held, and that is all that is the matter

    there.put_back(copy)
    there.wait_line("ward-far", "capture", "stopped", "went back in time", seconds=90)
    there.wait_line("ward-far", "apply", "stopped", "went back in time", seconds=90)
    begun = time.monotonic()
    says = refused(there, "resend", "ward-far")
    assert time.monotonic() - begun < 30
    assert LOAD in says
    assert says.index(LOAD) < says.index(RESEND)

    there.stop("merge")
    assert there.city.cli("load", "ward-far", "--new-epoch", seconds=120).returncode == 0  # what it has forgotten nobody knows yet
    there.wait_line("ward-far", "capture", "stopped", RESEND, seconds=90)
    done = there.city.cli("resend", "ward-far", seconds=60)
    assert (done.returncode, "lienthong load ward-far" in done.stderr, RESEND in done.stderr) == (3, True, True), done.stderr
    assert there.city.cli("load", "ward-far", seconds=120).returncode == 0  # as that says, where no load runs
    there.start("merge")
    there.city.until(
        "hub", "SELECT min(l.epoch) = min(s.epoch) FROM hub.loaded l JOIN hub.capture_state s USING (system) WHERE system = 'ward-far'", True
    )

    done = there.city.cli("resend", "ward-far", "--json", seconds=120)
    assert done.returncode == 0, done.stdout + done.stderr
    there.wait_same(*EVERYWHERE, seconds=90)
    there.wait_line("ward-far", "capture", "normal", seconds=90)
    held = dict(there.city.sql("ward_far", "SELECT ma, ten FROM ho_so"))
    assert set(held) == {early, own, forgotten, *missed}
    assert held[early] == "Đổi sau bản sao"
