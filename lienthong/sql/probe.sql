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
