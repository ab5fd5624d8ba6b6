"""A hub, its in-topic and a stand-in of the population database, with look-ups of this process and of others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from connectors.kafka import Admin, Ends, Message
from connectors.postgres import connect, rows, transaction
from lienthong import frames, hub, hub_schema
from lienthong.config_national import AccessToken, Auth, Hmac, National, Population
from lienthong.gate import Gate
from lienthong.merge import Merger
from lienthong.national.access import Caller
from lienthong.national.answers import Asked
from lienthong.national.lookup import LookUp
from lienthong.settings import Kafka, Rule, Settings, System
from lienthong.vault import Vault
from tests.merge_kit import settings as merge_settings
from tests.national_kit import BA, MAI

SYSTEM = "population"
RATE = 20
"""Requests a second that the stand-in answers."""
SECRET = Hmac(kind="hmac", user="us", secret="a secret of the test")
KEY = "3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
CALLER = Caller("canbo01", "000.00.01.H29", "a test of look-ups")
ASK_MAI = Asked(MAI["personal_number"], "Nguyễn Thị Mai", MAI["birth_date"])
ASK_BA = Asked(BA["personal_number"], "Trần Văn Ba", BA["birth_date"])
NATIONAL_FIRST = Rule(order=(SYSTEM, "portal"), basis="Law 26/2023/QH15: the population database knows")

# A process of its own: `CODE` is run with `look_up`, `people` (Asked) and `caller`.
SCRIPT = """
import sys, time
import orjson
from tests.lookup_kit import CALLER as caller, asked_numbers, look_up_of
given = orjson.loads(sys.stdin.buffer.read())
look_up = look_up_of(given)
people = asked_numbers(given["people"])
exec(given["code"])
look_up.close()
"""


def settings(dsn: str, bootstrap: str, endpoint: str, *, auth: Auth | None = SECRET, **more: Any) -> Settings:
    """The merge kit's parties and the population database, which knows best who people are and where they live."""
    base = merge_settings(dsn)
    citizen = base.authority["citizen"] | {"identity": (NATIONAL_FIRST,), "residence": (NATIONAL_FIRST,)}
    configured = Population(
        system=SYSTEM,
        endpoint=endpoint,
        auth=auth or AccessToken(kind="access-token", token="none"),
        unit="000.00.00.H29",
        integration="033",
        **{"deadline_seconds": 3, "rate_per_second": 100, **more},
    )
    return base.model_copy(
        update={
            "kafka": Kafka(bootstrap=bootstrap, partitions=1),
            "systems": base.systems | {SYSTEM: System(kind="population", capture="none", apply=False)},
            "authority": base.authority | {"citizen": citizen},
            "national": National(population=configured),
        }
    )


class Town:
    """One hub with its merger, and what look-ups wrote there."""

    def __init__(self, dsn: str, bootstrap: str, endpoint: str) -> None:
        self.dsn, self.bootstrap, self.endpoint = dsn, bootstrap, endpoint
        hub_schema.install(dsn)
        admin = Admin(bootstrap)
        admin.ensure({frames.TOPIC: 1}, replication=1, settings={})
        admin.close()
        self._ends = Ends(bootstrap)
        self._read = self._end()
        self._next = 0
        self._open: list[LookUp] = []
        self.connection = hub.open_hub(dsn, "merge")
        self.merger = Merger(settings(dsn, bootstrap, endpoint), self.connection)

    def look_up(self, *, gate: Gate | None = None, **configured: Any) -> LookUp:
        """A new look-up of this process."""
        made = LookUp(settings(self.dsn, self.bootstrap, self.endpoint, **configured), Vault(KEY), gate=gate)
        self._open.append(made)
        return made

    def others(self, count: int, code: str, people: list[Asked], **configured: Any) -> list[subprocess.Popen[bytes]]:
        """Processes of their own that run some code."""
        given = {
            "dsn": self.dsn,
            "bootstrap": self.bootstrap,
            "endpoint": self.endpoint,
            "configured": configured,
            "code": code,
            "people": [[one.number, one.name, one.birth] for one in people],
        }
        made = []
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE)
            assert process.stdin is not None
            process.stdin.write(orjson.dumps(given))
            process.stdin.close()
            process.stdin = None
            made.append(process)
        return made

    # ------------------------------------------------------------ what came of it
    def sent(self) -> list[Message]:
        """What was put into the in-topic since this was last asked."""
        start, self._read = self._read, self._end()
        return [message for message in self._ends.between(frames.TOPIC, start, self._read) if start <= message.offset < self._read]

    def merge(self, *more: bytes) -> int:
        """Merge what look-ups have sent, after some other frames; how many messages of look-ups there were."""
        found = self.sent()
        values = [*more, *(message.value for message in found if message.value is not None)]
        if values:
            messages = [Message(frames.TOPIC, 0, self._next + n, 0, None, value, ()) for n, value in enumerate(values)]
            self.merger.merge(messages, {(frames.TOPIC, 0): (self._next or None, self._next + len(values))})
            self._next += len(values)
        return len(found)

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """A query in the hub."""
        connection = connect(self.dsn, application_name="test")
        try:
            with transaction(connection) as cursor:
                return rows(cursor, statement, list(arguments))
        finally:
            connection.close()

    def citizens(self) -> list[tuple[dict[str, Any], dict[str, str] | None]]:
        """The living golden records of people, and whose word each group is."""
        return self.sql("SELECT body, who FROM hub.record WHERE entity = 'citizen' AND merged_into IS NULL AND NOT deleted ORDER BY record")

    def accesses(self) -> list[tuple[Any, ...]]:
        """Operation, outcome and reason of every access, in order."""
        return self.sql("SELECT operation, outcome, reason FROM hub.access ORDER BY id")

    def close(self) -> None:
        """Drop all connections."""
        for look_up in self._open:
            look_up.close()
        self.connection.close()
        self._ends.close()

    def _end(self) -> int:
        return self._ends.of(frames.TOPIC).get(0, 0)


@contextmanager
def town_of(dsn: str, bootstrap: str, endpoint: str) -> Iterator[Town]:
    """A town, closed at the end."""
    made = Town(dsn, bootstrap, endpoint)
    try:
        yield made
    finally:
        made.close()


def look_up_of(given: dict[str, Any]) -> LookUp:
    """The look-up of another process."""
    made = settings(given["dsn"], given["bootstrap"], given["endpoint"], **given["configured"])
    gate = Gate(made.hub.dsn, f"population {SYSTEM}", made.national.population.rate_per_second, failures=3, rest_seconds=0.5)  # type: ignore[union-attr]
    return LookUp(made, Vault(KEY), gate=gate)


def asked_numbers(people: list[list[str]]) -> list[Asked]:
    """People as they travel to another process."""
    return [Asked(*one) for one in people]


def many(count: int) -> list[Asked]:
    """People nobody knows."""
    return [Asked(f"0791900{number:05}", "Không Có Ai", "1990") for number in range(count)]
