"""Who is entitled to a record is asked twice, in Python by the router and in SQL by reconciliation: both must always say the same."""

from __future__ import annotations

import random

import orjson

from connectors.postgres import connect, copy_rows, rows, sql, transaction
from lienthong import hub_schema
from lienthong.contracts import Terms
from lienthong.entitled import read_golden
from lienthong.reconcile.hubside import entitled_condition
from lienthong.settings import Scope

CODES = ("26734", "27232", "H29", "H29.01", "1.001", "2.002", "", None)
FIELDS = (
    "processing_unit", "residence_unit", "unit_code", "processing_agency_code", "receiving_agency_code", "agency_code", "procedure_code", "note",
)  # fmt: skip
RECORDS, SCOPES = 300, 80


def _scope(draw: random.Random, depth: int = 2) -> Scope:
    def some() -> tuple[str, ...] | None:
        return None if draw.random() < 0.5 else tuple(draw.sample(["own", *(code for code in CODES if code)], draw.randint(1, 3)))

    parts = tuple(_scope(draw, depth - 1) for _ in range(draw.choice((0, 0, 1, 2)))) if depth else ()
    procedures = None if draw.random() < 0.6 else tuple(draw.sample(["1.001", "2.002"], draw.randint(1, 2)))
    return Scope(units=some(), agencies=some(), procedures=procedures, any_of=parts)


def test_scopes_mean_the_same_in_sql(database: str) -> None:
    seed = random.randrange(1 << 30)
    draw = random.Random(seed)
    hub_schema.install(database)
    records: list[tuple[object, ...]] = []
    for number in range(1, RECORDS + 1):
        body = {name: draw.choice(CODES) for name in draw.sample(FIELDS, draw.randint(0, len(FIELDS)))}
        parent = draw.choice((None, draw.randint(1, RECORDS + 20)))
        records.append((number, "dossier", parent, draw.random() < 0.1, draw.choice((orjson.dumps(body).decode(),) * 9 + (None,))))
    connection = connect(database, application_name="test")
    with transaction(connection) as cursor:
        copy_rows(cursor, "hub.record", ("record", "entity", "parent", "deleted", "body"), records)
        cursor.execute("UPDATE hub.record SET merged_into = 1 WHERE record % 17 = 0")
        golden = read_golden(cursor, [number for number, *_ in records])  # type: ignore[misc]
        for _ in range(SCOPES):
            terms = [Terms("x", "dossier", (), (), {}, _scope(draw), frozenset({"26734"}), frozenset({"H29"})) for _ in range(draw.randint(0, 2))]
            statement = sql.SQL("SELECT r.record FROM hub.record r LEFT JOIN hub.record p ON p.record = r.parent WHERE {}")
            found = {record for (record,) in rows(cursor, statement.format(entitled_condition(terms)))}
            expected = set()
            for record in golden.values():
                parent_of = golden.get(record.parent) if record.parent is not None else None
                if record.merged_into is not None or record.is_gone() or (record.parent is not None and (parent_of is None or parent_of.is_gone())):
                    continue
                if any(each.in_scope(record.values, parent_of.values if parent_of is not None else None) for each in terms):
                    expected.add(record.record)
            assert found == expected, f"seed {seed}: {terms}"
    connection.close()
