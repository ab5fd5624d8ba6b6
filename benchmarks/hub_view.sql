-- The hub's golden dossiers as the benchmark's table. A dossier is found by the source's own key, which is indexed, and stands
-- in the view only while its golden code is that key.
CREATE VIEW dossier AS
SELECT c.local_key AS dossier_code,
       r.body ->> 'procedure_code' AS procedure_code,
       r.body ->> 'processing_agency_code' AS agency_code,
       r.body ->> 'applicant_name' AS applicant_name,
       r.body ->> 'applicant_personal_number' AS citizen_id,
       CASE (r.body ->> 'status')::int WHEN 1 THEN 0 WHEN 2 THEN 1 WHEN 4 THEN 2 WHEN 5 THEN 3 WHEN 6 THEN 4
                                       WHEN 9 THEN 5 WHEN 10 THEN 6 END AS status,
       TIMESTAMPTZ 'epoch' + (r.body ->> 'submitted_at')::bigint * INTERVAL '1 microsecond' AS submitted_at,
       TIMESTAMPTZ 'epoch' + (r.body ->> 'due_at')::bigint * INTERVAL '1 microsecond' AS due_at,
       TIMESTAMPTZ 'epoch' + (r.body ->> 'finished_at')::bigint * INTERVAL '1 microsecond' AS finished_at,
       r.body ->> 'receiving_agency_code' AS ward_code,
       r.body ->> 'note' AS note,
       TIMESTAMPTZ 'epoch' + (r.body ->> 'status_at')::bigint * INTERVAL '1 microsecond' AS updated_at
FROM hub.contribution c JOIN hub.record r USING (record)
WHERE c.system = 'bench-source' AND c.entity = 'dossier' AND NOT r.deleted AND r.body ->> 'national_code' = c.local_key;
