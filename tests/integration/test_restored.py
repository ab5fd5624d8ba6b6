"""Sources and targets that went back in time: seen before anything of them is taken, chosen about by a person, and what they forgot is listed."""

# ruff: noqa: S608 - names of our own in statements

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lienthong.capture.witness import LOOK_SECONDS, Mark, missing
from lienthong.embedded import postgres as embedded
from lienthong.embedded.postgres import PostgresCluster
from tests.city import wait
from tests.lines_kit import Lines, lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVERYWHERE = ("portal", "ward_near", "ward_far")
REASON = "lienthong load ward-far --new-epoch"


@pytest.fixture(scope="module", params=["wal", "outbox"])
def there(request: pytest.FixtureRequest, stack_root: Path) -> Iterator[Lines]:
    """A portal and two wards, one of them on a server of its own, captured in either form."""
    with lines(stack_root / f"restored-{request.param}", far=request.param) as made:
        made.start("watch")
        yield made


def grow(there: Lines, megabytes: int = 1) -> None:
    """The log becomes long."""
    for _ in range(megabytes * 10):
        there.city.sql("ward_far", "SELECT pg_logical_emit_message(false, 'x', repeat('x', 100000))")


def contributed(there: Lines, code: str) -> int:
    found = there.city.sql("hub", f"SELECT count(*) FROM hub.contribution WHERE system = 'ward-far' AND local_key = '{code}'")
    return int(found[0][0])


def fenced(there: Lines, says: str) -> None:
    there.wait_line("ward-far", "capture", "stopped", says, seconds=90)
    assert REASON in there.line("ward-far", "capture")["reason"]


def new_epoch(there: Lines) -> tuple[int, dict[str, Any]]:
    """Choose the source as it is; exit code and what it has forgotten."""
    done = there.city.cli("load", "ward-far", "--new-epoch", "--json", seconds=120)
    return done.returncode, json.loads(done.stdout)["forgotten"]


def probed(there: Lines) -> None:
    """A probe has been written in the ward as it is now."""
    there.city.until("ward_far", "SELECT count(*) FROM lienthong.probe WHERE leg = 'in'", 1, 60)


def catch_up(there: Lines) -> None:
    there.wait_same(*EVERYWHERE, seconds=90)


def test_a_machine_that_was_set_back_is_not_read_until_a_person_has_chosen(there: Lines) -> None:
    kept, edited = there.submit(at="ward_far"), there.submit(at="ward_far")
    catch_up(there)
    copy = there.copied()
    forgotten = there.submit(at="ward_far", name="Sẽ bị quên")
    there.city.sql("ward_far", f"UPDATE ho_so SET tt = 'xong' WHERE ma = '{edited}'")
    grow(there)
    catch_up(there)
    there.stop("apply")
    there.put_back(copy)
    after = there.submit(at="ward_far", name="Sau khi khôi phục")
    fenced(there, "went back in time")
    grow(there, 3)  # its log is longer now than it ever was, and still it is not what it was
    there.stop("capture")
    there.start("capture")
    fenced(there, "went back in time")
    assert contributed(there, after) == 0
    refused = there.city.cli("load", "ward-far")
    assert refused.returncode == 1
    assert "went back in time" in refused.stderr
    assert there.city.cli("resume", "ward-far").returncode == 1
    code, document = new_epoch(there)
    assert code == 1
    assert [(r["local_key"], r["held_by"]) for r in document["records"]] == [(forgotten, ["portal", "ward-near"])]
    assert [(f["local_key"], f["fields"]) for f in document["fields"]] == [(edited, ["status"])]
    status = there.city.json("status")
    assert ("ward-far", "not_in_new_epoch") in {(p["system"], p["reason"]) for p in status["parked"]}
    there.wait_line("ward-far", "capture", "normal", seconds=90)
    there.start("apply")  # what it was sent after the copy comes again
    there.city.until("portal", f"SELECT ten FROM ho_so WHERE ma = '{after}'", "Sau khi khôi phục")
    assert there.city.sql("portal", f"SELECT ten FROM ho_so WHERE ma = '{forgotten}'") == [("Sẽ bị quên",)]
    there.city.until("ward_far", f"SELECT ten FROM ho_so WHERE ma = '{forgotten}'", "Sẽ bị quên")
    there.city.until("hub", "SELECT count(*) FROM hub.parked WHERE kind = 'ghost' AND state = 'open'", 0)
    there.city.sql("ward_far", f"UPDATE ho_so SET tt = 'dang_xu_ly' WHERE ma = '{kept}'")
    there.city.until("portal", f"SELECT tt FROM ho_so WHERE ma = '{kept}'", "dang_xu_ly")


