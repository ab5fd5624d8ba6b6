"""What the checks of the doctor look at: each thing is asked once, when the first check wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal

from connectors.brokers import Disk
from connectors.kafka import Admin
from connectors.postgres import Cursor, address_of, connect, one, rows, transaction
from lienthong import source_seen, status
from lienthong.capture.wal import slot_name
from lienthong.check import CONNECT_TIMEOUT_SECONDS, CONNECTIONS_MAX, check_live
from lienthong.errors import LienThongError
from lienthong.problems import Problem
from lienthong.settings import Settings
from lienthong.source_seen import Sight

Needs = Literal["nothing", "hub", "tables"]
Slots = dict[str, int]
"""Slots by name, and the bytes of log that are kept for each."""

_IDLE = """
SELECT slot_name::text, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots
WHERE NOT active AND restart_lsn IS NOT NULL AND wal_status <> 'lost' AND NOT pg_is_in_recovery()
"""


class Look:
    """One look at the whole city."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def problems(self) -> Sequence[Problem]:
        """All that `lienthong check` finds at servers and brokers."""
        return check_live(self.settings, None)

    def has(self, needs: Needs) -> bool:
        """Whether what a check needs is there: the hub answers, and has our tables."""
        if needs == "nothing":
            return True
        if any(problem.file == "hub" and problem.dependency for problem in self.problems):
            return False
        return needs == "hub" or self.hub("SELECT to_regclass('hub.setting') IS NOT NULL")[0][0] is True

    def hub(self, statement: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a question to the hub."""
        with status.hub_cursor(self.settings) as cursor:
            return rows(cursor, statement, list(arguments) or None)

    def address(self, name: str) -> str:
        """Host and port of the hub, the brokers or a system, as people are told of it."""
        if name == "kafka":
            return self.settings.kafka.bootstrap
        host, port, _ = address_of(self.settings.hub.dsn if name == "hub" else self.settings.dsn_of(name))
        return f"{host}, port {port}"

    # ------------------------------------------------------------ what is asked once
    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """How every line stands."""
        return status.lines(self.settings)

    @cached_property
    def sights(self) -> Mapping[str, Sight]:
        """Slot and clock of every system that answers, and the clock of the hub."""
        return {name: sight for name, (sight, _) in self._seen.items()}

    @cached_property
    def idle_slots(self) -> Mapping[str, Slots]:
        """By the address of a server: its slots that nobody reads and that are of no configured system."""
        ours = {slot_name(name) for name in self.settings.systems}
        found: dict[str, Slots] = {}
        for name, (_, idle) in self._seen.items():
            found.setdefault(self.address(name), {}).update({slot: kept for slot, kept in idle.items() if slot not in ours})
        return found

    @cached_property
    def disks(self) -> Sequence[Disk]:
        """The disks of the brokers; none of those that do not tell."""
        admin = Admin(self.settings.kafka.brokers)
        try:
            return admin.disks()
        finally:
            admin.close()

    @cached_property
    def _seen(self) -> Mapping[str, tuple[Sight, Slots]]:
        away = {problem.file for problem in self.problems if problem.dependency}
        names = [name for name in ("hub", *self.settings.with_database()) if name not in away]
        with ThreadPoolExecutor(max_workers=CONNECTIONS_MAX, thread_name_prefix="doctor") as pool:
            seen = dict(zip(names, pool.map(self._sight, names), strict=True))
        return {name: sight for name, sight in seen.items() if sight is not None}

    def _sight(self, name: str) -> tuple[Sight, Slots] | None:
        is_hub = name == "hub"
        dsn = self.settings.hub.dsn if is_hub else self.settings.dsn_of(name)
        try:
            connection = connect(dsn, application_name="lienthong doctor", connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS)
            try:
                with transaction(connection) as cursor:
                    one(cursor, "SELECT 1")  # the first question pays for the connection
                    sight = source_seen.look(cursor, name, "none" if is_hub else self.settings.systems[name].capture)
                    return sight, _idle(cursor)
            finally:
                connection.close()
        except LienThongError:  # it has gone since it was checked
            return None


def _idle(cursor: Cursor) -> Slots:
    return {slot: int(kept) for slot, kept in rows(cursor, _IDLE)}
