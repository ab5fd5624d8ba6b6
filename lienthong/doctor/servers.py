"""The doctor at the servers: logins, addresses, topics, our schema, slots, clocks. What `lienthong check` finds too is taken from there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from lienthong import hub_schema
from lienthong.doctor import Said
from lienthong.doctor.look import Look
from lienthong.problems import Problem, listed

THIS_MACHINE = "this machine"
CLOCK_LIMIT_SECONDS = 2.0
RETAINED_LIMIT_BYTES = 10 * 2**30
"""So much log kept for a slot that is read is worth a word; the alert SourceWalGrowing has the same limit."""
IDLE_LIMIT_BYTES = 2**30
"""So much kept for a slot that nobody reads, not even we: its reader is gone, or away for long."""
ROOM_SHARE = 0.25
"""A source that limits what it keeps for a slot has less than this share of it left."""
DISK_SHARE = 0.1
_OTHERS = ("CHK-LOGIN", "CHK-DOWN", "CHK-TOPIC", "CHK-SLOT")


def _of(look: Look, code: str) -> Iterator[Problem]:
    return (problem for problem in look.problems if problem.code == code)


def login(look: Look) -> Iterator[Said]:
    """Servers that answer and do not let us in."""
    for problem in _of(look, "CHK-LOGIN"):
        name = problem.file
        found = f"{look.address(name)}: {problem.message.removeprefix('cannot be reached: ')}"
        command = "lienthong check" if name in ("hub", "kafka") else f"lienthong check --system {name}"
        what = "kafka.security" if name == "kafka" else "the variable of its dsn"
        yield Said(name, found, command, f"with {what} corrected; when it says nothing of it any more, restart lienthong run")


def unreachable(look: Look) -> Iterator[Said]:
    """Servers that do not answer."""
    for problem in _of(look, "CHK-DOWN"):
        unit = "kafka" if problem.file == "kafka" else "postgresql"
        note = f"at {look.address(problem.file)}; if it runs there, look at the network between, and at its address in the configuration"
        yield Said(problem.file, problem.message.removeprefix("cannot be reached: "), f"systemctl start {unit}", note)


def topics(look: Look) -> Iterator[Said]:
    """Topics that are missing, have another number of partitions, or keep less than is needed."""
    for problem in _of(look, "CHK-TOPIC"):
        place = problem.path or "kafka"
        if "kafka-configs.sh" in problem.hint:
            bootstrap = f"--bootstrap-server {look.settings.kafka.bootstrap}"
            yield Said(place, problem.message, problem.hint.replace("--bootstrap-server …", bootstrap))
        elif "first start" in problem.hint:
            yield Said(place, problem.message, "lienthong run", "restarted: each role makes the topics that are missing")
        else:
            yield Said(place, problem.message, "lienthong check", f"after this: {problem.hint}")


def installation(look: Look) -> Iterator[Said]:
    """Systems in which something of ours is missing, or a right."""
    wrong: dict[str, list[Problem]] = defaultdict(list)
    for problem in look.problems:
        if problem.code not in _OTHERS and problem.severity == "error":
            wrong[problem.file].append(problem)
    for name, problems in wrong.items():
        found = listed([f"{problem.path}: {problem.message}" if problem.path else problem.message for problem in problems])
        if any("check --sql" in problem.hint for problem in problems):
            note = f"its administrator runs the script: psql -1 -v ON_ERROR_STOP=1 -f {name}.sql"
            yield Said(name, found, f"lienthong check --sql {name} > {name}.sql", note)
        else:
            command = "lienthong check" if name == "hub" else f"lienthong check --system {name}"
            yield Said(name, found, command, listed([problem.hint for problem in problems if problem.hint]))


def hub_schema_of(look: Look) -> Iterator[Said]:
    """A hub whose tables are not those of this release."""
    if not look.has("tables"):
        yield Said("hub", "the hub is empty: it was never set up, or this is another database than it was", "lienthong run")
    elif look.hub("SELECT value FROM hub.setting WHERE name = 'schema'") != [(hub_schema.wanted(),)]:
        note = "restarted with this release: the first role completes the schema"
        yield Said("hub", "its schema was made by another release than this program is of", "lienthong run", note)


def slot(look: Look) -> Iterator[Said]:
    """Replication slots that nobody reads, that are gone, or for which much is kept."""
    begun = {name for (name,) in look.hub("SELECT system FROM hub.capture_state")}
    for name, sight in look.sights.items():
        kept = f"{(sight.wal_retained_bytes or 0) / 2**20:,.0f} MiB of its log are kept for it"
        if sight.slot is None or name not in begun:
            continue
        if sight.slot in ("absent", "lost"):
            word = "gone" if sight.slot == "absent" else "invalidated"
            yield Said(name, f"our replication slot is {word}: changes were missed", f"lienthong load {name} --new-epoch")
        elif sight.slot == "inactive":
            yield Said(name, f"nobody reads our replication slot; {kept}", f"lienthong run capture --system {name}")
        elif (sight.wal_retained_bytes or 0) > RETAINED_LIMIT_BYTES:
            yield Said(name, f"our replication slot is read, but far behind: {kept}", f"lienthong probe --system {name}")


def space(look: Look) -> Iterator[Said]:
    """Room that runs out: at a source before it gives our slot up, for slots of others, on the brokers' disks."""
    yield from _room(look)
    for address, slots in look.idle_slots.items():
        for name, kept in slots.items():
            if kept > IDLE_LIMIT_BYTES:
                found = f"{kept / 2**20:,.0f} MiB of log are kept for the slot {name}, which nobody reads"
                note = f"at {address}, when its reader is gone for good (a standby, a system that was taken out); else bring the reader back"
                yield Said(f"{address}", found, f"psql -c \"SELECT pg_drop_replication_slot('{name}')\"", note)
    for disk in look.disks:
        if disk.free_bytes < DISK_SHARE * disk.total_bytes:
            found = f"{disk.free_bytes / 2**30:,.1f} of {disk.total_bytes / 2**30:,.1f} GiB are free in {disk.folder}"
            command = f"kafka-log-dirs.sh --bootstrap-server {look.settings.kafka.bootstrap} --describe"
            yield Said(f"broker {disk.broker}", found, command, "shows what takes the room: give it a larger disk before it is full")


