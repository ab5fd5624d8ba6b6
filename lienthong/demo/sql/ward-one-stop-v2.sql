-- What a ward on the one-stop product holds, in the words of the unified model.
-- name: citizen
SELECT personal_id AS personal_number, old_id_no AS old_identity_number, full_name,
    CASE gender WHEN 'male' THEN 1 WHEN 'female' THEN 2 WHEN 'unknown' THEN 0 END AS sex, date_of_birth AS birth_date,
    place_of_birth AS birth_place, nationality, marital_status, extract(epoch FROM identity_as_of)::bigint AS identity_as_of,
    address AS residence_address, ward_code AS residence_unit_code, extract(epoch FROM residence_as_of)::bigint AS residence_as_of,
    phone, email, extract(epoch FROM contact_as_of)::bigint AS contact_as_of
FROM resident;
-- name: procedure
SELECT service_code AS procedure_code, service_name AS name, domain_code AS field_code, service_level AS level,
    gov_agency_code AS agency_code, duration_count AS days_limit, duration_unit AS days_kind
FROM service_catalog;
-- name: dossier
SELECT d.dossier_id AS root, national_no AS national_code, dossier_no AS local_code, origin_dossier_no AS linked_code,
    service_code AS procedure_code, service_name AS procedure_name,
    array_position(ARRAY['counter', 'online', 'postal'], channel::text) AS channel,
    extract(epoch FROM submit_date)::bigint AS submitted_at, extract(epoch FROM receive_date)::bigint AS received_at,
    extract(epoch FROM due_date)::bigint AS due_at, extract(epoch FROM finish_date)::bigint AS finished_at,
    extract(epoch FROM release_date)::bigint AS returned_at, gov_agency_code AS processing_agency_code,
    d.ward_code AS processing_unit_code, receiving_agency AS receiving_agency_code,
    array_position(ARRAY['receiving', 'new', 'denied', 'processing', 'waiting', 'paying', 'cancelled', 'unresolved', 'releasing',
        'done'], dossier_status::text) AS status,
    extract(epoch FROM status_date)::bigint AS status_at, actor_name AS handler_name, actor_note AS handler_note,
    brief_note AS summary, dossier_note AS note, result_no AS result_code, result_link, fee_total,
    CASE payment_status WHEN 'free' THEN 0 WHEN 'unpaid' THEN 1 WHEN 'paid' THEN 2 END AS payment_status,
    extract(epoch FROM payment_date)::bigint AS paid_at,
    array_position(ARRAY['citizen', 'business', 'organization', 'other'], applicant_type::text) AS applicant_kind, applicant_name,
    applicant_id_no AS applicant_personal_number, date_of_birth AS applicant_birth_date, contact_tel AS applicant_phone,
    contact_email AS applicant_email, address AS applicant_address, a.ward_code AS applicant_unit_code
FROM dossier d LEFT JOIN dossier_applicant a USING (dossier_id);
-- name: dossier_event
SELECT dossier_id AS root,
    array_position(ARRAY['receiving', 'new', 'denied', 'processing', 'waiting', 'paying', 'cancelled', 'unresolved', 'releasing',
        'done'], state::text) AS status,
    extract(epoch FROM changed_at)::bigint AS occurred_at, actor_name AS handler_name, agency_code, note
FROM dossier_state_history;
-- name: dossier_component
SELECT dossier_id AS root, part_no AS component_code, display_name AS name, copies AS quantity, is_digital AS digitised,
    is_reused AS reused, file_url AS file_link, checksum AS file_hash, valid_until::text AS valid_until
FROM dossier_file;
-- name: fee
SELECT dossier_id AS root, fee_code, fee_name AS name, amount, payment_method AS method, extract(epoch FROM paid_at)::bigint AS paid_at
FROM dossier_fee;
-- name: evaluation
SELECT dossier_id AS root, stars AS score, opinion AS comment, extract(epoch FROM rated_at)::bigint AS rated_at FROM dossier_rating;
