-- A ward on the one-stop product, version 2: English words, the applicant in its own table, states as history rows.
CREATE TABLE resident (
    resident_id        serial PRIMARY KEY,
    personal_id        varchar(20),
    old_id_no          varchar(12),
    full_name          varchar(200),
    gender             varchar(10) CHECK (gender IN ('male', 'female', 'unknown')),
    date_of_birth      varchar(10),
    place_of_birth     text,
    nationality        varchar(100),
    marital_status     varchar(40),
    identity_as_of     timestamptz,
    address            text,
    ward_code          varchar(10),
    residence_as_of    timestamptz,
    phone              varchar(20),
    email              varchar(200),
    contact_as_of      timestamptz,
    updated_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON resident (personal_id);

CREATE TABLE service_catalog (
    service_code       varchar(40) PRIMARY KEY,
    service_name       text NOT NULL,
    domain_code        varchar(40),
    service_level      smallint,
    gov_agency_code    varchar(40),
    duration_count     smallint,
    duration_unit      varchar(10) CHECK (duration_unit IN ('working', 'calendar'))
);

CREATE TABLE dossier (
    dossier_id         serial PRIMARY KEY,
    reference_uid      uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    dossier_no         varchar(60),
    national_no        varchar(60) UNIQUE,
    origin_dossier_no  varchar(60),
    service_code       varchar(40) NOT NULL,
    service_name       text,
    channel            varchar(10) CHECK (channel IN ('counter', 'online', 'postal')),
    submit_date        timestamptz NOT NULL,
    receive_date       timestamptz,
    due_date           timestamptz,
    finish_date        timestamptz,
    release_date       timestamptz,
    gov_agency_code    varchar(40),
    ward_code          varchar(10),
    receiving_agency   varchar(40),
    dossier_status     varchar(20) NOT NULL CHECK (dossier_status IN ('new', 'receiving', 'processing', 'waiting', 'pausing',
                           'paying', 'posting', 'correcting', 'cancelling', 'releasing', 'handover', 'collecting', 'denied',
                           'unresolved', 'cancelled', 'done', 'interoperating')),
    status_date        timestamptz,
    actor_name         varchar(100),
    actor_note         text,
    brief_note         text,
    dossier_note       text,
    result_no          varchar(60),
    result_link        text,
    fee_total          integer CHECK (fee_total >= 0),
    payment_status     varchar(10) CHECK (payment_status IN ('free', 'unpaid', 'paid')),
    payment_date       timestamptz,
    updated_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON dossier (dossier_no);

CREATE TABLE dossier_applicant (
    dossier_id         integer PRIMARY KEY REFERENCES dossier ON DELETE CASCADE,
    applicant_type     varchar(20) CHECK (applicant_type IN ('citizen', 'business', 'organization', 'other')),
    applicant_name     varchar(200),
    applicant_id_no    varchar(20),
    date_of_birth      varchar(10),
    contact_tel        varchar(20),
    contact_email      varchar(200),
    address            text,
    ward_code          varchar(10)
);

CREATE TABLE dossier_state_history (
    history_id         bigserial PRIMARY KEY,
    dossier_id         integer NOT NULL REFERENCES dossier ON DELETE CASCADE,
    state              varchar(20) NOT NULL,
    changed_at         timestamptz NOT NULL,
    actor_name         varchar(100),
    agency_code        varchar(40),
    note               text
);
CREATE INDEX ON dossier_state_history (dossier_id);

CREATE TABLE dossier_file (
    file_id            bigserial PRIMARY KEY,
    dossier_id         integer NOT NULL REFERENCES dossier ON DELETE CASCADE,
    part_no            varchar(60) NOT NULL,
    display_name       text,
    copies             smallint,
    is_digital         boolean,
    is_reused          boolean,
    file_url           text,
    checksum           varchar(64),
    valid_until        date
);
CREATE INDEX ON dossier_file (dossier_id);

CREATE TABLE dossier_fee (
    fee_id             bigserial PRIMARY KEY,
    dossier_id         integer NOT NULL REFERENCES dossier ON DELETE CASCADE,
    fee_code           varchar(40) NOT NULL,
    fee_name           text,
    amount             integer NOT NULL CHECK (amount >= 0),
    payment_method     varchar(20),
    paid_at            timestamptz
);
CREATE INDEX ON dossier_fee (dossier_id);

CREATE TABLE dossier_rating (
    rating_id          bigserial PRIMARY KEY,
    dossier_id         integer NOT NULL REFERENCES dossier ON DELETE CASCADE,
    stars              smallint NOT NULL CHECK (stars BETWEEN 1 AND 5),
    opinion            text,
    rated_at           timestamptz NOT NULL
);
CREATE INDEX ON dossier_rating (dossier_id);
