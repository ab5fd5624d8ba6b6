-- What every stand-in of a national service keeps, in a schema of its own.
-- Every request that arrived; processed: its effect is committed, whatever the caller got to see.
CREATE TABLE IF NOT EXISTS seen (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    operation text NOT NULL,
    request_id text,
    officer text,
    unit text,
    account text,
    fault text,
    processed boolean NOT NULL DEFAULT false,
    status int
);
CREATE INDEX IF NOT EXISTS seen_at ON seen (at);
-- Faults to play: the oldest whose `times` is not used up meets the next request of its operation (null: of any).
CREATE TABLE IF NOT EXISTS fault (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    times int NOT NULL CHECK (times >= 0),
    argument jsonb NOT NULL DEFAULT '{}',
    operation text
);
-- Who may ask: a name with a secret or a certificate (PEM), by the profile the server was started with.
CREATE TABLE IF NOT EXISTS account (
    name text PRIMARY KEY,
    secret text,
    certificate text
);
-- Nonces of WS-Security user name tokens that were used.
CREATE TABLE IF NOT EXISTS nonce (
    value text PRIMARY KEY
);
