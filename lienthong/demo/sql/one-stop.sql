-- What the one-stop holds, in the words of the unified model. Instants are whole seconds since 1970.
-- name: citizen
SELECT citizen_id AS personal_number, former_id AS old_identity_number, full_name,
    CASE sex WHEN 'M' THEN 1 WHEN 'F' THEN 2 WHEN 'U' THEN 0 END AS sex, birth AS birth_date, birth_place, nationality, marital_status,
    extract(epoch FROM identity_at AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS identity_as_of, address AS residence_address,
    unit AS residence_unit_code, extract(epoch FROM residence_at AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS residence_as_of,
    phone, email, extract(epoch FROM contact_at AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS contact_as_of
FROM onestop.person;
-- name: procedure
SELECT procedure_code, procedure_name AS name, field_code, service_level AS level, agency AS agency_code, limit_days AS days_limit,
    limit_kind AS days_kind
FROM onestop.procedure;
-- name: dossier
SELECT d.dossier_uid::text AS root, national_code, dossier_code AS local_code, linked_code, procedure_code, procedure_name,
    array_position(ARRAY['desk', 'online', 'post'], channel::text) AS channel,
    extract(epoch FROM submitted AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS submitted_at,
    extract(epoch FROM received AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS received_at,
    extract(epoch FROM due AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS due_at,
    extract(epoch FROM finished AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS finished_at,
    extract(epoch FROM returned AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS returned_at,
    handling_agency AS processing_agency_code, handling_unit AS processing_unit_code, counter_agency AS receiving_agency_code,
    array_position(ARRAY['receiving', 'new', 'denied', 'processing', 'waiting', 'paying', 'cancelled', 'unresolved', 'releasing',
        'done'], status::text) AS status,
    extract(epoch FROM status_at AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS status_at, handler AS handler_name, handler_note,
    summary, note, result_code, result_link, total AS fee_total,
    extract(epoch FROM p.paid AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS paid_at,
    array_position(ARRAY['citizen', 'enterprise', 'organisation', 'other'], kind::text) AS applicant_kind, a.full_name AS applicant_name,
    citizen_id AS applicant_personal_number, birth AS applicant_birth_date, phone AS applicant_phone, email AS applicant_email,
    street AS applicant_address, unit AS applicant_unit_code,
    CASE state WHEN 'none' THEN 0 WHEN 'due' THEN 1 WHEN 'paid' THEN 2 END AS payment_status
FROM onestop.dossier d LEFT JOIN onestop.applicant a USING (dossier_uid) LEFT JOIN onestop.applicant_address USING (dossier_uid)
    LEFT JOIN onestop.payment p USING (dossier_uid);
-- name: dossier_event
SELECT dossier_uid::text AS root,
    array_position(ARRAY['receiving', 'new', 'denied', 'processing', 'waiting', 'paying', 'cancelled', 'unresolved', 'releasing',
        'done'], status::text) AS status,
    extract(epoch FROM happened AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS occurred_at, handler AS handler_name, agency AS agency_code, note
FROM onestop.step;
-- name: dossier_component
SELECT dossier_uid::text AS root, paper_code AS component_code, paper_name AS name, copies AS quantity, digitised, reused,
    link AS file_link, sha256 AS file_hash, valid_until::text AS valid_until
FROM onestop.paper;
-- name: fee
SELECT dossier_uid::text AS root, fee_code, fee_name AS name, amount, method,
    extract(epoch FROM paid AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS paid_at
FROM onestop.fee;
-- name: evaluation
SELECT dossier_uid::text AS root, score, comment, extract(epoch FROM rated AT TIME ZONE 'Asia/Ho_Chi_Minh')::bigint AS rated_at
FROM onestop.rating;
