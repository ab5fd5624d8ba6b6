-- Journeys and lost dossiers: who looked at what, every code of a dossier, what was acknowledged, and what the last sweep has found. Re-runnable.

-- Every look at a record: who, when, why. Never what was searched for, which may be a personal number.
CREATE TABLE IF NOT EXISTS hub.view_audit (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  viewer text NOT NULL,
  purpose text,            -- null: personal data was masked
  record bigint            -- null: there was no record under what was searched for
);
CREATE INDEX IF NOT EXISTS view_audit_record ON hub.view_audit (record, at);

-- Codes of dossiers that no other table finds by an index: local and linked ones, in whoever's word they stand. Filled by the sweep.
CREATE TABLE IF NOT EXISTS hub.dossier_code (code text, record bigint, PRIMARY KEY (code, record));

-- Newest version of a record that a target's own memory shows, where its next reading did not show it: a write that changed nothing there.
CREATE TABLE IF NOT EXISTS hub.acknowledged (
  record bigint, system text, version bigint NOT NULL, seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (record, system)
);

-- What the last sweep has found, replaced as a whole; `found_at` stays while a finding does. `limit_at` may still be to come (kind not_seen only).
CREATE TABLE IF NOT EXISTS hub.lost_dossier (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL,      -- not_received | not_acknowledged | not_confirmed | not_shown | not_seen
  system text NOT NULL,    -- who should have it, or has not shown it
  record bigint, local_key text, local_code text, procedure_code text,
  agency text, unit text,  -- of the processing of the dossier; of the system, where the hub never saw it
  since timestamptz NOT NULL, limit_at timestamptz NOT NULL,
  holder text NOT NULL,    -- the last that is proven to have it: a system, or `hub`
  cause text NOT NULL,     -- line | parked | contract | refused | unanswered | silent | nobody | unknown
  reason text NOT NULL, advice text NOT NULL,
  found_at timestamptz NOT NULL,
  UNIQUE NULLS NOT DISTINCT (kind, system, record, local_key)
);

-- The sweeps: as of when, how long it took, how many dossiers were looked at, who could not be asked.
CREATE TABLE IF NOT EXISTS hub.lost_sweep (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL, took_seconds float8 NOT NULL, dossiers bigint NOT NULL, found bigint NOT NULL, unasked text[] NOT NULL
);

