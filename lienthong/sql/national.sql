-- What all processes share about the national services: their rate and breaker, who looked whom up, what was answered.

-- One row per service. tokens: permits left at `at`, below zero where they are given out ahead. opened_until: the breaker is open, and after that
-- time one caller may probe; while it does, until probe_until, nobody else may.
CREATE TABLE IF NOT EXISTS hub.gate (
    service text PRIMARY KEY,
    tokens double precision NOT NULL DEFAULT 0,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    failures int NOT NULL DEFAULT 0,
    opened_until timestamptz,
    probe_until timestamptz,
    openings bigint NOT NULL DEFAULT 0
);

-- Ask for permits: how long to wait with them (null: ask again after `again` seconds), or until when the gate is closed.
CREATE OR REPLACE FUNCTION hub.enter_gate(
    service_ text, permits double precision, refill double precision, burst double precision, ahead double precision, probe_seconds double precision,
    OUT wait double precision, OUT again double precision, OUT closed_until timestamptz, OUT is_probe boolean
) LANGUAGE plpgsql AS $function$
DECLARE
    stored hub.gate;
    now_ timestamptz;
    level double precision;
BEGIN
    is_probe := false;
    SELECT * INTO stored FROM hub.gate WHERE service = service_ FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO hub.gate (service, tokens) VALUES (service_, burst) ON CONFLICT DO NOTHING;
        SELECT * INTO STRICT stored FROM hub.gate WHERE service = service_ FOR UPDATE;
    END IF;
    now_ := clock_timestamp();
    IF stored.opened_until IS NOT NULL THEN
        closed_until := greatest(stored.opened_until, stored.probe_until);
        IF closed_until > now_ THEN
            RETURN;
        END IF;
        closed_until := NULL;
    END IF;
    level := least(burst, stored.tokens + greatest(0, extract(epoch FROM now_ - stored.at)::double precision) * refill);
    IF (permits - level) / refill > ahead THEN
        again := (permits - level) / refill - ahead;
        RETURN;
    END IF;
    wait := greatest(0, (permits - level) / refill);
    is_probe := stored.opened_until IS NOT NULL;
    UPDATE hub.gate SET tokens = level - permits, at = greatest(stored.at, now_),
        probe_until = CASE WHEN is_probe THEN now_ + make_interval(secs => wait + probe_seconds) END
    WHERE service = service_;
END
$function$;

-- Who looked whom up, in which office, why, when, and what came of it. A row is committed before the call leaves and completed after it.
-- subject: HMAC of the personal number. outcome: asked | yes | no | found | missing | remembered | refused | unknown | not_sent | failed.
CREATE TABLE IF NOT EXISTS hub.access (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    officer text NOT NULL,
    unit text NOT NULL,
    purpose text NOT NULL,
    request_id uuid NOT NULL,
    operation text NOT NULL,
    subject text NOT NULL,
    outcome text NOT NULL DEFAULT 'asked',
    reason text,
    answered_at timestamptz
);
CREATE INDEX IF NOT EXISTS access_subject ON hub.access (subject, at);
CREATE INDEX IF NOT EXISTS access_officer ON hub.access (officer, at);

-- What was answered, for as long as it need not be asked again; question: HMAC of number, name and birth date, so that another name is another
-- question. asking_until: somebody asks now, and others wait for the answer.
CREATE TABLE IF NOT EXISTS hub.remembered (
    question text PRIMARY KEY,
    is_known boolean,
    has_record boolean NOT NULL DEFAULT false,
    answered_at timestamptz,
    asking_until timestamptz,
    asked_by uuid
);
