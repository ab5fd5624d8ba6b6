"""The living city: its open connections, its clock, and what the clerks remember of what they did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from connectors.postgres import Connection, Cursor, connect, one, transaction
from lienthong.simulate.cases import Cases
from lienthong.simulate.model import Row, Value
from lienthong.simulate.people import People

FIRST_NUMBER = 50_000  # codes made while living start here, out of the way of those of the first filling
ACTION_SECONDS = 41
STAFF = ("Đặng Thị Mỹ", "Ngô Xuân Bảo", "Lý Gia Khang", "Mai Bích Tuyết", "Bùi Hữu Nghĩa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One edit: unified field -> value, of a record named by its code or number; `values` None is a deletion."""

    system: str
    entity: str
    code: str
    values: Mapping[str, Value] | None
    owner: bool = True


@dataclass(slots=True, kw_only=True)
class Lived:
    """What happened: how often each action, and every edit in order."""

    actions: Counter[str] = field(default_factory=Counter)
    writes: list[Write] = field(default_factory=list)

    @property
    def non_owner_edits(self) -> int:
        """Edits of fields that another system owns."""
        return sum(not write.owner for write in self.writes)


class City:
    """Connections to every system, one clock for all, and the memory that keeps clerks out of each other's way."""

    def __init__(self, connections: Mapping[str, Connection], random: Random) -> None:
        self._connections = connections
        self.random = random
        self.people = People(random)
        with self.at("city-portal") as cursor:
            found = one(cursor, "SELECT count(*), max(trang_thai_luc) FROM ho_so")
        assert found is not None
        self.now = (found[1] or datetime.now(UTC)) + timedelta(hours=1)
        self.cases = Cases(random, self.people, today=self.now, first_number=FIRST_NUMBER + int(found[0]))
        self.lived = Lived()
        self.received: set[str] = set()  # portal-born dossiers that a desk has begun to handle
        self.closed: set[str] = set()  # records nobody should touch again
        self.moved: dict[str, str] = {}  # dossier -> the ward it was sent to instead

    @contextmanager
    def at(self, system: str) -> Iterator[Cursor]:
        """One transaction in one system."""
        with transaction(self._connections[system]) as cursor:
            yield cursor

    def tick(self) -> datetime:
        """The next moment."""
        self.now += timedelta(seconds=ACTION_SECONDS)
        return self.now

    def clerk(self) -> str:
        """Somebody's name."""
        return self.random.choice(STAFF)

    def salt(self) -> str:
        """Makes the next pick from a table an arbitrary one."""
        return str(self.random.random())

    def wrote(self, system: str, entity: str, code: str, values: Mapping[str, Value] | None, *, owner: bool = True) -> None:
        """Remember an edit."""
        self.lived.writes.append(Write(system=system, entity=entity, code=code, values=values, owner=owner))


@contextmanager
def opened(dsns: Mapping[str, str], random: Random) -> Iterator[City]:
    """A city on these databases; connections are closed at the end."""
    with ExitStack() as stack:
        connections: dict[str, Connection] = {}
        for system, dsn in dsns.items():
            connection = connect(dsn, application_name="lienthong-simulate")
            stack.callback(connection.close)
            connections[system] = connection
        yield City(connections, random)


def insert(cursor: Cursor, rows: list[Row]) -> None:
    """Insert rows one by one, as an application would; names are constants of ours."""
    for table, row in rows:
        marks = ", ".join(["%s"] * len(row))
        cursor.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))  # noqa: S608
