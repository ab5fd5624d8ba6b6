-- The web page: who may log in, who is logged in, and who tried. Re-runnable.

-- Local accounts. `password` is an Argon2id hash; `agencies` empty: the whole city.
CREATE TABLE IF NOT EXISTS hub.web_user (
  name text PRIMARY KEY, password text NOT NULL,
  role text NOT NULL CHECK (role IN ('viewer', 'operator', 'auditor')),
  agencies text[] NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Who is logged in. `token` is the SHA-256 of what the browser holds; `form` is what every form of the session must bring back.
CREATE TABLE IF NOT EXISTS hub.web_session (
  token bytea PRIMARY KEY,
  name text NOT NULL, origin text NOT NULL, -- local | oidc
  role text NOT NULL, agencies text[] NOT NULL, form text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS web_session_name ON hub.web_session (name);

-- What a log-in by OpenID Connect must remember between going to the provider and coming back.
CREATE TABLE IF NOT EXISTS hub.web_handshake (
  token bytea PRIMARY KEY, content jsonb NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Log-ins that went well or not, for the limit of tries and for the auditor. A name that is no account's stands here only as a hash.
CREATE TABLE IF NOT EXISTS hub.web_event (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  name text NOT NULL, address text NOT NULL, what text NOT NULL -- in | refused | out
);
CREATE INDEX IF NOT EXISTS web_event_name ON hub.web_event (name, at);
CREATE INDEX IF NOT EXISTS web_event_address ON hub.web_event (address, at);
