-- What the population database has said about the identity of citizens as the city holds it. Re-runnable.
CREATE TABLE IF NOT EXISTS hub.verified (
  record bigint PRIMARY KEY,
  version bigint NOT NULL,   -- of the golden record that was asked about: a newer one is asked about again
  is_known boolean,          -- null: the question was refused
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
