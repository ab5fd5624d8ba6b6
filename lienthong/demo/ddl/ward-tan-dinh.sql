-- Tân Định normalises what is written: names of residents in capitals without spare spaces, and a time of change.
CREATE FUNCTION normalise_resident() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.full_name := upper(btrim(regexp_replace(NEW.full_name, '\s+', ' ', 'g')));
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER normalise_resident BEFORE INSERT OR UPDATE ON resident
    FOR EACH ROW EXECUTE FUNCTION normalise_resident();

CREATE FUNCTION stamp_dossier() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER stamp_dossier BEFORE INSERT OR UPDATE ON dossier
    FOR EACH ROW EXECUTE FUNCTION stamp_dossier();
