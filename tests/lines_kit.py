"""A portal and two wards with one small layout, for tests of whole lines: each role is a process of its own that a test may stop."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import PolicyViolationError

from lienthong.embedded.postgres import PostgresCluster
from lienthong.embedded.process import run
from tests.city import AUTHORITY, PROFILE, TABLE, City, city, wait

SYSTEMS = """
version: 1
hub: {{dsn: "${{HUB_DSN}}"}}
kafka: {{bootstrap: "${{KAFKA_BOOTSTRAP}}"}}
systems:
  portal: {{profile: simple, dsn: "${{PORTAL_DSN}}", capture: wal, kind: portal, lag_limit_seconds: {limit}}}
  ward-near: {{profile: simple, dsn: "${{WARD_NEAR_DSN}}", capture: outbox, kind: ward, lag_limit_seconds: {limit}}}
  ward-far: {{profile: {profile}, dsn: "${{WARD_FAR_DSN}}", capture: {far}, kind: ward, lag_limit_seconds: {limit}}}
"""
CONTRACTS = """
version: 1
contracts:
  portal: {system: portal, purpose: test, legal_ground: test, entities: {dossier: {}}}
  near: {system: ward-near, purpose: test, legal_ground: test, entities: {dossier: {}}}
  far: {system: ward-far, purpose: test, legal_ground: test, entities: {dossier: {}}}
"""
DATABASES = (("portal", "central"), ("ward_near", "central"), ("ward_far", "far"))
NUMBERED = "ALTER TABLE ho_so DROP CONSTRAINT ho_so_pkey, ADD id bigserial PRIMARY KEY"
CONTENT = "SELECT ma, tthc, ten, tt, ghi_chu FROM ho_so ORDER BY ma"
ALL_ROLES = ("capture", "merge", "route", "apply")
_numbers = count(1)


class Lines:
    """A city whose roles run as single processes."""

    def __init__(self, made: City) -> None:
        self.city = made
        self.roles: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *roles: str) -> None:
        """Start roles that do not run."""
        for role in roles or ALL_ROLES:
            self.roles[role] = self.city.start("run", role, log=f"{role}.log")

    def stop(self, *roles: str) -> None:
        """End roles cleanly."""
        for role in roles or tuple(self.roles):
            process = self.roles.pop(role)
            process.send_signal(signal.SIGTERM)
            process.wait(40)
            self.city.running.remove(process)

    @contextmanager
    def frozen(self, role: str) -> Iterator[None]:
        """A role that looks alive to the system and does nothing."""
        self.roles[role].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.roles[role].send_signal(signal.SIGCONT)

    def load(self, *systems: str) -> None:
        """The initial load."""
        for system in systems or ("portal", "ward-near", "ward-far"):
            done = self.city.cli("load", system)
            assert done.returncode == 0, done.stderr

    def submit(self, at: str = "portal", name: str = "Nguyễn Thị Ánh") -> str:
        """A new dossier in one system; its code."""
        code = f"H29-{next(_numbers):06}"
        self.city.sql(at, "INSERT INTO ho_so VALUES (%s, '1.001', '2026-03-02 08:00+07', %s, 'moi', NULL)", arguments=[code, name])
        return code

    def same(self, *databases: str) -> bool:
        """Whether these databases hold the same, by plain SQL."""
        found = [self.city.sql(name, CONTENT) for name in databases]
        return all(one == found[0] for one in found)

    def wait_same(self, *databases: str, seconds: float = 60.0) -> None:
        """Wait until they do."""
        wait(lambda: self.same(*databases), seconds, lambda: self._differences(databases))

    def _differences(self, databases: Sequence[str]) -> str:
        held = {name: set(self.city.sql(name, CONTENT)) for name in databases}
        common = set.intersection(*held.values())
        extra = {name: sorted(map(str, rows - common))[:10] for name, rows in held.items()}
        return f"{extra}\n{self.city.cli('status').stdout}\n{self.city.logs()[-5000:]}"

    def line(self, system: str, stage: str) -> dict[str, Any]:
        """How one line stands."""
        found: list[dict[str, Any]] = self.city.json("status")["lines"]
        return next(line for line in found if (line["system"], line["stage"]) == (system, stage))

    def wait_line(self, system: str, stage: str, state: str, says: str = "", seconds: float = 60.0) -> dict[str, Any]:
        """Wait until a line is in a state, for a reason that has some words in it."""

        def reached() -> bool:
            line = self.line(system, stage)
            return line["state"] == state and says in (line["reason"] or "")

        wait(reached, seconds, lambda: f"{self.city.cli('status').stdout}\n{self.city.logs()[-5000:]}")
        return self.line(system, stage)

    # ------------------------------------------------------------ what befalls the far ward and its topic
    @property
    def far(self) -> PostgresCluster:
        """The far ward's own server."""
        return self.city.stack.postgres["far"]

    def data_of_far(self) -> Path:
        """Its data folder."""
        return self.far._data.resolve()

    def copied(self) -> Path:
        """A copy of the far ward's whole machine, as a snapshot of its virtual disk is."""
        data = self.data_of_far()
        copy = data.with_name(f"{data.name}-copy")
        self.far.stop()
        shutil.rmtree(copy, ignore_errors=True)
        run(["cp", "-a", str(data), str(copy)])
        self.far.start()
        return copy

    def put_back(self, copy: Path) -> None:
        """The machine is what it was when it was copied."""
        data = self.data_of_far()
        self.far.stop()
        shutil.rmtree(data)
        run(["cp", "-a", str(copy), str(data)])
        self.far.start()

    def delete_before(self, topic: str, partitions: int = 1) -> None:
        """What retention does in the end: everything that is in the topic now goes."""
        assert self.city.stack.kafka is not None
        admin = KafkaAdminClient(bootstrap_servers=self.city.stack.kafka.bootstrap)
        policy = "compact" if topic.startswith("lienthong.out.") else "delete"
        for wanted in ("delete", policy):  # a compacted topic must be told first that it may
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": wanted})])
            if wanted == "delete":
                wait(lambda: _deleted(admin, topic, partitions), 30)
        admin.close()


