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
-- How far each source was when it was last seen: one that stands further back has lost something. Re-runnable.
CREATE TABLE IF NOT EXISTS hub.source_mark (
  system text PRIMARY KEY,
  timeline int, position bigint, probe bigint, seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  fenced text,                              -- why nothing of it is taken until a person has chosen
  failover boolean NOT NULL DEFAULT false,  -- it only changed its timeline: nothing may be missing
  held text,                                -- why its own edits wait: it has missed what was sent to it
  epoch_at timestamptz,                     -- when its newest life began
  applied bigint                            -- the highest position in its out-topic that it has shown
);
ALTER TABLE hub.source_mark ADD COLUMN IF NOT EXISTS fenced_probe bigint;  -- the newest probe it had when it was fenced

-- A probe record on each leg of each line: `in` from the source to the hub, `out` from the hub to the target.
CREATE TABLE IF NOT EXISTS hub.probe (
  system text, leg text CHECK (leg IN ('in', 'out')),
  number bigint NOT NULL DEFAULT 0,     -- of the probe sent last, µs
  place bigint,                         -- of that probe at its source: end of the log after it, or its transaction
  since timestamptz,                    -- when the oldest probe without an answer was sent
  arrived bigint NOT NULL DEFAULT 0,    -- number of the newest that has arrived
  arrived_at timestamptz,
  took_seconds float8,                  -- of the newest that has arrived
  state text NOT NULL DEFAULT 'waiting', stage text, reason text,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),  -- when the prober last looked
  PRIMARY KEY (system, leg)
);
CREATE INDEX IF NOT EXISTS changed_resend ON hub.changed (resend, record) WHERE resend IS NOT NULL;
-- What people do with parked records, and what is parked in the targets' own databases, as the applier last told. Re-runnable.

-- Every look at a payload, replay, edit, decision and discard: who, when, why, how it ended. `place` is the hub or a target,
-- `parked` the id there. An edited version stands here, encrypted as payloads are; the original stays where it is.
CREATE TABLE IF NOT EXISTS hub.parked_action (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  officer text NOT NULL,
  action text NOT NULL,   -- reveal | replay | edit | accept | keep | discard
  place text NOT NULL, parked bigint NOT NULL, system text NOT NULL,
  why text, outcome text, edited bytea
);
CREATE INDEX IF NOT EXISTS parked_action_of ON hub.parked_action (place, parked);

-- How many records each target has parked, since when, by kind; replaced as a whole by the applier.
CREATE TABLE IF NOT EXISTS hub.parked_at_target (
  system text, reason text, records bigint NOT NULL, oldest timestamptz NOT NULL, told_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (system, reason)
);

-- What a person decided to keep of what a restored source has forgotten.
CREATE INDEX IF NOT EXISTS parked_kept ON hub.parked (system, entity, local_key) WHERE state = 'kept';
-- Reconciliation. What was compared and found equal, so that only what has changed since must be read again.
-- local, contribution and golden are digests of the rows as stored, made where they are stored; digest is that of the unified record.
CREATE TABLE IF NOT EXISTS hub.proof (
  system text, entity text, local_key text,
  record bigint,
  bucket int NOT NULL,
  local bigint,                      -- of the system's row; null: rightly there is none
  contribution bigint,               -- of what the hub has of the system's own word; null: rightly nothing
  golden bigint,                     -- of the golden record and what decides who is entitled to it
  digest numeric(39),                -- of what the party is entitled to and holds; null: nothing
  proved_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (system, entity, local_key)
) WITH (fillfactor = 90);