def test_it_is_seen_although_the_log_has_grown_past_the_mark(there: Lines) -> None:
    """Nothing read it between the restore and the work after it: only a mark in the data itself can tell."""
    there.wait_line("ward-far", "capture", "normal", seconds=90)
    probed(there)
    copy = there.copied()
    before = there.city.sql("ward_far", "SELECT number FROM lienthong.probe WHERE leg = 'in'")[0][0]
    wait(lambda: there.city.sql("hub", "SELECT probe > %s FROM hub.source_mark WHERE system = 'ward-far'", arguments=[before]) == [(True,)], 60)
    there.stop("capture", "watch", "apply")  # apply looks too when it comes back to the server, and would see the short log
    there.put_back(copy)
    grow(there, 40)
    own = there.submit(at="ward_far")
    reached = there.city.sql("ward_far", "SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint")[0][0]
    assert there.city.sql("hub", "SELECT position < %s FROM hub.source_mark WHERE system = 'ward-far'", arguments=[reached]) == [(True,)]
    there.start("capture", "watch", "apply")
    fenced(there, "a mark that was written there is gone")
    assert contributed(there, own) == 0
    new_epoch(there)
    there.wait_line("ward-far", "capture", "normal", seconds=90)
    there.city.until("portal", f"SELECT count(*) FROM ho_so WHERE ma = '{own}'", 1)


def test_a_dump_that_was_put_back_into_the_same_database_is_seen(there: Lines) -> None:
    """The cluster, the database and the timeline are the same, and the log goes on."""
    there.wait_line("ward-far", "capture", "normal", seconds=90)
    probed(there)
    dumped = there.city.sql("ward_far", "SELECT leg, number FROM lienthong.probe")
    rows = there.city.sql("ward_far", "SELECT * FROM ho_so")
    number = dict(dumped)["in"]
    wait(lambda: there.city.sql("hub", "SELECT probe > %s FROM hub.source_mark WHERE system = 'ward-far'", arguments=[number]) == [(True,)], 60)
    own = there.submit(at="ward_far")
    there.city.until("portal", f"SELECT count(*) FROM ho_so WHERE ma = '{own}'", 1)
    there.stop("capture", "watch")
    there.city.sql("ward_far", "DELETE FROM lienthong.probe", "DELETE FROM ho_so")  # what pg_restore --clean --data-only does
    for row in rows:
        there.city.sql("ward_far", "INSERT INTO ho_so VALUES (%s, %s, %s, %s, %s, %s)", arguments=list(row))
    for row in dumped:
        there.city.sql("ward_far", "INSERT INTO lienthong.probe (leg, number) VALUES (%s, %s)", arguments=list(row))
    there.start("capture", "watch")
    fenced(there, "a mark that was written there is gone")
    assert there.city.sql("portal", f"SELECT count(*) FROM ho_so WHERE ma = '{own}'") == [(1,)]  # nobody lost it elsewhere
    done = there.city.cli("load", "ward-far", "--new-epoch", seconds=120)
    assert done.returncode == 1
    assert "forgotten by the source" in done.stdout
    assert own in done.stdout
    _, document = new_epoch(there)  # once more: the same is still forgotten
    assert own in {r["local_key"] for r in document["records"]}
    there.wait_line("ward-far", "capture", "normal", seconds=90)


