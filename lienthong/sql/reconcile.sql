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