-- The differences that the last comparison of each record has found.
CREATE TABLE IF NOT EXISTS hub.difference (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  system text NOT NULL, entity text NOT NULL, local_key text, record bigint,
  hop text NOT NULL, kind text NOT NULL, fields text[] NOT NULL,
  found_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS difference_place ON hub.difference (system, entity);
-- Day certificates: what was counted each day, and the chain of what was certified about it. Re-runnable.

-- What has become of the entries that the merge has read, by the day of the source's commit in Asia/Ho_Chi_Minh.
CREATE TABLE IF NOT EXISTS hub.day_count (
  day date, system text, entity text, outcome text,
  n bigint NOT NULL,
  reading bigint NOT NULL DEFAULT 0,  -- of the outcome captured: the newest reading that spoke about the day
  PRIMARY KEY (day, system, entity, outcome)
);
CREATE INDEX IF NOT EXISTS day_count_system ON hub.day_count (system, day);

-- Totals that were kept without a day belong to none.
DO $$ BEGIN
  IF (SELECT relkind FROM pg_class WHERE oid = to_regclass('hub.counter')) = 'r' THEN
    INSERT INTO hub.day_count SELECT '-infinity', system, entity, outcome, n FROM hub.counter;
    DROP TABLE hub.counter;
  END IF;
END $$;
CREATE OR REPLACE VIEW hub.counter AS
  SELECT system, entity, outcome, sum(n)::bigint AS n FROM hub.day_count GROUP BY system, entity, outcome;

-- The chain. `body` is what was signed, byte for byte; the other columns only repeat it, to find it by.
CREATE TABLE IF NOT EXISTS hub.certificate (
  number bigint PRIMARY KEY,
  system text NOT NULL, entity text NOT NULL, day date NOT NULL, issue int NOT NULL,
  state text NOT NULL, captured bigint NOT NULL,
  body text NOT NULL, key text NOT NULL, signature bytea NOT NULL,
  is_published boolean NOT NULL DEFAULT false,
  UNIQUE (system, entity, day, issue)
);
CREATE INDEX IF NOT EXISTS certificate_unpublished ON hub.certificate (number) WHERE NOT is_published;
CREATE INDEX IF NOT EXISTS certificate_day ON hub.certificate (day);
-- Delivery to the national portal: one row for each message, and what it takes to keep a dossier's messages in order. Re-runnable.

-- A dossier at the portal. Whoever has claimed it may send its next message: at most one is under way.
CREATE TABLE IF NOT EXISTS hub.delivery_dossier (
  system text, dossier bigint,                -- the hub's record number
  code text,                                  -- its code at the portal
  is_there boolean NOT NULL DEFAULT false,    -- the portal has acknowledged it: from then on a state is an update, and progress may follow
  digest bytea,                               -- of the newest state queued, links left out
  next_at timestamptz,                        -- when it is to be seen to; null: nothing to do. While claimed: when the claim is over
  ticket bigint NOT NULL DEFAULT 0,           -- grows with every claim
  PRIMARY KEY (system, dossier)
);
CREATE INDEX IF NOT EXISTS delivery_due ON hub.delivery_dossier (system, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS delivery_code ON hub.delivery_dossier (system, code) WHERE code IS NOT NULL;

-- The newest state of a dossier, its fees and papers as the out-topic said it: a message is made of all of them. Encrypted as payloads are.
CREATE TABLE IF NOT EXISTS hub.delivery_part (
  system text, entity text, record bigint,
  dossier bigint NOT NULL, epoch bigint NOT NULL, version bigint NOT NULL,
  body bytea,                                 -- null: gone
  PRIMARY KEY (system, entity, record)
);
CREATE INDEX IF NOT EXISTS delivery_part_of ON hub.delivery_part (system, dossier);

-- The messages. The body is copied in when a message is queued, so a state that lasted a second is sent too; encrypted as payloads are.
CREATE TABLE IF NOT EXISTS hub.delivery (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  system text NOT NULL, dossier bigint NOT NULL, record bigint NOT NULL, entity text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('create', 'update', 'progress', 'remove')),
  state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'confirmed', 'refused', 'unknown')),
  body bytea,                                 -- null: there was no message that the portal has a place for
  digest bytea,                               -- of the content
  step bytea, told bytea,                     -- of a step's time, status and unit: as the portal tells steps apart, to the second; as we do
  attempts int NOT NULL DEFAULT 0, request_id uuid,
  queued_at timestamptz NOT NULL DEFAULT clock_timestamp(), sent_at timestamptz, answered_at timestamptz,
  reason text,                                -- why it is refused or unknown; no personal data
  cured_at timestamptz                        -- of a refused one: a newer state of the same has been taken, or a person has let it go
);
CREATE INDEX IF NOT EXISTS delivery_open ON hub.delivery (system, dossier, id) WHERE state IN ('pending', 'sent', 'unknown');
CREATE INDEX IF NOT EXISTS delivery_oldest ON hub.delivery (system, id) WHERE state IN ('pending', 'sent', 'unknown');
CREATE INDEX IF NOT EXISTS delivery_refused ON hub.delivery (system, dossier, id) WHERE state = 'refused' AND cured_at IS NULL;
CREATE INDEX IF NOT EXISTS delivery_of ON hub.delivery (system, record, id);
CREATE UNIQUE INDEX IF NOT EXISTS delivery_told ON hub.delivery (system, dossier, told) WHERE kind = 'progress' AND state <> 'refused';
CREATE INDEX IF NOT EXISTS delivery_step ON hub.delivery (system, dossier, step) WHERE kind = 'progress' AND state = 'confirmed';