def test_a_promoted_standby_asks_and_goes_on_when_nothing_was_lost(there: Lines) -> None:
    there.wait_line("ward-far", "capture", "normal", seconds=90)
    catch_up_far(there)
    promote(there)
    own = there.submit(at="ward_far")
    fenced(there, "its timeline was 1 and is 2")
    assert "lienthong resume ward-far" in there.line("ward-far", "capture")["reason"]
    assert contributed(there, own) == 0
    done = there.city.cli("resume", "ward-far")
    assert done.returncode == 0, done.stderr
    there.wait_line("ward-far", "capture", "normal", seconds=90)
    there.city.until("portal", f"SELECT count(*) FROM ho_so WHERE ma = '{own}'", 1)
    assert there.city.cli("resume", "ward-far").returncode == 1  # nothing is the matter


def catch_up_far(there: Lines) -> None:
    code = there.submit(at="ward_far")
    there.city.until("portal", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'", 1)


def as_standby(there: Lines) -> PostgresCluster:
    """The server comes up again with all it had, and follows nobody."""
    server = there.far
    server.stop()
    flag = there.data_of_far() / "standby.signal"
    flag.touch()
    shutil.chown(flag, user=embedded._servant())
    server.start()
    return server


def promote(there: Lines) -> None:
    """It is promoted: with all it had, on a timeline of its own."""
    as_standby(there)
    there.city.sql("ward_far", "SELECT pg_promote()")
    wait(lambda: there.city.sql("ward_far", "SELECT pg_is_in_recovery()") == [(False,)], 30)


def test_a_standby_is_not_read(there: Lines) -> None:
    server = as_standby(there)
    there.wait_line("ward-far", "capture", "retrying", "only a primary is read", seconds=60)
    server.stop()
    (there.data_of_far() / "standby.signal").unlink()
    server.start()
    there.wait_line("ward-far", "capture", "normal", seconds=90)


def test_a_crash_of_the_server_is_no_step_back(there: Lines) -> None:
    server = there.far
    for _ in range(3):
        code = there.submit(at="ward_far")
        server.kill()
        server.start()
        there.city.until("portal", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'", 1, 90)
    there.wait_line("ward-far", "capture", "normal", seconds=90)
    assert there.city.sql("hub", "SELECT fenced FROM hub.source_mark WHERE system = 'ward-far'") == [(None,)]


def test_a_target_that_was_set_back_is_filled_again_from_its_topic(there: Lines) -> None:
    """Position and rows went back together, so what came since is applied again and changes nothing that is right.

    It is a source too: until a person has chosen, nothing is written there.
    """
    early = there.submit()
    there.city.until("ward_far", f"SELECT count(*) FROM ho_so WHERE ma = '{early}'", 1)
    copy = there.copied()
    later = [there.submit() for _ in range(3)]
    there.city.sql("portal", f"UPDATE ho_so SET ten = 'Sau bản sao' WHERE ma = '{early}'")
    there.city.until("ward_far", f"SELECT count(*) FROM ho_so WHERE ma = '{later[-1]}'", 1)
    there.city.until("ward_far", f"SELECT ten FROM ho_so WHERE ma = '{early}'", "Sau bản sao")
    time.sleep(LOOK_SECONDS + 2)  # until the hub knows how far the system was: a shorter set-back cannot be seen
    there.put_back(copy)
    there.wait_line("ward-far", "apply", "stopped", "went back in time", seconds=90)
    fenced(there, "went back in time")
    assert there.city.sql("ward_far", f"SELECT count(*) FROM ho_so WHERE ma = '{later[0]}' OR ten = 'Sau bản sao'") == [(0,)]
    new_epoch(there)
    there.city.until("ward_far", f"SELECT ten FROM ho_so WHERE ma = '{early}'", "Sau bản sao", 90)
    for code in later:
        there.city.until("ward_far", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'", 1)
    assert any(event.get("action") == "apply_target_went_back" for event in there.city.events())
    there.wait_line("ward-far", "capture", "normal", seconds=90)
    assert there.city.sql("portal", f"SELECT ten FROM ho_so WHERE ma = '{early}'") == [("Sau bản sao",)]


@pytest.fixture(scope="module")
def numbered(stack_root: Path) -> Iterator[Lines]:
    """The far ward numbers its dossiers, and nothing but that number is unique there."""
    with lines(stack_root / "restored-numbered", numbered=True) as made:
        made.start("watch")
        yield made


def numbers(there: Lines) -> dict[str, int]:
    return dict(there.city.sql("ward_far", "SELECT ma, id FROM ho_so"))


def test_what_comes_again_is_not_written_to_rows_that_have_got_the_numbers_since(numbered: Lines) -> None:
    """What is applied again was sent when the ward's rows had other numbers: of its own dossiers, and of those it was sent."""
    there = numbered
    kept = there.submit(at="ward_far")
    catch_up(there)
    copy = there.copied()
    forgotten = there.submit(at="ward_far")
    there.city.until("portal", f"SELECT count(*) FROM ho_so WHERE ma = '{forgotten}'", 1)
    sent, erased = there.submit(), there.submit()
    catch_up(there)
    before = numbers(there)
    there.city.sql("portal", "UPDATE ho_so SET ten = 'Cổng sửa'")
    catch_up(there)
    there.city.sql("portal", f"DELETE FROM ho_so WHERE ma = '{erased}'")
    there.city.until("ward_far", f"SELECT count(*) FROM ho_so WHERE ma = '{erased}'", 0)
    catch_up(there)
    assert numbers(there) == {code: number for code, number in before.items() if code != erased}
    time.sleep(LOOK_SECONDS + 2)
    there.put_back(copy)
    after = {there.submit(at="ward_far", name=f"Sau {n}"): f"Sau {n}" for n in range(3)}
    taken = numbers(there)
    assert {taken[code] for code in after} == {before[code] for code in (forgotten, sent, erased)}
    there.wait_line("ward-far", "apply", "stopped", "went back in time", seconds=90)
    fenced(there, "went back in time")
    there.stop("merge")
    assert there.city.cli("load", "ward-far", "--new-epoch").returncode == 0  # what is forgotten, nobody knows yet
    there.wait_line("ward-far", "apply", "retrying", "begins a new life", seconds=60)
    assert numbers(there) == taken
    there.start("merge")
    catch_up(there)
    named = dict(there.city.sql("ward_far", "SELECT ma, ten FROM ho_so"))
    assert named == dict.fromkeys((kept, forgotten, sent), "Cổng sửa") | after
    assert {code: numbers(there)[code] for code in taken} == taken
    former = [(f"{before[code]} (epoch 1)",) for code in (forgotten, sent)]  # they were asked about until they were back
    assert there.city.sql("hub", "SELECT local_key FROM hub.parked WHERE kind = 'ghost' ORDER BY 1") == former
    there.city.until("hub", "SELECT count(*) FROM hub.parked WHERE kind = 'ghost' AND state = 'open'", 0)
    assert there.city.sql("ward_far", "SELECT count(*) FROM lienthong.parked") == [(0,)]
    assert there.city.json("reconcile", "--full")["differences"] == []


@pytest.mark.parametrize(
    ("known", "now", "lost"),
    [
        (Mark(1, 100, 5), Mark(1, 100, 5), False),
        (Mark(1, 100, 5), Mark(1, 101, 6), False),
        (Mark(1, 100, 0), Mark(1, 100, 7), False),
        (Mark(1, 100, 5), Mark(2, 100, 5), False),
        (Mark(1, 100, 5), Mark(1, 99, 5), True),
        (Mark(1, 100, 5), Mark(1, 900, 4), True),
        (Mark(1, 100, 5), Mark(1, 900, 0), True),
        (Mark(2, 100, 5), Mark(1, 900, 5), True),
        (Mark(1, 100, 5), Mark(2, 99, 5), True),
    ],
)
def test_what_shows_that_something_is_missing(known: Mark, now: Mark, lost: bool) -> None:
    assert (missing(known, now) is not None) == lost
