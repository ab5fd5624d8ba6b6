-- What the ward with software of its own holds. Times (t_), money (m_) and births (b_) are text as stored, read by the caller.
-- name: citizen
SELECT "SoDinhDanh" AS personal_number, "SoCMND" AS old_identity_number, "HoTen" AS full_name,
    CASE "GioiTinh" WHEN 'Nam' THEN 1 WHEN 'Nữ' THEN 2 WHEN 'Chưa rõ' THEN 0 END AS sex, "NgaySinh" AS birth_date,
    "NoiSinh" AS birth_place, "QuocTich" AS nationality, "HonNhan" AS marital_status, "NgayCapNhat" AS t_identity_as_of,
    "DiaChi" AS residence_address, "MaPhuongXa" AS residence_unit_code, "NgayCuTru" AS t_residence_as_of, "DienThoai" AS phone,
    "ThuDienTu" AS email, "NgayLienHe" AS t_contact_as_of
FROM quan_ly."Nhân khẩu";
-- name: dossier
SELECT "SốTT" AS root, "MãQuốcGia" AS national_code, "MãHồSơ" AS local_code, "MaLienThong" AS linked_code, "MaTTHC" AS procedure_code,
    "TenTTHC" AS procedure_name, "KenhThucHien" AS channel, "NgayNop" AS t_submitted_at, "NgayTiepNhan" AS t_received_at,
    "NgayHenTra" AS t_due_at, "NgayKetThuc" AS t_finished_at, "NgayTra" AS t_returned_at, "MaCoQuan" AS processing_agency_code,
    "MaPhuongXuLy" AS processing_unit_code, "MaCoQuanNhan" AS receiving_agency_code,
    CASE WHEN "TrangThai" BETWEEN 0 AND 9 THEN "TrangThai" + 1 END AS status, "NgayTrangThai" AS t_status_at,
    "CanBo" AS handler_name, "YKien" AS handler_note, "TrichYeu" AS summary, "GhiChu" AS note, "SoKetQua" AS result_code,
    "TepKetQua" AS result_link, "TongPhi" AS m_fee_total, "ThanhToan" AS payment_status, "NgayThanhToan" AS t_paid_at,
    "LoaiDoiTuong" AS applicant_kind, "ChuHoSo" AS applicant_name, "SoGiayTo" AS applicant_personal_number,
    "NgaySinh" AS applicant_birth_date, "DienThoai" AS applicant_phone, "ThuDienTu" AS applicant_email,
    "DiaChi" AS applicant_address, "MaPhuongXa" AS applicant_unit_code
FROM quan_ly."Hồ sơ";
-- name: journal
SELECT so_tt AS root, trang_thai + 1 AS status, luc AS t_occurred_at, id AS number FROM quan_ly.nhat_ky ORDER BY id;
-- name: dossier_component
SELECT "SốTT" AS root, "MaGiayTo" AS component_code, "TenGiayTo" AS name, "SoLuong" AS quantity, "SoHoa" = 'C' AS digitised,
    "DungLai" = 'C' AS reused, "DuongDan" AS file_link, "MaBam" AS file_hash, "HetHan"::date::text AS valid_until
FROM quan_ly."Giấy tờ";
-- name: fee
SELECT "SốTT" AS root, "MaPhi" AS fee_code, "TenPhi" AS name, "SoTien" AS m_amount, "HinhThuc" AS method, "NgayNopTien" AS t_paid_at
FROM quan_ly."Lệ phí";
