"""A ward that was away for long: it catches up from its topic, or, where that has moved on, from the hub; its own edits are kept."""

# ruff: noqa: S608 - names of our own in statements

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from lienthong import frames
from lienthong.apply import reload
from lienthong.route import topic_of
from tests.city import wait
from tests.lines_kit import Lines, lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVERYWHERE = ("portal", "ward_near", "ward_far")
_folders = count(1)


@pytest.fixture(scope="module")
def there(stack_root: Path) -> Iterator[Lines]:
    """A portal and two wards, one of them on a server of its own."""
    with lines(stack_root / "away") as made:
        yield made


@contextmanager
def away(there: Lines) -> Iterator[None]:
    """The far ward's server is down."""
    server = there.city.stack.postgres["far"]
    server.stop()
    try:
        yield
    finally:
        server.start()


def offline_edit(there: Lines, *statements: str) -> None:
    """Work done in the ward while the service does not run there: the capture and the apply are stopped meanwhile."""
    there.city.sql("ward_far", *statements)


def test_a_month_away_is_caught_up_from_the_topic_and_its_own_work_arrives(there: Lines) -> None:
    codes = [there.submit() for _ in range(6)]
    there.wait_same(*EVERYWHERE)
    there.stop("capture", "apply")
    offline_edit(
        there, f"UPDATE ho_so SET tt = 'xong' WHERE ma = '{codes[0]}'",
        f"UPDATE ho_so SET tt = 'dang_xu_ly' WHERE ma = '{codes[1]}'",
    )  # fmt: skip
    own = there.submit(at="ward_far", name="Nộp tại phường")
    with away(there):
        there.start("capture", "apply")
        for n, code in enumerate(codes):
            there.city.sql("portal", f"UPDATE ho_so SET ten = 'Tên mới {n}' WHERE ma = '{code}'")
        fresh = [there.submit() for _ in range(5)]
        for code in fresh:
            there.city.until("ward_near", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'", 1)
    there.wait_same(*EVERYWHERE, seconds=90)
    assert there.city.sql("portal", f"SELECT tt, ten FROM ho_so WHERE ma = '{codes[0]}'") == [("xong", "Tên mới 0")]
    assert there.city.sql("portal", f"SELECT tt FROM ho_so WHERE ma = '{codes[1]}'") == [("dang_xu_ly",)]
    assert there.city.sql("ward_near", f"SELECT ten FROM ho_so WHERE ma = '{own}'") == [("Nộp tại phường",)]


def held(there: Lines) -> None:
    there.wait_line("ward-far", "apply", "stopped", "lienthong resend ward-far", seconds=90)
    there.wait_line("ward-far", "capture", "stopped", "its own edits wait", seconds=90)


def test_when_its_topic_has_moved_on_it_is_told_again_before_it_may_speak(there: Lines) -> None:
    codes = [there.submit() for _ in range(8)]
    there.wait_same(*EVERYWHERE)
    there.stop("capture", "apply")
    offline_edit(there, f"UPDATE ho_so SET tt = 'xong' WHERE ma = '{codes[2]}'")
    own = there.submit(at="ward_far", name="Nộp khi mất mạng")
    with away(there):
        there.start("capture", "apply")
        there.city.sql("portal", f"UPDATE ho_so SET ten = 'Đổi khi phường vắng' WHERE ma = '{codes[2]}'")
        there.city.sql("portal", f"UPDATE ho_so SET ten = 'Cũng đổi' WHERE ma = '{codes[3]}'")
        there.city.sql("portal", f"DELETE FROM ho_so WHERE ma = '{codes[4]}'")
        gone = there.submit()
        there.wait_same("portal", "ward_near")
        there.delete_before(topic_of("ward-far"))
        late = there.submit()  # stands in the topic after what is gone
        there.city.until("ward_near", f"SELECT count(*) FROM ho_so WHERE ma = '{late}'", 1)
    held(there)
    held_back = "SELECT count(*) FROM hub.contribution WHERE system = 'ward-far' AND local_key = '{}'"
    assert there.city.sql("hub", held_back.format(own)) == [(0,)]
    assert there.city.sql("ward_far", f"SELECT count(*) FROM ho_so WHERE ma IN ('{gone}', '{late}')") == [(0,)]  # it never jumps
    assert there.line("ward-near", "apply")["state"] in ("normal", "late")  # nobody else waits
    done = there.city.cli("resend", "ward-far", "--json", seconds=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert there.city.sql("ward_far", f"SELECT tt FROM ho_so WHERE ma = '{codes[2]}'") == [("xong",)]
    there.wait_same(*EVERYWHERE, seconds=90)
    assert there.city.sql("portal", f"SELECT tt, ten FROM ho_so WHERE ma = '{codes[2]}'") == [("xong", "Đổi khi phường vắng")]
    assert there.city.sql("portal", f"SELECT ten FROM ho_so WHERE ma = '{own}'") == [("Nộp khi mất mạng",)]
    assert there.city.sql("ward_far", f"SELECT count(*) FROM ho_so WHERE ma = '{codes[4]}'") == [(0,)]  # it missed this delete
    there.wait_line("ward-far", "capture", "normal", seconds=60)
    again = there.city.json("resend", "ward-far")
    assert (again["resent"], again["still_different"], again["moved_to"]) == (0, 0, None)


def test_capture_asks_for_its_place_by_itself_before_it_sends(there: Lines) -> None:
    """The apply process may come later, or never: the ward's edits wait all the same."""
    there.submit()
    there.wait_same(*EVERYWHERE)
    there.stop("capture", "apply")
    there.submit()
    there.city.until("hub", "SELECT count(*) FROM hub.changed", 0)
    own = there.submit(at="ward_far")
    there.city.sql("portal", "UPDATE ho_so SET ghi_chu = 'một' WHERE tt = 'moi'")
    there.start("capture")
    there.stop("capture")
    portal = there.submit()
    there.start("capture")
    there.city.until("hub", f"SELECT count(*) FROM hub.record WHERE body ->> 'national_code' = '{portal}'", 1)
    there.city.until("hub", "SELECT count(*) FROM hub.changed", 0)
    there.stop("capture")
    there.delete_before(topic_of("ward-far"))
    second = there.submit(at="ward_far")
    there.start("capture")
    there.wait_line("ward-far", "capture", "stopped", "lienthong resend ward-far")
    assert there.city.sql("hub", f"SELECT count(*) FROM hub.contribution WHERE system = 'ward-far' AND local_key = '{second}'") == [(0,)]
    there.start("apply")
    held(there)
    assert there.city.cli("resend", "ward-far", seconds=120).returncode == 0
    there.wait_same(*EVERYWHERE, seconds=90)
    assert there.city.sql("portal", f"SELECT count(*) FROM ho_so WHERE ma IN ('{own}', '{second}')") == [(2,)]


def test_a_slot_that_was_lost_loses_no_edit_and_brings_no_old_state_back(there: Lines) -> None:
    codes = [there.submit() for _ in range(4)]
    there.wait_same(*EVERYWHERE)
    there.stop("capture", "apply")
    offline_edit(there, f"UPDATE ho_so SET tt = 'xong' WHERE ma = '{codes[0]}'")
    own = there.submit(at="ward_far", name="Nộp khi mất khe")
    invalidate_slot(there)
    with away(there):
        there.start("capture", "apply")
        for code in codes:
            there.city.sql("portal", f"UPDATE ho_so SET ten = 'Mới hơn' WHERE ma = '{code}'")
        there.wait_same("portal", "ward_near")
    there.wait_line("ward-far", "capture", "stopped", "lienthong load ward-far --new-epoch", seconds=90)
    done = there.city.cli("load", "ward-far", "--new-epoch", seconds=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "forgotten nothing" in done.stdout
    there.wait_same(*EVERYWHERE, seconds=90)
    found = there.city.sql("portal", f"SELECT ten, tt FROM ho_so WHERE ma IN ('{codes[0]}', '{codes[1]}') ORDER BY ma")
    assert found == [("Mới hơn", "xong"), ("Mới hơn", "moi")]
    assert there.city.sql("ward_near", f"SELECT ten FROM ho_so WHERE ma = '{own}'") == [("Nộp khi mất khe",)]
    code = there.submit(at="ward_far")
    there.city.until("portal", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'", 1)


def invalidate_slot(there: Lines) -> None:
    """As a server does whose log may not grow for a reader that is away."""
    there.city.sql("ward_far", "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'lienthong_ward_far'"
    for _ in range(20):
        there.city.sql("ward_far", "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000))", "SELECT pg_switch_wal()", "CHECKPOINT")
        if there.city.sql("ward_far", status) == [("lost",)]:
            break
    assert there.city.sql("ward_far", status) == [("lost",)]
    there.city.sql("ward_far", "ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")


def test_a_merge_whose_topic_has_moved_on_stops_and_one_command_cures_it(there: Lines) -> None:
    code = there.submit()
    there.wait_same(*EVERYWHERE)
    there.stop("merge")
    there.city.sql("portal", f"UPDATE ho_so SET ten = 'Trong lúc trung tâm nghỉ' WHERE ma = '{code}'")
    there.city.sql("ward_far", f"UPDATE ho_so SET tt = 'xong' WHERE ma = '{code}'")
    lost = there.submit(at="ward_far")
    time.sleep(3)  # captured, that is: in the topic
    there.delete_before(frames.TOPIC, partitions=4)
    there.submit(at="ward_near")
    there.start("merge")
    assert there.roles["merge"].wait(60) == 1
    assert "LT-KFK-003" in there.city.logs()
    assert there.line("portal", "merge")["state"] == "stopped"
    assert "lienthong load --all --new-epoch" in there.city.cli("status").stdout
    there.city.running.remove(there.roles.pop("merge"))
    done = there.city.cli("load", "--all", "--new-epoch", seconds=120)
    assert done.returncode == 0, done.stdout + done.stderr
    there.start("merge")
    there.wait_same(*EVERYWHERE, seconds=90)
    assert there.city.sql("portal", f"SELECT ten, tt FROM ho_so WHERE ma = '{code}'") == [("Trong lúc trung tâm nghỉ", "xong")]
    assert there.city.sql("ward_near", f"SELECT count(*) FROM ho_so WHERE ma = '{lost}'") == [(1,)]


@pytest.mark.parametrize(
    ("entitled", "applied", "differ", "unknown"),
    [
        ([], [], [], 0),
        ([(1, 5, "s")], [(1, 5, "")], [], 0),
        ([(1, 5, "s")], [(1, 4, "")], [1], 0),
        ([(1, 5, "s"), (2, 6, "w"), (4, 7, "s")], [(1, 5, ""), (3, 5, "")], [2, 4], 1),
        ([(2, 6, "m")], [(1, 5, "")], [], 1),
        ([(7, 6, "m")], [(7, 5, "")], [7], 0),
    ],
)
def test_what_a_target_lacks_is_found_side_by_side(
    entitled: list[tuple[int, int, str]], applied: list[tuple[int, int, str]], differ: list[int], unknown: int
) -> None:
    rows = {"entitled": iter(entitled), "applied": iter(applied)}
    compared = reload.Compared()
    reload.walk(compared, rows["entitled"], rows["applied"])
    assert (compared.differ, compared.unknown) == (differ, unknown)


def test_the_canary_is_nowhere(there: Lines) -> None:
    text = there.city.logs() + there.city.said
    assert not [name for name in ("Nguyễn Thị Ánh", "Nộp khi mất mạng", "Đổi khi phường vắng") if name in text]
    wait(lambda: there.city.cli("status").returncode == 0, 60, lambda: there.city.cli("status").stdout)
