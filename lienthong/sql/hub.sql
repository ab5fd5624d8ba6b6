-- The city's own store. Re-runnable: every statement leaves what exists alone.
CREATE SCHEMA IF NOT EXISTS hub;

-- One row per source: who reads it (the lease), which reading numbers were drawn and finished, where to resume.
CREATE TABLE IF NOT EXISTS hub.capture_state (
  system text PRIMARY KEY,
  epoch bigint NOT NULL DEFAULT 1,
  drawn bigint NOT NULL DEFAULT 0,
  finished bigint NOT NULL DEFAULT 0,
  position text,
  identity text,
  lease_owner text,
  lease_until timestamptz NOT NULL DEFAULT '-infinity'
);

-- Where each line stands; lag is measured from `through`, so it grows for a dead process too.
CREATE TABLE IF NOT EXISTS hub.line (
  system text, stage text, part int NOT NULL DEFAULT 0,
  through timestamptz NOT NULL, beat timestamptz NOT NULL DEFAULT clock_timestamp(),
  state text NOT NULL DEFAULT 'running', reason text, since timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (system, stage, part)
);

CREATE TABLE IF NOT EXISTS hub.consumer_offset (
  topic text, partition int, next bigint NOT NULL, PRIMARY KEY (topic, partition)
);

-- Each value is a block of 1,000 record ids (lienthong.hub.Ids).
CREATE SEQUENCE IF NOT EXISTS hub.record_id;

-- The golden record: what the city holds to be true, folded from all contributions by authority.
CREATE TABLE IF NOT EXISTS hub.record (
  record bigint PRIMARY KEY,
  entity text NOT NULL,
  parent bigint,
  merged_into bigint,
  deleted boolean NOT NULL DEFAULT false,
  sole text,              -- the contributing system, when there is just one contribution
  version bigint NOT NULL DEFAULT 0,
  body jsonb,
  who jsonb,              -- field group -> system whose word counts; null: `sole` for all
  updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 85, autovacuum_vacuum_insert_threshold = -1);  -- a load needs no vacuum: nothing reads these by index alone
-- When the hub first had it; null: before this was kept.
ALTER TABLE hub.record ADD COLUMN IF NOT EXISTS arrived_at timestamptz;
ALTER TABLE hub.record ALTER arrived_at SET DEFAULT now();
CREATE INDEX IF NOT EXISTS record_parent ON hub.record (parent) WHERE parent IS NOT NULL;

-- What each system says about each of its records. op: s state, d deleted there, p promised (a child came first).
-- A body of null: the golden record is its word as it stands (there is no other contribution, see `sole`).
CREATE TABLE IF NOT EXISTS hub.contribution (
  system text, entity text, local_key text,
  record bigint NOT NULL,
  epoch bigint NOT NULL, version bigint NOT NULL,
  op "char" NOT NULL,
  delivered boolean NOT NULL DEFAULT false,
  mask bigint NOT NULL DEFAULT 0,
  body json,
  claim text,
  parent_key text,
  at bigint NOT NULL DEFAULT 0,
  seen bigint,            -- the version of our last write there, as the reading saw it
  PRIMARY KEY (system, entity, local_key)
) WITH (fillfactor = 85, autovacuum_vacuum_insert_threshold = -1);  -- a load needs no vacuum: nothing reads these by index alone
CREATE INDEX IF NOT EXISTS contribution_record ON hub.contribution (record);
CREATE INDEX IF NOT EXISTS contribution_parent ON hub.contribution (system, entity, parent_key) WHERE parent_key IS NOT NULL;

-- Accepted identifier claims: a code belongs to one record.
CREATE TABLE IF NOT EXISTS hub.identifier (
  claim text PRIMARY KEY, record bigint NOT NULL
);

-- Identifiers that a source record claims while another record holds them: tried again when that one lets go.
CREATE TABLE IF NOT EXISTS hub.waiting (
  claim text, system text, entity text, local_key text, PRIMARY KEY (claim, system, entity, local_key)
);

-- What changed: read and emptied by the router. lane 0 live, 1 backfill.
CREATE TABLE IF NOT EXISTS hub.changed (
  lane smallint NOT NULL DEFAULT 0, id bigint GENERATED ALWAYS AS IDENTITY,
  record bigint NOT NULL, resend text, at bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (lane, id)
);

