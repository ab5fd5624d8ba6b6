-- The small schema that lienthong keeps in each database it captures from or writes to. May be run again at any time.
-- It holds: what was applied (the guard and the base), what was overwritten (correction requests), stored positions,
-- parked records, counters, and, for capture by triggers, the list of changes.

SET client_min_messages = warning;

CREATE SCHEMA IF NOT EXISTS lienthong;
COMMENT ON SCHEMA lienthong IS 'lienthong 1: keeps this database the same as the rest of the city';

-- What was delivered here last, per record: `base` is the row as it stood after our write.
CREATE TABLE IF NOT EXISTS lienthong.applied (
    entity text NOT NULL,
    record bigint NOT NULL,
    local_key text,
    epoch bigint NOT NULL,
    version bigint NOT NULL,
    base jsonb,
    state text NOT NULL CHECK (state IN ('applied', 'waiting', 'withdrawn', 'deleted', 'kept')),
    inserted boolean NOT NULL DEFAULT false,
    parent bigint,
    body bytea,
    PRIMARY KEY (entity, record)
);
CREATE INDEX IF NOT EXISTS applied_waiting ON lienthong.applied (parent) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS applied_parent ON lienthong.applied (parent) WHERE parent IS NOT NULL;
-- Joined with another record that has a row here too: `body` holds that message until the children have moved.
CREATE INDEX IF NOT EXISTS applied_leaving ON lienthong.applied (record) WHERE state = 'applied' AND body IS NOT NULL;
CREATE INDEX IF NOT EXISTS applied_local_key ON lienthong.applied (entity, local_key);

