"""The faults' city: a portal and two wards, each with tables of its own shape, and who may say what."""

from __future__ import annotations

UNIT_A, UNIT_B = "26737", "26740"

PORTAL = """
CREATE TABLE person (
  id bigserial PRIMARY KEY, number text NOT NULL UNIQUE, name text NOT NULL, born text, address text, unit text,
  moved timestamptz, phone text, called timestamptz);
CREATE TABLE application (
  id bigserial PRIMARY KEY, code text NOT NULL UNIQUE, procedure text NOT NULL, unit text NOT NULL, state text NOT NULL DEFAULT 'sent',
  submitted timestamptz NOT NULL, name text NOT NULL, number text, phone text, remark text, officer text, answer text, result text);
CREATE TABLE step (
  id bigserial PRIMARY KEY, application_id bigint NOT NULL REFERENCES application ON DELETE CASCADE, state text NOT NULL,
  at timestamptz NOT NULL, officer text);
CREATE TABLE charge (
  id bigserial PRIMARY KEY, application_id bigint NOT NULL REFERENCES application ON DELETE CASCADE, code text NOT NULL, amount bigint);
"""
# The wards' product keeps names in capitals.
WARD = """
CREATE TABLE nguoi_dan (
  id serial PRIMARY KEY, cccd text NOT NULL, ho_ten text NOT NULL, ngay_sinh text, dia_chi text, phuong text,
  cu_tru_luc timestamptz, dien_thoai text, lien_he_luc timestamptz);
CREATE TABLE ho_so (
  id serial PRIMARY KEY, ma_qg text, thu_tuc text NOT NULL, phuong text NOT NULL, trang_thai int NOT NULL, ngay_nop timestamp NOT NULL,
  ho_ten text NOT NULL, cccd text, dien_thoai text, ghi_chu text, can_bo text, y_kien text, ket_qua text);
CREATE INDEX ON ho_so (ma_qg);
CREATE INDEX ON nguoi_dan (cccd);
CREATE TABLE phi (id serial PRIMARY KEY, ho_so_id int NOT NULL REFERENCES ho_so ON DELETE CASCADE, ma text NOT NULL, so_tien bigint);
CREATE FUNCTION chuan_hoa() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.ho_ten := upper(NEW.ho_ten); RETURN NEW; END$$;
CREATE TRIGGER chuan_hoa BEFORE INSERT OR UPDATE ON ho_so FOR EACH ROW EXECUTE FUNCTION chuan_hoa();
"""
WARD_STEPS = """
CREATE TABLE buoc (
  id serial PRIMARY KEY, ho_so_id int NOT NULL REFERENCES ho_so ON DELETE CASCADE, trang_thai int NOT NULL, luc timestamptz NOT NULL,
  can_bo text);
"""
PROFILE_PORTAL = """
version: 1
profile: portal
entities:
  citizen:
    table: person
    key: id
    fields:
      personal_number: {column: number, read: personal_number}
      full_name: {column: name, read: vietnamese_name}
      birth_date: born
      residence_address: address
      residence_unit_code: {column: unit, read: unit_code, "on": residence_as_of}
      residence_as_of: moved
      phone: phone
      contact_as_of: called
  dossier:
    table: application
    key: id
    identifiers: {national: code}
    fields:
      procedure_code: procedure
      processing_unit_code: {column: unit, read: unit_code, "on": submitted_at}
      status: &status {column: state, values: {sent: 1, received: 2, refused: 3, handled: 4, more: 5, done: 9, returned: 10}}
      submitted_at: submitted
      applicant_name: {column: name, read: vietnamese_name}
      applicant_personal_number: {column: number, read: personal_number}
      applicant_phone: phone
      note: remark
      handler_name: officer
      handler_note: answer
      result_code: result
  dossier_event:
    table: step
    key: id
    parent: {entity: dossier, columns: [application_id]}
    fields: {status: *status, occurred_at: at, handler_name: officer}
  fee:
    table: charge
    key: id
    parent: {entity: dossier, columns: [application_id]}
    fields: {fee_code: code, amount: amount}
"""
_WARD_PROFILE = """
version: 1
profile: {name}
entities:
  citizen:
    table: nguoi_dan
    key: id
    fields:
      personal_number: {{column: cccd, read: personal_number}}
      full_name: {{column: ho_ten, read: vietnamese_name}}
      birth_date: ngay_sinh
      residence_address: dia_chi
      residence_unit_code: {{column: phuong, read: unit_code, "on": residence_as_of}}
      residence_as_of: cu_tru_luc
      phone: dien_thoai
      contact_as_of: lien_he_luc
  dossier:
    table: ho_so
    key: id
    identifiers: {{national: ma_qg}}
    {events}
    fields:
      procedure_code: thu_tuc
      processing_unit_code: {{column: phuong, read: unit_code, "on": submitted_at}}
      status: &status {{column: trang_thai, values: {{1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 9: 9, 10: 10}}}}
      submitted_at: ngay_nop
      applicant_name: {{column: ho_ten, read: vietnamese_name}}
      applicant_personal_number: {{column: cccd, read: personal_number}}
      applicant_phone: dien_thoai
      note: ghi_chu
      handler_name: can_bo
      handler_note: y_kien
      result_code: ket_qua
  fee:
    table: phi
    key: id
    parent: {{entity: dossier, columns: [ho_so_id]}}
    fields: {{fee_code: ma, amount: so_tien}}
"""
_STEPS = """
  dossier_event:
    table: buoc
    key: id
    parent: {entity: dossier, columns: [ho_so_id]}
    fields: {status: *status, occurred_at: luc, handler_name: can_bo}
"""
PROFILES = {
    "portal": PROFILE_PORTAL,
    "ward": _WARD_PROFILE.format(name="ward", events="") + _STEPS,
    "ward-images": _WARD_PROFILE.format(name="ward-images", events="events: trang_thai"),
}
SYSTEMS = f"""
version: 1
hub: {{dsn: "${{HUB_DSN}}"}}
kafka: {{bootstrap: "${{KAFKA_BOOTSTRAP}}", partitions: 4}}
systems:
  portal: {{profile: portal, dsn: "${{PORTAL_DSN}}", capture: wal, kind: portal}}
  ward-a: {{profile: ward, dsn: "${{WARD_A_DSN}}", capture: wal, kind: ward, units: ["{UNIT_A}"]}}
  ward-b: {{profile: ward-images, dsn: "${{WARD_B_DSN}}", capture: outbox, kind: ward, units: ["{UNIT_B}"]}}
"""
AUTHORITY = """
version: 1
authority:
  dossier:
    record: &city [{order: [portal, "kind:ward"], basis: "the place of intake keeps the dossier"}]
    routing: *city
    intake: *city
    payment: *city
    processing: &handler [{order: ["@processing", portal, "kind:ward"], basis: "the competent agency decides"}]
    result: *handler
  dossier_event: {record: *handler, step: *handler}
  fee: {record: *handler, content: *handler}
  citizen:
    record: *city
    identity: *city
    contact: *city
    residence: [{order: ["kind:ward", portal], basis: "the ward keeps the residence"}]
"""
_OWN = "{dossier: {where: {units: own}}, dossier_event: {where: {units: own}}, fee: {where: {units: own}}, citizen: {where: {units: own}}}"
_OWN_B = "{dossier: {where: {units: own}}, fee: {where: {units: own}}, citizen: {where: {units: own}}}"
CONTRACTS = f"""
version: 1
contracts:
  portal: {{system: portal, purpose: test, legal_ground: test, entities: {{dossier: {{}}, dossier_event: {{}}, fee: {{}}, citizen: {{}}}}}}
  ward-a: {{system: ward-a, purpose: test, legal_ground: test, entities: {_OWN}}}
  ward-b: {{system: ward-b, purpose: test, legal_ground: test, entities: {_OWN_B}}}
"""
