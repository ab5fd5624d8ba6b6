-- On-time figures and scorecards as they were computed. Re-runnable.

-- On-time figures of a month. Issue 0 is the running month, replaced as often as it is computed; from 1 on, what was published stays for good.
CREATE TABLE IF NOT EXISTS hub.deadline_figures (
  month date, issue int,
  as_of timestamptz NOT NULL, computed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  calendar text NOT NULL,  -- the version of the state calendar
  digest text NOT NULL,    -- of the rows
  rows jsonb NOT NULL,     -- group -> rows
  PRIMARY KEY (month, issue)
);

-- Scorecards of a range of days: one row for each system, and one for the city (*). Computing a range again replaces it.
CREATE TABLE IF NOT EXISTS hub.scorecard (
  day_from date, day_to date, system text,
  computed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  digest text NOT NULL,    -- of the body: the same inputs give the same
  body json NOT NULL,      -- figures in the order in which they are shown
  PRIMARY KEY (day_from, day_to, system)
);
CREATE INDEX IF NOT EXISTS scorecard_newest ON hub.scorecard (day_to DESC, day_from, system);
