"""The merge's statements: each runs over given rows, which come as arrays or from a temporary table of the same shape."""

SHAPES: dict[str, dict[str, str]] = {
    "b_key": {"n": "int", "system": "text", "entity": "text", "local_key": "text"},
    "b_claim": {"claim": "text", "record": "bigint"},
    "b_lock": {"record": "bigint", "whole": "boolean"},
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
        "place": "tid",
        "system": "text",
        "entity": "text",
        "record": "bigint",
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
SELECT k.n, c.record, c.epoch, c.version, c.op::text, c.mask, c.claim, c.delivered, c.seen, c.parent_key, c.body IS NULL, c.ctid::text
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
LOCK = """
SELECT r.record, r.entity, r.parent, r.merged_into, r.deleted, r.sole, r.version, CASE WHEN b.whole THEN r.body::text END, r.who::text, b.whole
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
# The record first, then the rest from what was updated there: a record that others speak about meanwhile stays as it is.
UPDATE_SOLE = """
WITH u AS (
  UPDATE hub.record r SET version = r.version + (r.deleted OR r.body IS DISTINCT FROM b.golden)::int, body = b.golden, deleted = false,
    updated_at = now()
  FROM {given} b WHERE r.record = b.record AND r.sole = b.system AND r.merged_into IS NULL
  RETURNING b.place, b.system, b.record, b.epoch, b.version AS reading, b.delivered, b.mask, b.at,
    old.version AS version, old.body AS before, old.version < new.version AS differs,
    b.entity = 'dossier' AND (old.body->'processing_agency_code', old.body->'processing_unit', old.body->'receiving_agency_code')
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
SELECT record, differs, rerouted, (SELECT count(*) FROM c) FROM u
"""
UPSERT_RECORDS = """
INSERT INTO hub.record AS r (record, entity, parent, deleted, sole, version, body, who)
SELECT record, entity, parent, deleted, sole, version, body, who FROM {given} b ORDER BY record
ON CONFLICT (record) DO UPDATE SET parent = excluded.parent, deleted = excluded.deleted, sole = excluded.sole,
  version = excluded.version, body = excluded.body, who = excluded.who, updated_at = now()
"""
