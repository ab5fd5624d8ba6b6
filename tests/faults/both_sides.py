"""Faults of two sides and of time: edits on both sides of a cut, a source set back, an overload, a wrong clock (matrix 16, 17, 21, 44)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import psycopg2

from lienthong.embedded.process import run as run_program
from tests.faults.data import at_ward, submit
from tests.faults.kills import memory_mb
from tests.faults.load import CANARY
from tests.faults.stack import FaultCity
from tests.faults.suite import Run, Skipped, fault
from tests.faults.topics import line_state

SPLIT_SECONDS = 20.0
OVERLOAD, OVERLOAD_SECONDS = 400.0, 20.0
WITNESS_SECONDS = 6.0  # so often the service notes how far a source is, and a second more
AGENT_ROLES = ("capture", "apply")
PORTAL_EDIT = "UPDATE application SET remark = remark || %s, answer = 'of the portal' WHERE code LIKE %s"
WARD_EDIT = "UPDATE ho_so SET y_kien = 'of the ward', trang_thai = 4, ghi_chu = ghi_chu || %s WHERE ma_qg LIKE %s"


@fault(21, "the same records edited on both sides of a cut", clean_seconds=90.0)
def both_sides(city: FaultCity, run: Run) -> Iterator[None]:
    if city.proxy is None:
        raise Skipped("Toxiproxy cannot be built: there is no `go`")
    tag = city.random.randrange(10**6)
    codes = [f"P-both-{tag}-{number}" for number in range(10)]
    for code in codes:
        submit(city, code)
    city.expect(lambda: all(at_ward(city, code) for code in codes), "the ward must have the dossiers before the cut", 45)
    begun = city.hub("SELECT coalesce(max(id), 0) FROM hub.correction")[0][0]
    with run.injection(), city.proxy.down("ward"):
        _edit(city, tag)
        time.sleep(SPLIT_SECONDS / 2)
        _edit(city, tag)
        run.check(line_state(city, "portal", "capture")[0] == "running", "the side that is there must go on")
        time.sleep(SPLIT_SECONDS / 2)
    yield
    asked = "SELECT field, count(*) FROM hub.correction WHERE id > %s AND system = 'ward-a' AND asked IS DISTINCT FROM golden GROUP BY 1"
    both = dict(city.hub(asked, [begun]))
    run.note(f"conflicts kept with both values: {both}")
    run.check(both.get("note", 0) >= len(codes), "where the other side's word counts, the one that lost must be kept beside it")


def _edit(city: FaultCity, tag: int) -> None:
    """The portal its own remark, the ward its own answer, and each the other's: who is competent must win on both sides."""
    codes = [f"P-both-{tag}-%"]
    city.sql("portal", PORTAL_EDIT, arguments=[f" {CANARY} portal", *codes])
    city.sql("ward_a", WARD_EDIT, arguments=[f" {CANARY} ward", *codes])


@fault(16, "source set back to an older copy of itself", rate=0, fresh=True, clean_seconds=120.0)
def set_back(city: FaultCity, run: Run) -> None:
    """What the portal was told had been committed is what must stand everywhere in the end, also what it has forgotten."""
    for number in range(6):
        submit(city, f"P-kept-{number}")
    city.clean(40)
    copy = _copied(city)
    codes = [f"P-forgotten-{number}" for number in range(6)]
    for code in codes:
        submit(city, code)
    city.expect(lambda: all(at_ward(city, code) for code in codes), "the ward must have what the portal will forget")
    city.sql("ward_a", "UPDATE ho_so SET trang_thai = 4, can_bo = 'after the copy' WHERE ma_qg LIKE 'P-%%'", arguments=[])
    city.clean(40)
    said = city.sql(
        "portal", "SELECT tbl, op, now::text, before::text, app FROM witness.wrote WHERE now ->> 'code' LIKE 'P-forgotten-%%'", arguments=[]
    )
    said = [line for line in said if not line[4].startswith("lienthong")]
    time.sleep(WITNESS_SECONDS)
    with run.injection():
        _put_back(city, copy)
        for line in said:
            city.sql("portal", 'INSERT INTO witness.wrote (tbl, op, now, before, app) VALUES (%s, %s::"char", %s, %s, %s)', arguments=line)
        submit(city, "P-after")  # it takes the local key of one that is forgotten
        city.expect(lambda: "went back in time" in line_state(city, "portal", "capture")[1], "the line must stop and say why", 60)
        time.sleep(2)
        run.check(not at_ward(city, "P-after"), "nothing of it may be taken before a person has chosen")
    done = city.cli("load", "portal", "--new-epoch", "--json", seconds=120)
    listed = json.loads(done.stdout)["forgotten"]["records"]
    run.note(f"{len(listed)} records were listed as forgotten")
    run.check(done.returncode == 1, f"what is forgotten must be told: exit {done.returncode}")
    run.check(len([r for r in listed if r["entity"] == "dossier"]) == len(codes), "every forgotten dossier must be listed")
    epoch = city.hub("SELECT epoch FROM hub.capture_state WHERE system = 'portal'")[0][0]
    run.check(epoch >= 1, "a new life must have a new epoch")