-- A local edit of a field that another system owns, as it stood before we wrote: becomes a correction request.
CREATE TABLE IF NOT EXISTS lienthong.overwritten (
    id bigserial PRIMARY KEY,
    entity text NOT NULL,
    record bigint NOT NULL,
    local_key text,
    version bigint NOT NULL,
    field text NOT NULL,
    was jsonb,
    base jsonb,
    written jsonb,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The probe record of each leg of this system's line: `in` is written here and captured, `out` arrives here.
CREATE TABLE IF NOT EXISTS lienthong.probe (
    leg text PRIMARY KEY CHECK (leg IN ('in', 'out')),
    number bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- How far each partition of the out-topic has been applied; moves in the same transaction as the rows.
CREATE TABLE IF NOT EXISTS lienthong.consumer_offset (
    topic text NOT NULL,
    partition int NOT NULL,
    topic_id text,
    next bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);

-- Records that this database's own rules refuse, with the payload, until a person has looked.
CREATE TABLE IF NOT EXISTS lienthong.parked (
    id bigserial PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    entity text,
    record bigint,
    version bigint,
    reason text NOT NULL,
    field text,
    message text,
    topic text,
    partition int,
    "offset" bigint,
    payload bytea,
    state text NOT NULL DEFAULT 'parked', -- parked | replay (a person told to, or what it waited for has come) | replayed | discarded | cured (something newer was applied)
    closed_at timestamptz
);
ALTER TABLE lienthong.parked ADD COLUMN IF NOT EXISTS closed_at timestamptz;
CREATE INDEX IF NOT EXISTS parked_open ON lienthong.parked (entity, record) WHERE state IN ('parked', 'replay');

-- Sums for the certificate: how many records ended in which way.
CREATE TABLE IF NOT EXISTS lienthong.counter (
    entity text NOT NULL,
    outcome text NOT NULL,
    n bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (entity, outcome)
);

-- Which rows changed, for capture: outbox. Read by snapshot difference on xid, emptied by the reader.
CREATE TABLE IF NOT EXISTS lienthong.change (
    id bigserial PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tbl text NOT NULL,
    op "char" NOT NULL CHECK (op IN ('I', 'U', 'D', 'T')),
    key jsonb,
    old_key jsonb,
    image jsonb
);
CREATE INDEX IF NOT EXISTS change_xid ON lienthong.change (xid);

-- Notes one changed row. Arguments: the table as the profile names it; the columns that identify the notification and the
-- columns whose every value counts, both as JSON lists. It runs as its owner, so the application's users need no rights
-- here, and it must not fail: a column that is gone is simply null, and a row with very large values is not turned into
-- JSON as a whole (a text in jsonb may not exceed 256 MB).
CREATE OR REPLACE FUNCTION lienthong.note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    names text[];
    images text[];
    new_row jsonb;
    old_row jsonb;
    new_key jsonb;
    old_key jsonb;
    new_image jsonb;
    -- What a json column may hold and jsonb refuses (\u0000, half a surrogate, 1e9999): the application's statement must not fail by us.
    risky constant text := '\\u|[eE][+]?[0-9]{4}';
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO lienthong.change (tbl, op) VALUES (TG_ARGV[0], 'T');
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF NEW *= OLD THEN
            RETURN NULL;
        END IF;
    END IF;
    names := ARRAY(SELECT jsonb_array_elements_text(TG_ARGV[1]::jsonb));
    images := ARRAY(SELECT jsonb_array_elements_text(TG_ARGV[2]::jsonb));
    IF TG_OP <> 'DELETE' THEN
        new_row := CASE WHEN pg_column_size(NEW) < 1000000 AND NEW::text !~ risky THEN to_jsonb(NEW)
            ELSE lienthong.columns_of(NEW, names || images) END;
        new_key := lienthong.part_of(new_row, names);
    END IF;
    IF TG_OP <> 'INSERT' THEN
        old_row := CASE WHEN pg_column_size(OLD) < 1000000 AND OLD::text !~ risky THEN to_jsonb(OLD)
            ELSE lienthong.columns_of(OLD, names || images) END;
        old_key := lienthong.part_of(old_row, names);
    END IF;
    IF TG_OP <> 'DELETE' AND cardinality(images) > 0 THEN
        new_image := lienthong.part_of(new_row, images);
        IF TG_OP = 'UPDATE' THEN
            new_image := nullif(new_image, lienthong.part_of(old_row, images));
        END IF;
    END IF;
    INSERT INTO lienthong.change (tbl, op, key, old_key, image)
    VALUES (TG_ARGV[0], left(TG_OP, 1)::"char", new_key, nullif(old_key, new_key), new_image);
    RETURN NULL;
END
$function$;

-- The named columns of a large row as text, asked one by one.
CREATE OR REPLACE FUNCTION lienthong.columns_of(row_ anyelement, names text[]) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    result jsonb := '{}';
    name text;
    value text;
BEGIN
    FOREACH name IN ARRAY names LOOP
        BEGIN
            EXECUTE format('SELECT ($1).%I::text', name) INTO value USING row_;
            result := result || jsonb_build_object(name, value);
        EXCEPTION WHEN undefined_column THEN
            NULL;
        END;
    END LOOP;
    RETURN result;
END
$function$;

CREATE OR REPLACE FUNCTION lienthong.part_of(row_ jsonb, names text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT jsonb_object(names, ARRAY(SELECT row_ ->> name FROM unnest(names) WITH ORDINALITY n (name, at) ORDER BY at))
$function$;

-- Gives a table a replica identity that contains the named columns, if it has none that does: its deletes and moves must
-- say which record they belong to. A unique index that holds them is preferred; the whole row is the last resort.
CREATE OR REPLACE FUNCTION lienthong.ensure_identity(tbl regclass, needed text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    index_name name;
BEGIN
    IF needed <@ lienthong.identity_of(tbl) THEN
        RETURN;
    END IF;
    SELECT c.relname INTO index_name
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = tbl AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
      AND needed <@ ARRAY(SELECT attname::text FROM pg_attribute a WHERE a.attrelid = tbl AND a.attnum = ANY (i.indkey))
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = tbl AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)
    ORDER BY i.indnatts, c.relname LIMIT 1;
    IF index_name IS NULL THEN
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', tbl);
    ELSE
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', tbl, index_name);
    END IF;
END
$function$;

-- The columns that a table's deletes carry: the whole row, the chosen index, the primary key, or none.
CREATE OR REPLACE FUNCTION lienthong.identity_of(tbl regclass) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}')
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_index i ON i.indrelid = c.oid
      AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'd' THEN i.indisprimary ELSE false END
    WHERE c.oid = tbl AND (c.relreplident = 'f' OR a.attnum = ANY (i.indkey))
$function$;

-- Puts a table into our publication with the columns we need (servers before 15 publish whole rows).
CREATE OR REPLACE FUNCTION lienthong.ensure_published(tbl regclass, needed text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    columns text := '';
    whole boolean := (SELECT relreplident = 'f' FROM pg_class WHERE oid = tbl);
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'lienthong') THEN
        CREATE PUBLICATION lienthong WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
    END IF;
    IF NOT whole AND current_setting('server_version_num')::int >= 150000 THEN
        SELECT ' (' || string_agg(quote_ident(name), ', ') || ')' INTO columns
        FROM (SELECT DISTINCT unnest(needed || lienthong.identity_of(tbl)) AS name) n;
    END IF;
    IF EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
               WHERE p.pubname = 'lienthong' AND r.prrelid = tbl) THEN
        EXECUTE format('ALTER PUBLICATION lienthong DROP TABLE %s', tbl);
    END IF;
    EXECUTE format('ALTER PUBLICATION lienthong ADD TABLE %s%s', tbl, columns);
END
$function$;

-- Lets our user write a table: the rows, and the sequences that number them.
CREATE OR REPLACE FUNCTION lienthong.ensure_writable(tbl regclass, grantee text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    counter regclass;
BEGIN
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', tbl, grantee);
    FOR counter IN
        SELECT DISTINCT s.oid::regclass FROM pg_depend d
        JOIN pg_class s ON s.oid = CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid ELSE d.refobjid END AND s.relkind = 'S'
        WHERE (d.classid = 'pg_class'::regclass AND d.refobjid = tbl AND d.deptype IN ('a', 'i'))
           OR (d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
               AND d.objid IN (SELECT oid FROM pg_attrdef WHERE adrelid = tbl))
    LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %I', counter, grantee);
    END LOOP;
END
$function$;

-- Reading the log needs the REPLICATION right, which only a superuser (or a role with CREATEROLE and the right) can give.
CREATE OR REPLACE FUNCTION lienthong.ensure_replication(grantee text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF NOT (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = grantee) THEN
        EXECUTE format('ALTER ROLE %I REPLICATION', grantee);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'a superuser must still run: ALTER ROLE % REPLICATION', quote_ident(grantee);
END
$function$;
