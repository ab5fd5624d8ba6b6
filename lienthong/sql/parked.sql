-- What people do with parked records, and what is parked in the targets' own databases, as the applier last told. Re-runnable.

-- Every look at a payload, replay, edit, decision and discard: who, when, why, how it ended. `place` is the hub or a target,
-- `parked` the id there. An edited version stands here, encrypted as payloads are; the original stays where it is.
CREATE TABLE IF NOT EXISTS hub.parked_action (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  officer text NOT NULL,
  action text NOT NULL,   -- reveal | replay | edit | accept | keep | discard
  place text NOT NULL, parked bigint NOT NULL, system text NOT NULL,
  why text, outcome text, edited bytea
);
CREATE INDEX IF NOT EXISTS parked_action_of ON hub.parked_action (place, parked);

-- How many records each target has parked, since when, by kind; replaced as a whole by the applier.
CREATE TABLE IF NOT EXISTS hub.parked_at_target (
  system text, reason text, records bigint NOT NULL, oldest timestamptz NOT NULL, told_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (system, reason)
);

-- What a person decided to keep of what a restored source has forgotten.
CREATE INDEX IF NOT EXISTS parked_kept ON hub.parked (system, entity, local_key) WHERE state = 'kept';
