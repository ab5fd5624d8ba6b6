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
