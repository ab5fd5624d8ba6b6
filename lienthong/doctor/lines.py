"""The doctor at the lines: roles that do not run, leases, lines that stopped, loads, what is parked, the national portal."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from lienthong import status
from lienthong.doctor import Said
from lienthong.doctor.look import Look
from lienthong.problems import listed

PARKED_SOON = 50
"""So many newly parked within a quarter of an hour have one cause; the alert ParkedGrowing has the same limit."""
PARKED_LONG_SECONDS = 8 * 3600.0
PORTAL_LONG_SECONDS = 600.0
LOOKS, BETWEEN_SECONDS = 10, 0.2
"""Two processes that want one line write its state in turns, twice a second: so long it is looked for the word of the one that waits."""

_READERS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lienthong capture'"
_LEASES = """
SELECT l.system, c.lease_owner FROM hub.line l JOIN hub.capture_state c USING (system)
WHERE l.stage = 'capture' AND l.state = 'retrying' AND l.reason LIKE '%another process reads%' AND l.beat > clock_timestamp() - INTERVAL '5 s'
"""
# A load that is under way has its session at the hub.
_LOADS = """
SELECT w.system, l.n, c.waiting, EXISTS (SELECT FROM pg_stat_activity a WHERE a.application_name = 'lienthong load ' || w.system)
FROM unnest(%s::text[]) w(system)
LEFT JOIN (SELECT system, count(*) AS n FROM hub.loaded GROUP BY 1) l USING (system)
LEFT JOIN (SELECT system, count(*) FILTER (WHERE done_at IS NULL) AS waiting FROM hub.load_chunk GROUP BY 1) c USING (system)
WHERE coalesce(l.n, 0) < %s OR c.waiting > 0 ORDER BY 1
"""
_PARKED_SOON = """
SELECT system, count(*), mode() WITHIN GROUP (ORDER BY reason) FROM hub.parked
WHERE state = 'open' AND parked_at > clock_timestamp() - INTERVAL '15 min' GROUP BY 1 HAVING count(*) > %s ORDER BY 1
"""


def role(look: Look) -> Iterator[Said]:
    """Stages at which no process works."""
    quiet: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in look.lines:
        if line["state"] in ("silent", "not started"):
            quiet[line["stage"]].append(line)
    for stage, lines in quiet.items():
        said = "no process has ever worked there" if lines[0]["state"] == "not started" else str(lines[0]["reason"]).partition(":")[0]
        yield Said(stage, f"{listed([line['system'] for line in lines])}: {said}", f"lienthong run {stage}")
    probes = status.probes(look.settings)
    if look.settings.with_database() and (not probes or all(probe["state"] == "unwatched" for probe in probes)):
        yield Said("watch", "nobody sends probes, so a line that lives and does nothing would not be noticed", "lienthong run watch")


def lease(look: Look) -> Iterator[Said]:
    """Lines that two processes want."""
    wanted: dict[str, str] = {}
    for _ in range(LOOKS if look.hub(_READERS)[0][0] > 1 else 0):
        wanted |= dict(look.hub(_LEASES))
        time.sleep(BETWEEN_SECONDS)
    for system, owner in sorted(wanted.items()):
        host, _, pid = owner.partition("@")[2].rpartition(":")
        note = f"at {host}; or the other one: whichever of the two is not meant to run"
        yield Said(system, f"{owner} reads it, and another process waits for it to end", f"kill {pid}", note)


def stopped(look: Look) -> Iterator[Said]:
    """Lines that wait for a person."""
    for line in look.lines:
        if line["state"] == "stopped":
            named = re.search(r"`(lienthong [^`]+)`", line["reason"] or "")
            yield Said(f"{line['system']} {line['stage']}", str(line["reason"]), named[1] if named else "lienthong status")


def load(look: Look) -> Iterator[Said]:
    """Systems whose own records are not all known."""
    captured = [name for name, system in look.settings.systems.items() if system.capture != "none"]
    for system, partitions, waiting, is_under_way in look.hub(_LOADS, [captured, look.settings.kafka.partitions]):
        if is_under_way:
            continue
        if waiting:
            yield Said(system, f"its load was interrupted: {waiting} key ranges are still to be read", f"lienthong load {system} --resume")
        elif partitions is None:
            yield Said(system, "it was never loaded, or its load is not merged yet", f"lienthong load {system}")


def parked(look: Look) -> Iterator[Said]:
    """Parked records that become more, or wait for long."""
    for system, records, reason in look.hub(_PARKED_SOON, [PARKED_SOON]):
        found = f"{records:,} records were parked within a quarter of an hour, most of them for {reason}"
        yield Said(system, found, f"lienthong parked list --system {system} --reason {reason}", "cure the cause, then: lienthong parked replay")
    for waiting in status.parked_by_kind(look.settings):
        if waiting["oldest_age_seconds"] > PARKED_LONG_SECONDS:
            hours = waiting["oldest_age_seconds"] / 3600
            found = f"{waiting['records']:,} records ({waiting['kind']}) wait, the oldest for {hours:,.0f} hours"
            yield Said(waiting["system"], found, f"lienthong parked list --system {waiting['system']} --older-than 8h")


def portal(look: Look) -> Iterator[Said]:
    """A national portal that does not take what it is sent."""
    found = status.delivery(look.settings)
    if found is None:
        return
    closed = look.hub("SELECT service, failures FROM hub.gate WHERE opened_until IS NOT NULL ORDER BY 1")
    waiting = sum(found["states"][state] for state in ("pending", "sent", "unknown"))
    said = [f"{service} failed {failures} times in a row, so that it is left alone for a while" for service, failures in closed]
    if found["oldest_pending_seconds"] > PORTAL_LONG_SECONDS:
        said.append(f"the oldest message has waited for {found['oldest_pending_seconds'] / 60:,.0f} minutes")
    if said:
        note = "agree with its operator; messages go on by themselves"
        yield Said(found["system"], f"{'; '.join(said)}; {waiting:,} messages wait", "lienthong national status", note)
