-- What the stand-in of the national portal holds. Progress rows have no key there, so one that comes twice is there twice.
CREATE TABLE IF NOT EXISTS dossier (
    code text PRIMARY KEY,
    fields jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updates int NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS progress (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL REFERENCES dossier,
    fields jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS progress_code ON progress (code);
-- Every state a dossier was ever given, in order.
CREATE TABLE IF NOT EXISTS history (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL,
    status text,
    fields jsonb NOT NULL
);
CREATE TABLE IF NOT EXISTS session (
    token text PRIMARY KEY,
    account text NOT NULL,
    ends_at timestamptz NOT NULL
);
CREATE SEQUENCE IF NOT EXISTS issued;
CREATE TABLE IF NOT EXISTS file (
    id text PRIMARY KEY,
    hash text NOT NULL,
    bytes bigint NOT NULL
);
-- Catalogues: filled by whoever tests.
CREATE TABLE IF NOT EXISTS field (
    code text PRIMARY KEY,
    name text NOT NULL,
    branch text
);
CREATE TABLE IF NOT EXISTS procedure (
    code text PRIMARY KEY,
    name text NOT NULL,
    field text REFERENCES field
);
CREATE TABLE IF NOT EXISTS agency (
    code text PRIMARY KEY,
    name text NOT NULL,
    level text
);
