"""The merge's statements: each runs over given rows, which come as arrays or from a temporary table of the same shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SHAPES: dict[str, dict[str, str]] = {
    "b_key": {"n": "int", "system": "text", "entity": "text", "local_key": "text"},
    "b_claim": {"claim": "text", "record": "bigint"},
    "b_lock": {"record": "bigint"},
    "b_contribution": {
        "system": "text",
        "entity": "text",
        "local_key": "text",
        "record": "bigint",
        "epoch": "bigint",
        "version": "bigint",
        "op": '"char"',
        "delivered": "boolean",
        "mask": "bigint",
        "body": "json",
        "claim": "text",
        "parent_key": "text",
        "at": "bigint",
        "seen": "bigint",
    },
    "b_sole": {
        "n": "int",
        "system": "text",
        "entity": "text",
        "local_key": "text",
        "parent_key": "text",
        "claim": "text",
        "epoch": "bigint",
        "version": "bigint",
        "delivered": "boolean",
        "mask": "bigint",
        "at": "bigint",
        "golden": "jsonb",
    },
    "b_entitled": {"system": "text", "record": "bigint", "entity": "text", "version": "bigint", "hash": "bytea", "state": '"char"'},
    "b_record": {
        "record": "bigint",
        "entity": "text",
        "parent": "bigint",
        "deleted": "boolean",
        "sole": "text",
        "version": "bigint",
        "body": "jsonb",
        "who": "jsonb",
    },
}
CONTRIBUTION = (
    "system",
    "entity",
    "local_key",
    "record",
    "epoch",
    "version",
    "op",
    "delivered",
    "mask",
    "body",
    "claim",
    "parent_key",
    "at",
    "seen",
)
RECORD = ("record", "entity", "parent", "deleted", "sole", "version", "body", "who")
EXISTING = """
SELECT k.n, c.record, c.epoch, c.version, c.op::text, c.mask, c.claim, c.delivered, c.seen, c.parent_key
FROM {given} k JOIN hub.contribution c ON (c.system, c.entity, c.local_key) = (k.system, k.entity, k.local_key)
"""
UPDATE_CONTRIBUTIONS = f"""
UPDATE hub.contribution c SET {", ".join(f"{name} = b.{name}" for name in CONTRIBUTION[3:])} FROM {{given}} b
WHERE (c.system, c.entity, c.local_key) = (b.system, b.entity, b.local_key) AND (c.epoch, c.version) < (b.epoch, b.version)
"""  # noqa: S608 - column names of our own
PROMISE = f"""
INSERT INTO hub.contribution AS c ({", ".join(CONTRIBUTION)})
SELECT {", ".join(CONTRIBUTION)} FROM {{given}} b ORDER BY system, entity, local_key ON CONFLICT (system, entity, local_key) DO NOTHING
"""  # noqa: S608 - column names of our own
UPDATE_RECORDS = """
UPDATE hub.record r SET parent = b.parent, deleted = b.deleted, sole = b.sole, version = b.version, body = b.body, who = b.who, updated_at = now()
FROM {given} b WHERE r.record = b.record
"""
LOCK_SOLE = "SELECT FROM {given} b JOIN hub.record r ON r.record = b.record WHERE r.sole IS NOT NULL FOR UPDATE OF r NOWAIT"
LOCK = """
SELECT r.record, r.entity, r.parent, r.merged_into, r.deleted, r.sole, r.version, r.body::text, r.who::text
FROM {given} b JOIN hub.record r ON r.record = b.record ORDER BY r.record FOR UPDATE OF r
"""
OF_RECORDS = """
SELECT c.record, c.system, c.version, c.op::text, c.delivered, CASE WHEN c.op = 's' THEN coalesce(c.body::text, r.body::text) END
FROM {given} b JOIN hub.contribution c ON c.record = b.record LEFT JOIN hub.record r ON r.record = c.record WHERE c.op <> 'p'
"""
PART = """
UPDATE hub.contribution c SET body = r.body::text::json FROM {given} b JOIN hub.record r ON r.record = b.record
WHERE c.record = r.record AND c.body IS NULL AND c.op = 's'
"""
# What is given is found by its keys, without its parent's record in a child's claim; then the records are updated in the order of their ids
# (B6), and the rest from what was updated there: a record that others speak about stays as it is.
UPDATE_SOLE = """
WITH k AS MATERIALIZED (
  SELECT b.*, c.record, c.ctid AS place, c.claim AS held
  FROM {given} b CROSS JOIN LATERAL (
    SELECT c.*, c.ctid FROM hub.contribution c WHERE (c.system, c.entity, c.local_key) = (b.system, b.entity, b.local_key) OFFSET 0
  ) c  -- by its keys in any case: whatever the planner guesses about the conditions below
  WHERE c.op = 's' AND c.body IS NULL AND c.epoch = b.epoch AND c.version < b.version AND c.parent_key IS NOT DISTINCT FROM b.parent_key
  ORDER BY c.record
), u AS (
  UPDATE hub.record r SET version = r.version + (r.deleted OR r.body IS DISTINCT FROM k.golden)::int, body = k.golden, deleted = false,
    updated_at = now()
  FROM k WHERE r.record = k.record AND r.sole = k.system AND r.merged_into IS NULL AND k.held IS NOT DISTINCT FROM
    CASE WHEN k.parent_key IS NULL THEN k.claim ELSE overlay(k.claim PLACING ':' || r.parent FROM length(k.entity) + 1 FOR 0) END
  RETURNING k.n, k.place, k.system, k.record, k.epoch, k.version AS reading, k.delivered, k.mask, k.at,
    old.version AS version, old.body AS before, old.version < new.version AS differs,
    k.entity = 'dossier' AND (old.body->'processing_agency_code', old.body->'processing_unit', old.body->'receiving_agency_code')
      IS DISTINCT FROM (new.body->'processing_agency_code', new.body->'processing_unit', new.body->'receiving_agency_code') AS rerouted
), c AS (
  UPDATE hub.contribution c SET epoch = u.epoch, version = u.reading, delivered = u.delivered, mask = u.mask, body = NULL, at = u.at
  FROM u WHERE c.ctid = u.place AND c.record = u.record AND (c.epoch, c.version) < (u.epoch, u.reading)
  RETURNING 1
), h AS (
  INSERT INTO hub.history (record, version, system, before) SELECT record, version, system, before FROM u WHERE differs
), l AS (
  INSERT INTO hub.changed (record, at) SELECT record, at FROM u WHERE differs
)
SELECT n, record, differs, rerouted, (SELECT count(*) FROM c) FROM u
"""
UPSERT_RECORDS = """
INSERT INTO hub.record AS r (record, entity, parent, deleted, sole, version, body, who)
SELECT record, entity, parent, deleted, sole, version, body, who FROM {given} b ORDER BY record
ON CONFLICT (record) DO UPDATE SET parent = excluded.parent, deleted = excluded.deleted, sole = excluded.sole,
  version = excluded.version, body = excluded.body, who = excluded.who, updated_at = now()
"""


def array(column: Sequence[Any], kind: str) -> list[Any] | str:
    """A column as one array literal: as an ARRAY[...] of as many constants it costs the driver and the server four times as much."""
    if kind == "bytea":
        return list(column)
    forms = ["NULL" if value is None else str(value) for value in column]
    if kind not in ("bigint", "int", "boolean"):
        forms = [
            form if value is None else '"' + form.replace("\\", "\\\\").replace('"', '\\"') + '"' for form, value in zip(forms, column, strict=True)
        ]
    return "{" + ",".join(forms) + "}"