-- How many messages there are of each state; kept by the deliverers, because a count of all would be slow after a year.
CREATE TABLE IF NOT EXISTS hub.delivery_count (
  system text, outcome text, n bigint NOT NULL,
  PRIMARY KEY (system, outcome)
);
-- What all processes share about the national services: their rate and breaker, who looked whom up, what was answered.

-- One row per service. tokens: permits left at `at`, below zero where they are given out ahead. opened_until: the breaker is open, and after that
-- time one caller may probe; while it does, until probe_until, nobody else may.
CREATE TABLE IF NOT EXISTS hub.gate (
    service text PRIMARY KEY,
    tokens double precision NOT NULL DEFAULT 0,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    failures int NOT NULL DEFAULT 0,
    opened_until timestamptz,
    probe_until timestamptz,
    openings bigint NOT NULL DEFAULT 0
);

-- Ask for permits: how long to wait with them (null: ask again after `again` seconds), or until when the gate is closed.
CREATE OR REPLACE FUNCTION hub.enter_gate(
    service_ text, permits double precision, refill double precision, burst double precision, ahead double precision, probe_seconds double precision,
    OUT wait double precision, OUT again double precision, OUT closed_until timestamptz, OUT is_probe boolean
) LANGUAGE plpgsql AS $function$
DECLARE
    stored hub.gate;
    now_ timestamptz;
    level double precision;
BEGIN
    is_probe := false;
    SELECT * INTO stored FROM hub.gate WHERE service = service_ FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO hub.gate (service, tokens) VALUES (service_, burst) ON CONFLICT DO NOTHING;
        SELECT * INTO STRICT stored FROM hub.gate WHERE service = service_ FOR UPDATE;
    END IF;
    now_ := clock_timestamp();
    IF stored.opened_until IS NOT NULL THEN
        closed_until := greatest(stored.opened_until, stored.probe_until);
        IF closed_until > now_ THEN
            RETURN;
        END IF;
        closed_until := NULL;
    END IF;
    level := least(burst, stored.tokens + greatest(0, extract(epoch FROM now_ - stored.at)::double precision) * refill);
    IF (permits - level) / refill > ahead THEN
        again := (permits - level) / refill - ahead;
        RETURN;
    END IF;
    wait := greatest(0, (permits - level) / refill);
    is_probe := stored.opened_until IS NOT NULL;
    UPDATE hub.gate SET tokens = level - permits, at = greatest(stored.at, now_),
        probe_until = CASE WHEN is_probe THEN now_ + make_interval(secs => wait + probe_seconds) END
    WHERE service = service_;
END
$function$;

-- Who looked whom up, in which office, why, when, and what came of it. A row is committed before the call leaves and completed after it.
-- subject: HMAC of the personal number. outcome: asked | yes | no | found | missing | remembered | refused | unknown | not_sent | failed.
CREATE TABLE IF NOT EXISTS hub.access (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    officer text NOT NULL,
    unit text NOT NULL,
    purpose text NOT NULL,
    request_id uuid NOT NULL,
    operation text NOT NULL,
    subject text NOT NULL,
    outcome text NOT NULL DEFAULT 'asked',
    reason text,
    answered_at timestamptz
);
CREATE INDEX IF NOT EXISTS access_subject ON hub.access (subject, at);
CREATE INDEX IF NOT EXISTS access_officer ON hub.access (officer, at);

-- What was answered, for as long as it need not be asked again; question: HMAC of number, name and birth date, so that another name is another
-- question. asking_until: somebody asks now, and others wait for the answer.
CREATE TABLE IF NOT EXISTS hub.remembered (
    question text PRIMARY KEY,
    is_known boolean,
    has_record boolean NOT NULL DEFAULT false,
    answered_at timestamptz,
    asking_until timestamptz,
    asked_by uuid
);