def _deleted(admin: KafkaAdminClient, topic: str, partitions: int) -> bool:
    try:
        admin.delete_records({TopicPartition(topic, p): -1 for p in range(partitions)})
    except PolicyViolationError:  # the broker hears of the new policy a moment later
        return False
    return True


@contextmanager
def lines(
    folder: Path, *, limit: int = 60, far: str = "wal", databases: Sequence[tuple[str, str]] = DATABASES, numbered: bool = False
) -> Iterator[Lines]:
    """The city, installed and loaded, with its roles running; the far ward may know its dossiers by serial numbers of its own."""
    clusters = ("hub", *dict.fromkeys(cluster for _, cluster in databases))
    with city(folder, clusters=clusters) as made:
        for name, cluster in databases:
            made.database(cluster, name, TABLE, *([NUMBERED] if numbered and name == "ward_far" else []))
        made.write("systems.yaml", SYSTEMS.format(limit=limit, far=far, profile="numbered" if numbered else "simple"))
        made.write("authority.yaml", AUTHORITY)
        made.write("contracts.yaml", CONTRACTS)
        made.write("profiles/simple.yaml", PROFILE)
        if numbered:
            made.write("profiles/numbered.yaml", PROFILE.replace("profile: simple", "profile: numbered").replace("key: ma", "key: id"))
        made.install(*(name.replace("_", "-") for name, _ in databases))
        here = Lines(made)
        here.start()
        here.load()
        yield here


def within(seconds: float, true: Callable[[], bool]) -> float:
    """Wait until something is true; the seconds it took."""
    begun = time.monotonic()
    wait(true, seconds)
    return time.monotonic() - begun
