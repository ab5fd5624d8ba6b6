-- What the portal holds, in the words of the unified model. Instants are whole seconds since 1970.
-- name: citizen
SELECT so_dinh_danh AS personal_number, so_cmnd AS old_identity_number, ho_ten AS full_name, gioi_tinh AS sex, ngay_sinh AS birth_date,
    quoc_tich AS nationality, extract(epoch FROM nhan_than_luc)::bigint AS identity_as_of, dia_chi AS residence_address,
    ma_dvhc AS residence_unit_code, extract(epoch FROM dia_chi_luc)::bigint AS residence_as_of, dien_thoai AS phone,
    thu_dien_tu AS email, extract(epoch FROM lien_he_luc)::bigint AS contact_as_of
FROM cong_dan;
-- name: procedure
SELECT ma_tthc AS procedure_code, ten_tthc AS name, ma_linh_vuc AS field_code, muc_do AS level, ma_co_quan AS agency_code,
    so_ngay AS days_limit, CASE loai_ngay WHEN 'lam_viec' THEN 'working' ELSE 'calendar' END AS days_kind
FROM thu_tuc;
-- name: dossier
SELECT h.id AS root, ma_ho_so_qg AS national_code, ma_ho_so AS local_code, ma_lien_thong AS linked_code, ma_tthc AS procedure_code,
    ten_tthc AS procedure_name, kenh AS channel, extract(epoch FROM ngay_nop)::bigint AS submitted_at,
    extract(epoch FROM ngay_tiep_nhan)::bigint AS received_at, extract(epoch FROM ngay_hen_tra)::bigint AS due_at,
    extract(epoch FROM ngay_ket_thuc)::bigint AS finished_at, extract(epoch FROM ngay_tra)::bigint AS returned_at,
    ma_don_vi_xu_ly AS processing_agency_code, ma_dvhc_xu_ly AS processing_unit_code, ma_don_vi_nhan AS receiving_agency_code,
    array_position(enum_range(NULL::trang_thai_ho_so), trang_thai) AS status,
    extract(epoch FROM trang_thai_luc)::bigint AS status_at, nguoi_xu_ly AS handler_name, y_kien_xu_ly AS handler_note,
    trich_yeu AS summary, ghi_chu AS note, ma_ket_qua AS result_code, duong_dan_ket_qua AS result_link,
    tong_phi::bigint AS fee_total, thanh_toan AS payment_status, extract(epoch FROM thanh_toan_luc)::bigint AS paid_at,
    loai_doi_tuong AS applicant_kind, c.ho_ten AS applicant_name, c.so_dinh_danh AS applicant_personal_number,
    c.ngay_sinh AS applicant_birth_date, c.dien_thoai AS applicant_phone, c.thu_dien_tu AS applicant_email,
    c.dia_chi AS applicant_address, c.ma_dvhc AS applicant_unit_code
FROM ho_so h LEFT JOIN chu_ho_so c ON c.ho_so_id = h.id;
-- name: dossier_event
SELECT ho_so_id AS root, array_position(enum_range(NULL::trang_thai_ho_so), trang_thai) AS status,
    extract(epoch FROM thoi_diem)::bigint AS occurred_at, nguoi_xu_ly AS handler_name, ma_don_vi AS agency_code, noi_dung AS note
FROM tien_trinh;
-- name: dossier_component
SELECT ho_so_id AS root, ma_giay_to AS component_code, ten_giay_to AS name, so_luong AS quantity, da_so_hoa AS digitised,
    tai_su_dung AS reused, duong_dan AS file_link, ma_bam AS file_hash, het_han::text AS valid_until
FROM giay_to;
-- name: fee
SELECT ho_so_id AS root, ma_phi AS fee_code, ten_phi AS name, so_tien::bigint AS amount, hinh_thuc AS method,
    extract(epoch FROM thanh_toan_luc)::bigint AS paid_at
FROM le_phi;
-- name: evaluation
SELECT ho_so_id AS root, diem AS score, y_kien AS comment, extract(epoch FROM danh_gia_luc)::bigint AS rated_at FROM danh_gia;
