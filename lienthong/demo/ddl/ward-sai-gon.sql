-- Sài Gòn's work queue: every new or changed dossier leaves one task row.
CREATE TABLE work_queue (
    task_id            bigserial PRIMARY KEY,
    dossier_id         integer NOT NULL REFERENCES dossier ON DELETE CASCADE,
    task               varchar(20) NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION queue_task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work_queue (dossier_id, task) VALUES (NEW.dossier_id, NEW.dossier_status);
    RETURN NULL;
END $$;
CREATE TRIGGER queue_task AFTER INSERT OR UPDATE OF dossier_status ON dossier
    FOR EACH ROW EXECUTE FUNCTION queue_task();
