"""A hub filled by SQL with dossiers whose fate is written down beside them, in a table `truth`: what figures must say is counted from that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from connectors.postgres import connect
from lienthong import hub_schema
from tests.city import AUTHORITY, PROFILE

# Agencies and systems are those of tests.merge_kit. The weeks have no holiday, so all are due seven days later at nine: after five working days.
FATES = """
CREATE TABLE fate (number int, fate text, status int[], after interval[], delay interval);
INSERT INTO fate VALUES
  (0, 'on time', '{2,4,9,10}', '{0,2h,6d 23h,7d}', '2s'),
  (1, 'on time', '{1,2,4,9}', '{0,0,2h,6d 22h}', '1s'),
  (2, 'on time', '{2,4,7}', '{0,2h,3d}', '3s'),
  (3, 'late', '{2,4,9,10}', '{0,2h,7d 2h,8d}', '2s'),
  (4, 'rescued', '{2,4,5,4,9}', '{0,2h,1d,8d,13d 23h}', '4s'),                -- paused for five working days
  (5, 'asked twice', '{2,4,5,4,5,4,9}', '{0,2h,1d,1d 1h,2d,2d 1h,6d 23h}', '2s'),
  (6, 'overdue', '{2,4}', '{0,2h}', '5s'),
  (7, 'paused', '{2,4,5}', '{0,2h,1d}', '2s'),
  (8, 'known late', '{2,4,9}', '{0,2h,6d 23h}', '3h'),                    -- ended an hour early, known two hours after it was due
  (9, 'extended', '{2,4,9}', '{0,2h,8d}', '2s'),
  (10, 'old', '{2,4,9,10}', '{0,2h,2d,3d}', '2s'),                        -- ended in September
  (11, 'to come', '{2,4}', '{0,2h}', '2s'),                               -- received in November
  (12, 'submitted', '{1}', '{0}', '2s');
"""
TRUTH = """
CREATE TABLE truth AS
SELECT n, n * 20::bigint AS record, f.*, i.received, i.received + interval '7d' AS due,
  (ARRAY['000.00.01.H29', '000.00.02.H29', '000.00.09.H29'])[n / 13 % 3 + 1] AS agency,
  (ARRAY['ward-a', 'ward-b', 'portal'])[n / 13 % 3 + 1] AS system,
  (ARRAY['26734', '26737', NULL])[n / 39 % 3 + 1] AS unit, '1.00' || n / 13 % 7 AS procedure, 1 + (n % 2) AS channel,
  i.received + f.after[cardinality(f.after)] AS last_at, f.status[cardinality(f.status)] AS last_status
FROM generate_series(1, DOSSIERS) n JOIN fate f ON f.number = n % 13
CROSS JOIN LATERAL (SELECT timestamptz '2026-10-05 09:00+07' + n % 5 * interval '1d' + n / 5 % 2 * interval '7d'
  + CASE fate WHEN 'old' THEN -28 WHEN 'to come' THEN 35 ELSE 0 END * interval '1d' AS received) i;
CREATE TABLE step AS
SELECT record, record + s.place AS id, s.status, received + s.after AS at, delay, system
FROM truth CROSS JOIN LATERAL unnest(status, after) WITH ORDINALITY AS s (status, after, place);
CREATE FUNCTION pg_temp.us(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT (extract(epoch FROM at) * 1000000)::bigint';
INSERT INTO hub.record (record, entity, sole, version, body, updated_at, arrived_at)
SELECT record, 'dossier', system, 1, jsonb_strip_nulls(jsonb_build_object('processing_agency_code', agency, 'processing_unit', unit,
  'procedure_code', procedure, 'channel', channel, 'submitted_at', pg_temp.us(received),
  'received_at', CASE WHEN fate <> 'submitted' THEN pg_temp.us(received) END, 'status', last_status, 'status_at', pg_temp.us(last_at),
  'due_at', CASE WHEN fate <> 'submitted' THEN pg_temp.us(due + CASE WHEN fate = 'extended' THEN 2 ELSE 0 END * interval '1d') END)),
  last_at + interval '1min' + delay, received + interval '5s'
FROM truth;
INSERT INTO hub.history (record, version, at, system, before)
SELECT record, 1, received + interval '6d', system, jsonb_build_object('due_at', pg_temp.us(due)) FROM truth WHERE fate = 'extended';
INSERT INTO hub.record (record, entity, parent, sole, version, body, updated_at, arrived_at)
SELECT id, 'dossier_event', record, system, 1, jsonb_build_object('status', status, 'occurred_at', pg_temp.us(at)),
  at + interval '1min' + delay, at + interval '1min' + delay FROM step;
INSERT INTO hub.contribution (system, entity, local_key, record, epoch, version, op, at)
SELECT system, 'dossier', n, record, 1, 1, 's', pg_temp.us(last_at + interval '1min') FROM truth
UNION ALL SELECT system, 'dossier_event', id, id, 1, 1, 's', pg_temp.us(at + interval '1min') FROM step;
INSERT INTO hub.record (record, entity, parent, version, body, arrived_at)
SELECT record + 10 + k, 'dossier_component', record, 1,
  jsonb_build_object('component_code', 'A' || k, 'digitised', n % 5 > 0, 'reused', CASE WHEN n % 4 = 0 THEN true END), last_at
FROM truth CROSS JOIN generate_series(1, 2) k;
INSERT INTO hub.record (record, entity, parent, version, body, arrived_at)
SELECT record + 15, 'evaluation', record, 1, jsonb_build_object('score', 1 + n % 5, 'rated_at', pg_temp.us(last_at + interval '1h')), last_at
FROM truth WHERE last_status IN (9, 10);
ANALYZE;
"""


def fill(dsn: str, dossiers: int) -> None:
    """Install the hub's tables and put so many dossiers into them, a thirteenth of each fate."""
    hub_schema.install(dsn)
    connection = connect(dsn, application_name="test", autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(FATES)
            cursor.execute(TRUTH.replace("DOSSIERS", str(dossiers)))
    finally:
        connection.close()


def write_configuration(folder: Path, systems: Mapping[str, str]) -> None:
    """A configuration of systems (name: kind) whose hub is named by HUB_DSN; nothing connects to the systems."""
    (folder / "profiles").mkdir()
    parties = "".join(f'  {name}: {{profile: simple, dsn: "${{HUB_DSN}}", kind: {kind}}}\n' for name, kind in systems.items())
    files = {
        "systems": f'version: 1\nhub: {{dsn: "${{HUB_DSN}}"}}\nkafka: {{bootstrap: "localhost:1"}}\nsystems:\n{parties}',
        "authority": AUTHORITY,
        "contracts": "version: 1\ncontracts: {}\n",
        "profiles/simple": PROFILE,
    }
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")
