-- The people the stand-in of the population database knows; synthetic ones only.
-- Places: {"province", "district", "ward", "detail", "country"}; relatives: {"number", "old_number", "name", "nationality", "relation"}.
CREATE TABLE IF NOT EXISTS person (
    personal_number text PRIMARY KEY CHECK (personal_number ~ '^[0-9]{12}$'),
    old_identity_number text CHECK (old_identity_number ~ '^[0-9]{9}$'),
    full_name text NOT NULL,
    sex int NOT NULL DEFAULT 0 CHECK (sex BETWEEN 0 AND 2),
    birth_date text NOT NULL CHECK (birth_date ~ '^[0-9]{4}(-[0-9]{2}-[0-9]{2})?$'),
    ethnicity text,
    religion text,
    marital_status text,
    blood_type text,
    nationality text DEFAULT 'VN',
    birth_place jsonb,
    home_place jsonb,
    residence jsonb,
    current_place jsonb,
    father jsonb,
    mother jsonb,
    spouse jsonb,
    representative jsonb,
    head jsonb,
    household text,
    as_of timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS person_old_identity_number ON person (old_identity_number);
CREATE INDEX IF NOT EXISTS person_as_of ON person (as_of, personal_number);
