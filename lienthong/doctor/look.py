"""What the checks of the doctor look at: each thing is asked once, when the first check wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal

from connectors.postgres import address_of, connect, one, rows, transaction
from lienthong import source_seen, status
from lienthong.check import CONNECT_TIMEOUT_SECONDS, CONNECTIONS_MAX, check_live
from lienthong.errors import LienThongError
from lienthong.problems import Problem
from lienthong.settings import Settings
from lienthong.source_seen import Sight

Needs = Literal["nothing", "hub", "tables"]


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
        away = {problem.file for problem in self.problems if problem.dependency}
        names = [name for name in ("hub", *self.settings.with_database()) if name not in away]
        with ThreadPoolExecutor(max_workers=CONNECTIONS_MAX, thread_name_prefix="doctor") as pool:
            seen = dict(zip(names, pool.map(self._sight, names), strict=True))
        return {name: sight for name, sight in seen.items() if sight is not None}

    def _sight(self, name: str) -> Sight | None:
        is_hub = name == "hub"
        dsn = self.settings.hub.dsn if is_hub else self.settings.dsn_of(name)
        try:
            connection = connect(dsn, application_name="lienthong doctor", connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS)
            try:
                with transaction(connection) as cursor:
                    one(cursor, "SELECT 1")  # the first question pays for the connection
                    return source_seen.look(cursor, name, "none" if is_hub else self.settings.systems[name].capture)
            finally:
                connection.close()
        except LienThongError:  # it has gone since it was checked
            return None