-- Earlier values of golden records: what stood there, whose word it was, and which system changed it.
CREATE TABLE IF NOT EXISTS hub.history (
  record bigint, version bigint, at timestamptz NOT NULL DEFAULT now(), system text, before jsonb, who jsonb,
  PRIMARY KEY (record, version)
);

-- What each party is entitled to see of each record, and what it was last sent.
CREATE TABLE IF NOT EXISTS hub.entitled (
  system text, record bigint, entity text NOT NULL, version bigint NOT NULL, hash bytea, state "char" NOT NULL, -- s sent, w withdrawn, d deleted
  PRIMARY KEY (record, system)
);

-- How far each out-topic is known here: what lies after it was sent and not stored (lienthong.in_doubt).
CREATE TABLE IF NOT EXISTS hub.out_topic (topic text PRIMARY KEY, next bigint NOT NULL);

-- Edits by systems that do not own the field: kept, shown on both sides, decided by the owner.
CREATE TABLE IF NOT EXISTS hub.correction (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  system text NOT NULL, entity text NOT NULL, record bigint NOT NULL, field text NOT NULL,
  asked jsonb, golden jsonb, owner text, version bigint NOT NULL, state text NOT NULL DEFAULT 'open',
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (system, record, field, version)
);

-- Records that could not be processed. The payload is encrypted when a key is configured, and this schema is not for readers.
CREATE TABLE IF NOT EXISTS hub.parked (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  system text NOT NULL, entity text NOT NULL, local_key text, kind text NOT NULL, -- refused | damaged | link | apply
  field text, reason text NOT NULL, message text NOT NULL,
  topic text, partition int, "offset" bigint, version bigint,
  payload bytea, state text NOT NULL DEFAULT 'open', parked_at timestamptz NOT NULL DEFAULT clock_timestamp(), closed_at timestamptz
);
CREATE INDEX IF NOT EXISTS parked_open ON hub.parked (system, entity, local_key) WHERE state = 'open';

-- Key ranges of a load: what is done, so that a load goes on where it stopped.
CREATE TABLE IF NOT EXISTS hub.load_chunk (
  system text, entity text, number int, low text[], high text[], rows bigint NOT NULL DEFAULT 0, done_at timestamptz,
  PRIMARY KEY (system, entity, number)
);
ALTER TABLE hub.load_chunk ADD COLUMN IF NOT EXISTS epoch bigint NOT NULL DEFAULT 0; -- of the load that planned it: no other one owes it anything
ALTER TABLE hub.load_chunk ADD COLUMN IF NOT EXISTS plan bigint NOT NULL DEFAULT 0;    -- what was planned together; a later plan ends it
ALTER TABLE hub.load_chunk ADD COLUMN IF NOT EXISTS ticket bigint NOT NULL DEFAULT 0;  -- of whoever has taken it last: only he may finish it
ALTER TABLE hub.load_chunk ADD COLUMN IF NOT EXISTS is_part boolean NOT NULL DEFAULT false; -- its plan is not the whole entity
CREATE SEQUENCE IF NOT EXISTS hub.load_plan;

-- The last status step seen per dossier, for systems whose steps are made from row images.
CREATE TABLE IF NOT EXISTS hub.step (
  system text, local_key text, status int, epoch bigint NOT NULL, number bigint NOT NULL, PRIMARY KEY (system, local_key)
);

CREATE TABLE IF NOT EXISTS hub.setting (name text PRIMARY KEY, value text NOT NULL);

-- Which systems' own records are known: nothing is delivered to a system before its initial load has passed every partition.
CREATE TABLE IF NOT EXISTS hub.loaded (system text, partition int, PRIMARY KEY (system, partition));
ALTER TABLE hub.loaded ADD COLUMN IF NOT EXISTS epoch bigint; -- of the newest load that has passed it
UPDATE hub.loaded l SET epoch = s.epoch FROM hub.capture_state s WHERE s.system = l.system AND l.epoch IS NULL;

-- Rows are reached by key alone: statistics of bodies would be read from thousands of them for nothing.
ALTER TABLE hub.record ALTER body SET STATISTICS 0, ALTER who SET STATISTICS 0;
ALTER TABLE hub.contribution ALTER body SET STATISTICS 0, ALTER claim SET STATISTICS 0;
ALTER TABLE hub.history ALTER before SET STATISTICS 0, ALTER who SET STATISTICS 0;
