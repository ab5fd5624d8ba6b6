"""The first filling of the demo's systems: each with its own records, some known to two systems, some spoiled."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

from connectors.postgres import connect, copy_rows, transaction
from lienthong.simulate.cases import ONE_CITY, Cases
from lienthong.simulate.catalogue import PROCEDURES
from lienthong.simulate.layouts import Key, portal_procedure
from lienthong.simulate.model import Dossier, Person, Row
from lienthong.simulate.people import People, any_code, code_of
from lienthong.simulate.spoiled import colliding, spoiled_dossiers, spoiled_people
from lienthong.simulate.wards import STORES, WARDS

BLOCK_ROWS = 20_000
JUSTICE_YEAR = 2026
SPOILED_EVERY = 1000  # one row of each trap for every so many dossiers, and at least one


@dataclass(slots=True, kw_only=True)
class Filled:
    """What was written: rows per (system, entity), and how many of them must be refused, by reason."""

    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    expected_refused: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    colliding: Counter[tuple[str, str]] = field(default_factory=Counter)


def fill(dsns: Mapping[str, str], *, dossiers: int = 2000, seed: int = 1, today: datetime | None = None) -> Filled:
    """Fill the empty tables of all systems named in `dsns`; the same seed writes the same rows, with times as long before `today` (now)."""
    random = Random(seed)
    people = People(random)
    cases = Cases(random, people, today=today or datetime.now(UTC))
    filled = Filled()
    writers = {system: _Writer(system, dsn, filled) for system, dsn in dsns.items()}
    writers["city-portal"].rows(row for procedure in PROCEDURES for row in portal_procedure(procedure))
    filled.rows["city-portal", "procedure"] = len(PROCEDURES)
    for system, person in _people(random, people, int(dossiers * 0.6), cases.today):
        writers[system].person(person)
    for system, dossier in _dossiers(random, cases, dossiers):
        writers[system].dossier(dossier)
    _spoil(writers, cases, people, max(1, dossiers // SPOILED_EVERY), filled)
    for writer in writers.values():
        writer.finish()
    return filled


# ------------------------------------------------------------------ who knows what
def _dossiers(random: Random, cases: Cases, count: int) -> Iterator[tuple[str, Dossier]]:
    wards = tuple(WARDS)
    for _ in range(count):
        ward, chance = random.choice(wards), random.random()
        if chance < 0.35:
            yield "city-portal", cases.from_portal(ward=ward if random.random() < 0.75 else None)
        elif chance < 0.65:
            yield ward, cases.from_desk(ward=ward, old=random.random() < (0.5 if ward == "ward-binh-thoi" else 0.15))
        elif chance < 0.75:
            yield "one-stop", cases.from_one_stop()
        elif chance < 0.85:
            yield "dept-justice", cases.from_department()
        elif chance < 0.95:
            at_portal, at_ward = cases.in_both(ward=ward)
            yield "city-portal", at_portal
            yield ward, at_ward
        else:
            other = random.choice([name for name in wards if name != ward])
            yield ward, cases.from_desk(ward=ward, processing=other)


def _people(random: Random, people: People, count: int, today: datetime) -> Iterator[tuple[str, Person]]:
    for _ in range(count):
        moved = ONE_CITY - timedelta(days=700) + timedelta(days=random.randrange(1100), minutes=random.randrange(500))
        ward = random.choice((*WARDS, None))
        unit = code_of(random, WARDS[ward], moved) if ward else any_code(random, moved)
        person = people.person(unit=unit, moved=moved)
        homes = [name for name, chance in (("dept-justice", 0.6), ("city-portal", 0.3), ("one-stop", 0.1)) if random.random() < chance]
        if ward and (random.random() < 0.7 or not homes):
            homes.append(ward)
        for home in homes or ["dept-justice"]:
            yield home, _as_known(random, person, home, today)


def _as_known(random: Random, person: Person, system: str, today: datetime) -> Person:
    """The same citizen as one system knows him: half of the systems agree in all, the rest are older or poorer."""
    if random.random() < 0.5:
        return person
    if system == "dept-justice":  # identity is its word, the rest is older
        return replace(person, phone="0900000000", reached=person.reached - timedelta(days=90))
    if system == "city-portal":
        return replace(person, marital=person.marital, phone=f"07{random.randrange(10**8):08d}", reached=today - timedelta(days=9))
    if system == "ward-binh-thoi" and person.birth:
        return replace(person, birth=person.birth[:4])
    return replace(person, address=f"{person.address}, tổ 5")


def _spoil(writers: Mapping[str, _Writer], cases: Cases, people: People, each: int, filled: Filled) -> None:
    for system, writer in writers.items():
        refused_people: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for reason, person in spoiled_people(people, system, each, today=cases.today):
            writer.person(person)
            refused_people[reason] += 1
        for reason, dossier in spoiled_dossiers(cases, system, each):
            writer.dossier(dossier)
            refused[reason] += 1
        filled.expected_refused[system, "citizen"] = refused_people
        filled.expected_refused[system, "dossier"] = refused
    free = writers["ward-binh-thoi"]
    for two_dossiers, two_people in colliding(cases, people, each):
        for dossier in two_dossiers:
            free.dossier(dossier)
        for person in two_people:
            free.person(person)
        filled.colliding["ward-binh-thoi", "dossier"] += 2
        filled.colliding["ward-binh-thoi", "citizen"] += 2


# ------------------------------------------------------------------ writing
ENTITY_OF_TABLE = {
    "tien_trinh": "dossier_event", "onestop.step": "dossier_event", "ho_tich.buoc": "dossier_event",
    "dossier_state_history": "dossier_event", "giay_to": "dossier_component", "onestop.paper": "dossier_component",
    "ho_tich.giay_to": "dossier_component", "dossier_file": "dossier_component",
    'quan_ly."Giấy tờ"': "dossier_component",
    "le_phi": "fee", "onestop.fee": "fee", "ho_tich.le_phi": "fee", "dossier_fee": "fee", 'quan_ly."Lệ phí"': "fee",
    "danh_gia": "evaluation",
}  # fmt: skip


class _Writer:
    """Collects rows of one system and copies them in blocks, tables in the order in which they first appeared."""

    def __init__(self, system: str, dsn: str, filled: Filled) -> None:
        self._system, self._dsn, self._filled = system, dsn, filled
        self._store = STORES[system]
        self._tables: dict[str, list[Row]] = {}
        self._count = 0
        self._keys: Counter[str] = Counter()

    def person(self, person: Person) -> None:
        """Take a citizen."""
        self._filled.rows[self._system, "citizen"] += 1
        self.rows(self._store.person(person, self._key("citizen")))

    def dossier(self, dossier: Dossier) -> None:
        """Take a dossier with all that hangs on it."""
        self._filled.rows[self._system, "dossier"] += 1
        self.rows(self._store.dossier(dossier, self._key("dossier")))

    def rows(self, rows: Iterator[Row] | list[Row]) -> None:
        """Take rows, and write when there are many."""
        for row in rows:
            self._tables.setdefault(row[0], []).append(row)
            self._count += 1
            if row[0] in ENTITY_OF_TABLE:
                self._filled.rows[self._system, ENTITY_OF_TABLE[row[0]]] += 1
        if self._count >= BLOCK_ROWS:
            self._flush()

    def finish(self) -> None:
        """Write what is left, and set the sequences behind what was written."""
        self._flush()
        with closing(connect(self._dsn, application_name="lienthong-simulate")) as connection, transaction(connection) as cursor:
            for entity, sequence in self._store.sequences.items():
                cursor.execute(f"SELECT setval({sequence}, %s)", [max(1, self._keys[entity])])  # noqa: S608

    def _key(self, entity: str) -> Key:
        self._keys[entity] += 1
        number = self._keys[entity]
        if self._system == "one-stop":
            return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{entity}/{number}"))
        return (JUSTICE_YEAR, number) if self._system == "dept-justice" else number

    def _flush(self) -> None:
        with closing(connect(self._dsn, application_name="lienthong-simulate")) as connection, transaction(connection) as cursor:
            for table, rows in self._tables.items():
                columns = tuple(rows[0][1]) if rows else ()
                if rows:
                    copy_rows(cursor, table, columns, [tuple(row[1].values()) for row in rows])
        self._tables = {table: [] for table in self._tables}
        self._count = 0
