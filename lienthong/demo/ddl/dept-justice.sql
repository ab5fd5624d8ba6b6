-- The department of justice: civil status identity under the personal number itself, and a dossier book
-- numbered by year. Dossiers are never removed here, only marked.
CREATE SCHEMA ho_tich;
CREATE SEQUENCE ho_tich.so_thu_tu;

CREATE TABLE ho_tich.cong_dan (
    so_dinh_danh       char(12) PRIMARY KEY CHECK (so_dinh_danh ~ '^[0-9]{12}$'),
    so_cmnd            varchar(12),
    ho_va_ten          varchar(200) NOT NULL,
    gioi_tinh          varchar(10) CHECK (gioi_tinh IN ('NAM', 'NU', 'CHUA_RO')),
    ngay_sinh          varchar(10),
    noi_sinh           text,
    quoc_tich          varchar(100),
    hon_nhan           varchar(40),
    dan_toc            varchar(40),
    ton_giao           varchar(40),
    nhom_mau           varchar(4),
    nhan_than_tai      timestamptz,
    noi_cu_tru         text,
    ma_dvhc            varchar(10),
    cu_tru_tai         timestamptz,
    dien_thoai         varchar(20),
    thu_dien_tu        varchar(200),
    lien_he_tai        timestamptz
);

CREATE TABLE ho_tich.ho_so (
    nam                smallint NOT NULL DEFAULT extract(year FROM now()),
    so                 integer NOT NULL DEFAULT nextval('ho_tich.so_thu_tu'),
    ma_ho_so           varchar(60),
    ma_quoc_gia        varchar(60) UNIQUE,
    ma_lien_thong      varchar(60),
    ma_thu_tuc         varchar(40) NOT NULL,
    ten_thu_tuc        text,
    kenh               varchar(12) CHECK (kenh IN ('TRUC_TIEP', 'TRUC_TUYEN', 'BUU_CHINH')),
    nop_luc            timestamptz NOT NULL,
    nhan_luc           timestamptz,
    hen_tra            timestamptz,
    xong_luc           timestamptz,
    tra_luc            timestamptz,
    co_quan_xu_ly      varchar(40),
    dvhc_xu_ly         varchar(10),
    co_quan_nhan       varchar(40),
    loai_nguoi_nop     smallint,
    nguoi_nop          varchar(200),
    dinh_danh_nop      varchar(20),
    ngay_sinh_nop      varchar(10),
    dien_thoai_nop     varchar(20),
    thu_dien_tu_nop    varchar(200),
    trich_yeu          text,
    ghi_chu            text,
    trang_thai         varchar(20) NOT NULL,
    trang_thai_luc     timestamptz,
    chuyen_vien        varchar(100),
    y_kien             text,
    so_ket_qua         varchar(60),
    tep_ket_qua        text,
    tong_tien          bigint,
    da_thu             varchar(10) CHECK (da_thu IN ('KHONG', 'CHUA', 'ROI')),
    thu_luc            timestamptz,
    da_xoa             boolean NOT NULL DEFAULT false,
    PRIMARY KEY (nam, so)
);

CREATE TABLE ho_tich.dia_chi_nguoi_nop (
    nam                smallint NOT NULL,
    so                 integer NOT NULL,
    dia_chi            text,
    ma_dvhc            varchar(10),
    PRIMARY KEY (nam, so),
    FOREIGN KEY (nam, so) REFERENCES ho_tich.ho_so ON DELETE CASCADE
);

CREATE TABLE ho_tich.buoc (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    nam                smallint NOT NULL,
    so                 integer NOT NULL,
    trang_thai         varchar(20) NOT NULL,
    luc                timestamptz NOT NULL,
    chuyen_vien        varchar(100),
    co_quan            varchar(40),
    noi_dung           text,
    FOREIGN KEY (nam, so) REFERENCES ho_tich.ho_so ON DELETE CASCADE
);
CREATE INDEX ON ho_tich.buoc (nam, so);

CREATE TABLE ho_tich.giay_to (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    nam                smallint NOT NULL,
    so                 integer NOT NULL,
    ma                 varchar(60) NOT NULL,
    ten                text,
    so_ban             smallint,
    so_hoa             boolean,
    dung_lai           boolean,
    tep                text,
    ma_bam             varchar(64),
    het_han            date,
    FOREIGN KEY (nam, so) REFERENCES ho_tich.ho_so ON DELETE CASCADE
);
CREATE INDEX ON ho_tich.giay_to (nam, so);

CREATE TABLE ho_tich.le_phi (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    nam                smallint NOT NULL,
    so                 integer NOT NULL,
    ma                 varchar(40) NOT NULL,
    ten                text,
    so_tien            bigint NOT NULL CHECK (so_tien >= 0),
    cach_thu           varchar(20),
    thu_luc            timestamptz,
    FOREIGN KEY (nam, so) REFERENCES ho_tich.ho_so ON DELETE CASCADE
);
CREATE INDEX ON ho_tich.le_phi (nam, so);
