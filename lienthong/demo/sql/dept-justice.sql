-- What the department of justice holds, in the words of the unified model; marked dossiers are gone.
-- name: citizen
SELECT so_dinh_danh AS personal_number, so_cmnd AS old_identity_number, ho_va_ten AS full_name,
    CASE gioi_tinh WHEN 'NAM' THEN 1 WHEN 'NU' THEN 2 WHEN 'CHUA_RO' THEN 0 END AS sex, ngay_sinh AS birth_date,
    noi_sinh AS birth_place, quoc_tich AS nationality, hon_nhan AS marital_status,
    extract(epoch FROM nhan_than_tai)::bigint AS identity_as_of, noi_cu_tru AS residence_address, ma_dvhc AS residence_unit_code,
    extract(epoch FROM cu_tru_tai)::bigint AS residence_as_of, dien_thoai AS phone, thu_dien_tu AS email,
    extract(epoch FROM lien_he_tai)::bigint AS contact_as_of
FROM ho_tich.cong_dan;
-- name: dossier
SELECT h.nam || '/' || h.so AS root, ma_quoc_gia AS national_code, ma_ho_so AS local_code, ma_lien_thong AS linked_code,
    ma_thu_tuc AS procedure_code, ten_thu_tuc AS procedure_name,
    array_position(ARRAY['TRUC_TIEP', 'TRUC_TUYEN', 'BUU_CHINH'], kenh::text) AS channel,
    extract(epoch FROM nop_luc)::bigint AS submitted_at, extract(epoch FROM nhan_luc)::bigint AS received_at,
    extract(epoch FROM hen_tra)::bigint AS due_at, extract(epoch FROM xong_luc)::bigint AS finished_at,
    extract(epoch FROM tra_luc)::bigint AS returned_at, co_quan_xu_ly AS processing_agency_code,
    dvhc_xu_ly AS processing_unit_code, co_quan_nhan AS receiving_agency_code,
    array_position(ARRAY['MOI', 'TIEP_NHAN', 'TU_CHOI', 'DANG_XU_LY', 'CHO_BO_SUNG', 'CHO_NOP_PHI', 'RUT', 'DUNG', 'XONG', 'DA_TRA'],
        trang_thai::text) AS status,
    extract(epoch FROM trang_thai_luc)::bigint AS status_at, chuyen_vien AS handler_name, y_kien AS handler_note,
    trich_yeu AS summary, ghi_chu AS note, so_ket_qua AS result_code, tep_ket_qua AS result_link, tong_tien AS fee_total,
    CASE da_thu WHEN 'KHONG' THEN 0 WHEN 'CHUA' THEN 1 WHEN 'ROI' THEN 2 END AS payment_status,
    extract(epoch FROM thu_luc)::bigint AS paid_at, loai_nguoi_nop AS applicant_kind, nguoi_nop AS applicant_name,
    dinh_danh_nop AS applicant_personal_number, ngay_sinh_nop AS applicant_birth_date, dien_thoai_nop AS applicant_phone,
    thu_dien_tu_nop AS applicant_email, a.dia_chi AS applicant_address, a.ma_dvhc AS applicant_unit_code
FROM ho_tich.ho_so h LEFT JOIN ho_tich.dia_chi_nguoi_nop a USING (nam, so) WHERE NOT da_xoa;
-- name: dossier_event
SELECT nam || '/' || so AS root,
    array_position(ARRAY['MOI', 'TIEP_NHAN', 'TU_CHOI', 'DANG_XU_LY', 'CHO_BO_SUNG', 'CHO_NOP_PHI', 'RUT', 'DUNG', 'XONG', 'DA_TRA'],
        trang_thai::text) AS status,
    extract(epoch FROM luc)::bigint AS occurred_at, chuyen_vien AS handler_name, co_quan AS agency_code, noi_dung AS note
FROM ho_tich.buoc;
-- name: dossier_component
SELECT nam || '/' || so AS root, ma AS component_code, ten AS name, so_ban AS quantity, so_hoa AS digitised, dung_lai AS reused,
    tep AS file_link, ma_bam AS file_hash, het_han::text AS valid_until
FROM ho_tich.giay_to;
-- name: fee
SELECT nam || '/' || so AS root, ma AS fee_code, ten AS name, so_tien AS amount, cach_thu AS method,
    extract(epoch FROM thu_luc)::bigint AS paid_at
FROM ho_tich.le_phi;