def _data(city: FaultCity) -> Path:
    return city.stack.postgres["central"]._data.resolve()


def _copied(city: FaultCity) -> Path:
    """A copy of the portal's machine."""
    server, copy = city.stack.postgres["central"], _data(city).with_name("copy")
    server.stop()
    run_program(["cp", "-a", str(_data(city)), str(copy)])
    server.start()
    return copy


def _put_back(city: FaultCity, copy: Path) -> None:
    server, data = city.stack.postgres["central"], _data(city)
    server.stop()
    shutil.rmtree(data)
    run_program(["cp", "-a", str(copy), str(data)])
    server.start()
    shutil.rmtree(copy)


@fault(44, "ten times the load", clean_seconds=240.0)
def overload(city: FaultCity, run: Run) -> None:
    before = {role: memory_mb(process.pid) for role, process in city.roles.items()}
    pids = {role: process.pid for role, process in city.roles.items()}
    city.stop_load()
    city.start_load(OVERLOAD)
    started = time.monotonic()
    with run.injection():
        time.sleep(OVERLOAD_SECONDS / 2)
        begun = time.monotonic()
        with urlopen(f"http://127.0.0.1:{city.metrics_ports['serve']}/metrics", timeout=10) as answer:
            run.check(b"lienthong_" in answer.read(), "the metrics must be answered under load")
        run.note(f"metrics answered in {time.monotonic() - begun:.1f} s")
        run.check(city.cli("status", "--json", seconds=60).returncode in (0, 1), "the status must be told under load")
        time.sleep(OVERLOAD_SECONDS / 2)
    done = city.stop_load()
    rate = sum(done.values()) / (time.monotonic() - started)
    run.note(f"{rate:.0f} transactions a second; {OVERLOAD:.0f} were tried")
    grown = {role: memory_mb(pid) - before[role] for role, pid in pids.items() if city.roles[role].pid == pid}
    run.check(len(grown) == len(pids), "no role may end")
    run.check(all(megabytes < 150 for megabytes in grown.values()), f"memory must be bounded: {grown}")
    city.start_load()


@fault(17, "the clock of an agent an hour ahead, then an hour behind", clean_seconds=90.0)
def wrong_clock(city: FaultCity, run: Run) -> None:
    found = find_spec("libfaketime")
    if found is None or found.origin is None:
        raise Skipped("libfaketime is not installed: pip install libfaketime")
    file = city.folder / "clock"
    skew = {
        "LD_PRELOAD": str(Path(found.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"), "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    _set_clock(file, "+1h")
    if not _is_skewed({**city.environment, **skew}):
        raise Skipped("libfaketime's library does not work on this machine")
    for role in AGENT_ROLES:
        city.role_environment[role] = skew
        city.kill_role(role)
    tag = city.random.randrange(10**6)
    try:
        for number, offset in enumerate(("+1h", "-1h", "+0")):
            with run.injection():
                _set_clock(file, offset)
                code = f"P-clock-{tag}-{number}"
                submit(city, code)
                city.expect(lambda code=code: at_ward(city, code) == 1, f"clock {offset}: a dossier must arrive", 45)
                _later_wins(city, code)
                time.sleep(2)
    finally:
        for role in AGENT_ROLES:
            del city.role_environment[role]
            city.kill_role(role)


def _set_clock(file: Path, offset: str) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(offset + "\n")
    draft.rename(file)


def _is_skewed(environment: dict[str, str]) -> bool:
    """Whether a process with this environment has another time than we."""
    told = subprocess.run([sys.executable, "-c", "import time; print(time.time())"], env=environment, capture_output=True, text=True, check=False)
    return told.returncode == 0 and float(told.stdout) - time.time() > 3000


def _later_wins(city: FaultCity, code: str) -> None:
    """Two corrections, one after the other: the second is what stands, whatever the clock says."""
    with closing(psycopg2.connect(city.environment["PORTAL_DSN"])) as connection:
        for text in ("first", "second"):
            with connection, connection.cursor() as cursor:
                cursor.execute("UPDATE application SET remark = %s WHERE code = %s", [f"{CANARY} {text}", code])
    standing = "SELECT count(*) FROM ho_so WHERE ma_qg = %s AND ghi_chu = %s"

    def same() -> bool:
        remark = city.sql("portal", "SELECT remark FROM application WHERE code = %s", arguments=[code])[0][0]  # a citizen may correct it too
        return bool(city.sql("ward_a", standing, arguments=[code, remark])[0][0]) and "first" not in remark

    city.expect(same, "the later correction must stand", 45)
