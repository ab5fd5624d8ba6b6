-- What the yearly review of procedures has counted: one row for each procedure and review; the empty code stands for dossiers without one.
CREATE TABLE IF NOT EXISTS hub.procedure_review (
  as_of date NOT NULL, procedure_code text NOT NULL,
  made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  name text, field_code text, agency_code text, level int,
  is_listed boolean NOT NULL,            -- the catalogue has it
  is_offered_online boolean NOT NULL,    -- level 3 to 6
  by_year jsonb NOT NULL,                -- year -> {desk, online, post}
  undated bigint NOT NULL,               -- dossiers that say neither when they were submitted nor when received
  dossiers_3y bigint NOT NULL, dossiers_12m bigint NOT NULL, online_12m bigint NOT NULL, not_online_12m bigint NOT NULL,
  last_submitted date,
  handling_days float8, ended_12m bigint NOT NULL, late_12m bigint NOT NULL, delay_days float8, overdue_open bigint NOT NULL,
  advice text NOT NULL, rank int,        -- 1 is what to put or improve online first
  PRIMARY KEY (as_of, procedure_code)
);
