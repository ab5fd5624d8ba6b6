-- What was purged, when and by whom: counts only. Re-runnable.
CREATE TABLE IF NOT EXISTS hub.purged (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  officer text NOT NULL, what text NOT NULL, rows bigint NOT NULL, before timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS access_at ON hub.access (at);
