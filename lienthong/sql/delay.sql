-- How long changes took, counted by the processes themselves and added up here: what /metrics answers as histograms. Re-runnable.
CREATE TABLE IF NOT EXISTS hub.delay (
  hop text,                 -- source_to_hub | hub_to_target | source_to_target
  system text,              -- where the hop begins, or ends: the source for source_to_hub, else the target
  le float8,                -- upper bound in seconds; 'Infinity' for all above the highest
  records bigint NOT NULL,  -- in this interval alone, since the beginning
  seconds float8 NOT NULL,  -- their sum
  PRIMARY KEY (hop, system, le)
);
