-- What the watch saw at each source when it last looked: what our slot costs its owner, and how its clock goes. Re-runnable.
CREATE TABLE IF NOT EXISTS hub.source_seen (
  system text PRIMARY KEY,
  slot_active boolean,                  -- null: this source is not read from its log; false too when the slot is gone or lost
  wal_retained_bytes bigint,            -- of its log, kept for our slot
  wal_safe_bytes bigint,                -- how much more it may grow before the slot is given up; null: no limit is set
  clock_offset_seconds float8 NOT NULL, -- its clock against the hub's: above 0, it is ahead
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
