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

-- Files at the portal (variant ministry), by the SHA-256 of their content: one that many messages carry is put once.
CREATE TABLE IF NOT EXISTS hub.delivery_file (
  system text, digest bytea,
  id text,                                    -- the portal's; null: it is being put, or was without an answer
  asked_until timestamptz NOT NULL,           -- while it is being put: nobody else puts it until then
  PRIMARY KEY (system, digest)
);

-- The fields of procedures as the out-topic said them, for the messages of their dossiers. code null: gone.
CREATE TABLE IF NOT EXISTS hub.delivery_procedure (
  system text, record bigint,
  epoch bigint NOT NULL, version bigint NOT NULL,
  code text, field text,
  PRIMARY KEY (system, record)
);
CREATE INDEX IF NOT EXISTS delivery_procedure_code ON hub.delivery_procedure (system, code);

-- How many messages there are of each state; kept by the deliverers, because a count of all would be slow after a year.
CREATE TABLE IF NOT EXISTS hub.delivery_count (
  system text, outcome text, n bigint NOT NULL,
  PRIMARY KEY (system, outcome)
);