def _room(look: Look) -> Iterator[Said]:
    """Sources that will give our slot up when its log has grown a little more."""
    for name, sight in look.sights.items():
        kept, left = sight.wal_retained_bytes or 0, sight.wal_safe_bytes
        if left is None or left >= ROOM_SHARE * (kept + left):
            continue
        found = f"{kept / 2**20:,.0f} MiB of log are kept for our slot, and after {max(left, 0) / 2**20:,.0f} MiB more it is given up"
        enough = f"{max(4 * (kept + left) // 2**20, 1024)}MB"
        command = f"psql -c \"ALTER SYSTEM SET max_slot_wal_keep_size = '{enough}'\" -c 'SELECT pg_reload_conf()'"
        cause = "nobody reads it: lienthong run capture" if sight.slot == "inactive" else "capture reads it and is behind: lienthong status"
        yield Said(name, found, command, f"at {look.address(name)}, if its disk has the room; {cause}")


def clock(look: Look) -> Iterator[Said]:
    """Clocks that differ from the hub's."""
    hub = look.sights["hub"].clock_ahead_seconds if "hub" in look.sights else 0.0
    off = {name: sight.clock_ahead_seconds - hub for name, sight in look.sights.items() if name != "hub"}
    at = {name: look.address(name) for name in off}
    wrong: dict[str, list[str]] = defaultdict(list)
    for name, seconds in {**off, THIS_MACHINE: -hub}.items():
        if abs(seconds) > CLOCK_LIMIT_SECONDS:
            wrong[at.get(name, THIS_MACHINE)].append(name)
    for host, names in wrong.items():
        seconds = off.get(names[0], -hub)
        found = f"its clock is {abs(seconds):,.1f} s {'ahead of' if seconds > 0 else 'behind'} the hub's"
        yield Said(listed(names), found, "timedatectl set-ntp true && chronyc makestep", f"at {host}, unless it is the hub's clock that is wrong")
