"""Three databases with layouts never seen before are connected as docs/onboarding.md says: one profile and a few lines each, no code.

a: one wide product table with a composite key, money and dates as text, soft deletes, names with accents and capitals.
b: uuid keys, enum and domain types, the state as history rows, the applicant referenced from the root, the address in a table of its own.
c: codes and papers in a JSON document, status steps from row images.
"""

# ruff: noqa: E501 - SQL reads best as it is

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.city import City, city, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

EXTRA = ", ".join(f'"Cột {number}" text' for number in range(1, 46))
WIDE = f"""
CREATE SCHEMA "Quản lý";
CREATE TABLE "Quản lý"."Hồ Sơ" (
    "Năm" int, "Số" int, "LoạiVB" text NOT NULL, "MãQG" text, "TTHC" text NOT NULL, "NgàyNộp" text NOT NULL, "HẹnTrả" text, "ChủHồSơ" text NOT NULL,
    "NgàySinh" text, "ĐiệnThoại" text, "MãXã" text, "TrạngThái" int NOT NULL, "TổngPhí" text, "GhiChú" text, "ĐãXóa" boolean NOT NULL DEFAULT false,
    "NgườiTạo" text NOT NULL, {EXTRA}, PRIMARY KEY ("Năm", "Số"))
"""
HISTORY = """
CREATE TYPE trang_thai AS ENUM ('TN', 'DXL', 'BS', 'XONG');
CREATE DOMAIN so_dinh_danh AS text CHECK (VALUE ~ '^[0-9]{12}$');
CREATE TABLE nguoi (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), ho_ten text NOT NULL, cccd so_dinh_danh, dien_thoai text);
CREATE TABLE ho_so (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), ma_qg text UNIQUE, tthc text NOT NULL, ngay_nop timestamptz NOT NULL,
    nguoi_nop uuid REFERENCES nguoi, trich_yeu text);
CREATE TABLE dia_chi (ho_so_id uuid PRIMARY KEY REFERENCES ho_so ON DELETE CASCADE, dong text, ma_xa char(5));
CREATE TABLE qua_trinh (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ho_so_id uuid NOT NULL REFERENCES ho_so ON DELETE CASCADE,
    trang_thai trang_thai NOT NULL, luc timestamptz NOT NULL DEFAULT clock_timestamp(), can_bo text)
"""
DOCUMENTS = """
CREATE TABLE dossier (id serial PRIMARY KEY, created_at timestamptz NOT NULL, state text NOT NULL, data jsonb NOT NULL)
"""
PORTAL = """
CREATE TABLE ho_so (
    ma text PRIMARY KEY, tthc text NOT NULL, nop timestamptz NOT NULL, ten text, cccd text, dien_thoai text, dia_chi text, xa text, tt int NOT NULL,
    hen date, phi bigint, trich_yeu text, ghi_chu text, sinh text);
CREATE TABLE buoc (id bigserial PRIMARY KEY, ho_so text NOT NULL, tt int NOT NULL, luc timestamptz NOT NULL);
CREATE TABLE giay_to (id bigserial PRIMARY KEY, ho_so text NOT NULL, ma text NOT NULL, ten text, so_ban int)
"""

PROFILES = {
    "portal-like": """
profile: portal-like
entities:
  dossier:
    table: ho_so
    key: ma
    identifiers: {national: ma}
    fields:
      procedure_code: tthc
      submitted_at: nop
      applicant_name: ten
      applicant_personal_number: {column: cccd, read: personal_number}
      applicant_phone: dien_thoai
      applicant_address: dia_chi
      applicant_unit_code: {column: xa, read: unit_code, on: submitted_at}
      applicant_birth_date: sinh
      status: tt
      fee_total: phi
      summary: trich_yeu
      note: ghi_chu
  dossier_event:
    table: buoc
    key: id
    parent: {entity: dossier, columns: ho_so}
    fields: {status: tt, occurred_at: luc}
  dossier_component:
    table: giay_to
    key: id
    parent: {entity: dossier, columns: ho_so}
    fields: {component_code: ma, name: ten, quantity: so_ban}
""",
    "wide-product": """
profile: wide-product
entities:
  dossier:
    table: '"Quản lý"."Hồ Sơ"'
    key: [Năm, Số]
    where: {LoạiVB: HSMC}
    identifiers: {national: MãQG}
    events: TrạngThái
    deleted: {column: ĐãXóa, when: [true]}
    write: false
    fields:
      procedure_code: TTHC
      submitted_at: {column: NgàyNộp, read: datetime_text}
      due_at: {column: HẹnTrả, read: datetime_compact}
      applicant_name: {column: ChủHồSơ, read: vietnamese_name}
      applicant_birth_date: {column: NgàySinh, read: partial_date_text}
      applicant_phone: ĐiệnThoại
      applicant_unit_code: {column: MãXã, read: unit_code, on: submitted_at}
      fee_total: {column: TổngPhí, read: money_text}
      status: {column: TrạngThái, values: {0: 1, 1: 2, 2: 4, 9: 9}}
      note: GhiChú
""",
    "history-rows": """
profile: history-rows
entities:
  dossier:
    table: ho_so
    key: id
    identifiers: {national: ma_qg}
    parts:
      nguoi: {table: nguoi, on: {id: nguoi_nop}}
      noi_o: {table: dia_chi, on: {ho_so_id: id}}
      moi: {table: qua_trinh, on: {ho_so_id: id}, pick: {order_by: [luc, id], last: true}}
    fields:
      procedure_code: tthc
      submitted_at: ngay_nop
      summary: trich_yeu
      applicant_name: nguoi.ho_ten
      applicant_personal_number: {column: nguoi.cccd, read: personal_number}
      applicant_phone: nguoi.dien_thoai
      applicant_address: noi_o.dong
      applicant_unit_code: {column: noi_o.ma_xa, read: unit_code, on: submitted_at}
      status: &words {column: moi.trang_thai, values: {TN: 2, DXL: 4, BS: 5, XONG: 9}}
  dossier_event:
    table: qua_trinh
    key: id
    parent: {entity: dossier, columns: ho_so_id}
    fields:
      status: {column: trang_thai, values: {TN: 2, DXL: 4, BS: 5, XONG: 9}}
      occurred_at: luc
      handler_name: can_bo
""",
    "json-documents": """
profile: json-documents
entities:
  dossier:
    table: dossier
    key: id
    events: state
    write: false
    fields:
      national_code: {column: data, path: [codes, national]}
      procedure_code: {column: data, path: [procedure, code]}
      applicant_name: {column: data, path: [applicant, name]}
      applicant_phone: {column: data, path: [applicant, phones, 0]}
      submitted_at: created_at
      status: {column: state, values: {RECEIVED: 2, PROCESSING: 4, DONE: 9}}
  dossier_component:
    table: dossier
    key: id
    each: {column: data, path: [papers], key: code}
    fields:
      component_code: code
      name: name
      quantity: {column: copies, read: integer}
""",
}
SYSTEMS = """
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}"}
systems:
  portal:
    profile: portal-like
    dsn: ${PORTAL_DSN}
    kind: portal
"""
WARDS = {
    "a": """
  ward-a:
    profile: wide-product
    dsn: ${WARD_A_DSN}
    units: ["26737"]
    kind: ward
""",
    "b": """
  ward-b:
    profile: history-rows
    dsn: ${WARD_B_DSN}
    units: ["26740"]
    kind: ward
""",
    "c": """
  ward-c:
    profile: json-documents
    dsn: ${WARD_C_DSN}
    capture: wal
    kind: ward
""",
}
AUTHORITY = """
authority:
  dossier:
    record: &intake [{order: [portal, "kind:ward"], basis: "a test of onboarding"}]
    routing: *intake
    intake: *intake
    processing: &handling [{order: ["kind:ward", portal], basis: "a test of onboarding"}]
    result: *handling
    payment: *handling
  dossier_event: {record: *handling, step: *handling}
  dossier_component: {record: *intake, content: *intake}
"""
CONTRACTS = """
contracts:
  portal:
    system: portal
    purpose: The citizen follows the dossier.
    legal_ground: a test of onboarding
    entities: {dossier: {}, dossier_event: {}, dossier_component: {}}
  ward-b:
    system: ward-b
    purpose: The ward handles its dossiers.
    legal_ground: a test of onboarding
    entities: {dossier: {}}
"""
WORDS = {"TN": 2, "DXL": 4, "BS": 5, "XONG": 9}


@pytest.fixture(scope="module")
def office(stack_root: Path) -> Iterator[City]:
    """Four databases of vendors we know nothing of, filled, and a configuration folder without any of the wards."""
    with city(stack_root / "onboarding", clusters=("hub", "central", "local")) as made:
        made.database("central", "portal", PORTAL)
        made.database("local", "ward_a", WIDE)
        made.database("local", "ward_b", HISTORY)
        made.database("central", "ward_c", DOCUMENTS)
        fill(made)
        for name, text in (("systems", SYSTEMS + "".join(WARDS.values())), ("authority", AUTHORITY), ("contracts", CONTRACTS)):
            made.write(f"{name}.yaml", text)
        for name, text in PROFILES.items():
            made.write(f"profiles/{name}.yaml", text)
        yield made


def fill(office: City) -> None:
    insert = """INSERT INTO "Quản lý"."Hồ Sơ" ("Năm", "Số", "LoạiVB", "MãQG", "TTHC", "NgàyNộp", "HẹnTrả", "ChủHồSơ", "NgàySinh", "MãXã",
        "TrạngThái", "TổngPhí", "NgườiTạo", "ĐãXóa") VALUES """
    office.sql(
        "ward_a",
        insert
        + """
        (2025, 1, 'HSMC', 'A-1', '1.001', '02/07/2025 08:30:00', '20250709170000', 'Trần  Văn Ất', '1950', '26737', 2, '1.200.000 đ', 'x', false),
        (2025, 2, 'HSMC', 'A-2', '1.002', '03/07/2025 09:00:00', NULL, 'Lý Thị Bính', '02/09/1945', '26737', 0, NULL, 'x', false),
        (2024, 2, 'HSMC', 'A-3', '1.002', '03/07/2024 09:00:00', NULL, 'Đỗ Đinh', NULL, '26734', 9, '50.000', 'x', false),
        (2025, 3, 'HSMC', 'A-GONE', '1.002', '03/07/2025 09:00:00', NULL, 'Ai Đó', NULL, NULL, 0, NULL, 'x', true),
        (2025, 4, 'CVDEN', 'A-LETTER', '-', 'hôm qua', NULL, 'Công văn', NULL, NULL, 0, NULL, 'x', false)""",
    )
    for code, words in (("B-1", ["TN", "DXL"]), ("B-2", ["TN"]), ("B-3", ["TN", "DXL", "XONG"])):
        new_b(office, code, words)
    office.sql("ward_c", """INSERT INTO dossier (created_at, state, data)
        SELECT now(), 'RECEIVED', jsonb_build_object('codes', jsonb_build_object('national', 'C-' || n), 'procedure', '{"code": "1.003"}'::jsonb,
          'applicant', jsonb_build_object('name', 'Người ' || n, 'phones', jsonb_build_array('090' || n)),
          'papers', jsonb_build_array(jsonb_build_object('code', 'KQ.01', 'name', 'Đơn', 'copies', n), jsonb_build_object('code', 'KQ.02', 'name', 'Bản sao')))
        FROM generate_series(1, 3) n""")  # fmt: skip


def new_b(office: City, code: str, words: list[str]) -> None:
    office.sql(
        "ward_b",
        """WITH n AS (INSERT INTO nguoi (ho_ten, cccd, dien_thoai) VALUES ('Người ' || %(code)s, '079199000123', '0901') RETURNING id),
           h AS (INSERT INTO ho_so (ma_qg, tthc, ngay_nop, nguoi_nop) SELECT %(code)s, '1.004', '2025-08-01 09:00+07', id FROM n RETURNING id),
           d AS (INSERT INTO dia_chi SELECT id, '1 Lê Lợi', '26740' FROM h)
           INSERT INTO qua_trinh (ho_so_id, trang_thai) SELECT h.id, w.word::trang_thai FROM h, unnest(%(words)s) WITH ORDINALITY w (word, n) ORDER BY w.n""",
        arguments={"code": code, "words": words},  # type: ignore[arg-type]
    )


# ------------------------------------------------------------------ docs/onboarding.md, step by step
def test_the_files_alone_are_right(office: City) -> None:
    done = office.cli("check", "--offline")
    assert (done.returncode, done.stdout) == (0, "4 systems, files only: 0 errors, 0 warnings\n"), done.stderr


def test_check_says_what_is_still_to_do_and_nothing_else(office: City) -> None:
    done = office.cli("check")
    problems = [text for text in done.stdout.splitlines() if re.match(r"(portal|ward-[abc]): ", text)]
    assert done.returncode == 1, done.stdout + done.stderr
    expected = {f"{s}: lienthong: the schema lienthong is not there yet (run what `lienthong check --sql {s}` prints)"
                for s in ("portal", "ward-a", "ward-b", "ward-c")}  # fmt: skip
    assert expected <= set(problems)
    others = [p for p in problems if p not in expected and "max_slot_wal_keep_size" not in p]
    assert others == [], others


def test_after_the_administrators_script_check_is_silent(office: City) -> None:
    office.install("portal", "ward-a", "ward-b", "ward-c")
    done = office.cli("check")
    assert done.returncode == 0, done.stdout
    assert not [text for text in done.stdout.splitlines() if re.match(r"(portal|ward-[abc]): ", text) and "max_slot_wal_keep_size" not in text]


def test_a_load_takes_every_record_and_the_portal_has_them(office: City) -> None:
    office.run()
    for system in ("portal", "ward-a", "ward-b", "ward-c"):
        done = office.cli("load", system)
        assert done.returncode == 0, done.stderr
        assert f"{system}: " in done.stdout
    office.until("portal", "SELECT array_agg(ma ORDER BY ma) FROM ho_so", ["A-1", "A-2", "A-3", "B-1", "B-2", "B-3", "C-1", "C-2", "C-3"])
    # A's own words, read and written in the portal's forms.
    office.until("portal", "SELECT ten, sinh, xa, tt, phi, nop AT TIME ZONE 'Asia/Ho_Chi_Minh' = '2025-07-02 08:30' FROM ho_so WHERE ma = 'A-1'",
                 [("Trần Văn Ất", "1950", "26737", 4, 1200000, True)])  # fmt: skip
    assert office.sql("portal", "SELECT sinh, phi, xa FROM ho_so WHERE ma IN ('A-2', 'A-3') ORDER BY ma") == [
        ("1945-09-02", None, "26737"), (None, 50000, "26734")]  # fmt: skip
    # B's newest state, and every step of its history.
    assert office.sql("portal", "SELECT ma, ten, cccd, dia_chi, xa, tt FROM ho_so WHERE ma LIKE 'B%' ORDER BY ma") == [
        (code, f"Người {code}", "079199000123", "1 Lê Lợi", "26740", status) for code, status in (("B-1", 4), ("B-2", 2), ("B-3", 9))]  # fmt: skip
    office.until("portal", "SELECT ho_so, array_agg(tt ORDER BY luc, id) FROM buoc WHERE ho_so LIKE 'B%' GROUP BY 1 ORDER BY 1",
                 [("B-1", [2, 4]), ("B-2", [2]), ("B-3", [2, 4, 9])])  # fmt: skip
    # C's papers.
    office.until(
        "portal",
        "SELECT ho_so, ma, ten, so_ban FROM giay_to WHERE ho_so = 'C-2' ORDER BY ma",
        [("C-2", "KQ.01", "Đơn", 2), ("C-2", "KQ.02", "Bản sao", None)],
    )
    office.until("ward_b", "SELECT count(*) FROM ho_so", 9)  # its contract gives it all dossiers
    assert office.json("parked", "list")["records"] == []


def test_live_changes_of_the_wards_reach_the_portal(office: City) -> None:
    # a: soft delete, status as a step, a key of two columns.
    office.sql("ward_a", """UPDATE "Quản lý"."Hồ Sơ" SET "TrạngThái" = 9, "TổngPhí" = '1.250.000 đ' WHERE ("Năm", "Số") = (2025, 1)""",
               """UPDATE "Quản lý"."Hồ Sơ" SET "ĐãXóa" = true WHERE ("Năm", "Số") = (2025, 2)""")  # fmt: skip
    office.until("portal", "SELECT tt, phi FROM ho_so WHERE ma = 'A-1'", [(9, 1250000)])
    office.until("portal", "SELECT tt FROM buoc WHERE ho_so = 'A-1'", 9)
    office.until("portal", "SELECT count(*) FROM ho_so WHERE ma = 'A-2'", 0)
    # b: a history row is a new state; the applicant's own row and the address change the dossier.
    office.sql("ward_b", "INSERT INTO qua_trinh (ho_so_id, trang_thai) SELECT id, 'BS' FROM ho_so WHERE ma_qg = 'B-2'",
               "UPDATE nguoi SET dien_thoai = '0999' FROM ho_so h WHERE h.nguoi_nop = nguoi.id AND h.ma_qg = 'B-2'",
               "UPDATE dia_chi SET dong = '2 Hàm Nghi' FROM ho_so h WHERE h.id = ho_so_id AND h.ma_qg = 'B-2'")  # fmt: skip
    office.until("portal", "SELECT tt, dien_thoai, dia_chi FROM ho_so WHERE ma = 'B-2'", [(5, "0999", "2 Hàm Nghi")])
    office.until("portal", "SELECT array_agg(tt ORDER BY luc, id) FROM buoc WHERE ho_so = 'B-2'", [2, 5])
    # c: a state as a step, one paper less and one more in the document.
    office.sql("ward_c", """UPDATE dossier SET state = 'DONE', data = jsonb_set(data, '{papers}', '[{"code": "KQ.01", "copies": 7}, {"code": "KQ.09"}]')
                            WHERE data #>> '{codes,national}' = 'C-2'""")  # fmt: skip
    office.until("portal", "SELECT tt FROM ho_so WHERE ma = 'C-2'", 9)
    office.until("portal", "SELECT ma, so_ban FROM giay_to WHERE ho_so = 'C-2' ORDER BY ma", [("KQ.01", 7), ("KQ.09", None)])
    office.until("portal", "SELECT tt FROM buoc WHERE ho_so = 'C-2' ORDER BY luc DESC LIMIT 1", 9)


def test_the_portal_and_ward_b_work_on_one_dossier_both_ways(office: City) -> None:
    office.sql("portal", """INSERT INTO ho_so (ma, tthc, nop, ten, cccd, dien_thoai, dia_chi, xa, tt)
        VALUES ('P-1', '1.004', now(), 'Mai Thị Mới', '079199000456', '0902', '9 Đồng Khởi', '26740', 1)""")  # fmt: skip
    joined = """SELECT n.ho_ten, n.cccd::text, n.dien_thoai, d.dong, d.ma_xa::text FROM ho_so h JOIN nguoi n ON n.id = h.nguoi_nop
        JOIN dia_chi d ON d.ho_so_id = h.id WHERE h.ma_qg = 'P-1'"""
    office.until("ward_b", joined, [("Mai Thị Mới", "079199000456", "0902", "9 Đồng Khởi", "26740")])
    office.sql("portal", "UPDATE ho_so SET dien_thoai = '0903', dia_chi = '10 Đồng Khởi' WHERE ma = 'P-1'")
    office.until("ward_b", joined, [("Mai Thị Mới", "079199000456", "0903", "10 Đồng Khởi", "26740")])
    office.sql("ward_b", "INSERT INTO qua_trinh (ho_so_id, trang_thai, can_bo) SELECT id, 'DXL', 'Cán bộ' FROM ho_so WHERE ma_qg = 'P-1'")
    office.until("portal", "SELECT tt FROM ho_so WHERE ma = 'P-1'", 4)
    office.until("portal", "SELECT tt FROM buoc WHERE ho_so = 'P-1'", 4)
    office.sql("portal", "DELETE FROM ho_so WHERE ma = 'P-1'")
    office.until("ward_b", "SELECT count(*) FROM ho_so WHERE ma_qg = 'P-1'", 0)


def test_in_the_end_both_sides_agree_by_plain_sql(office: City) -> None:
    wait(lambda: office.cli("lag").returncode == 0, story=lambda: office.cli("status").stdout)
    portal = set(office.sql("portal", "SELECT ma, ten, tt FROM ho_so"))
    codes = {0: 1, 1: 2, 2: 4, 9: 9}
    a = {(ma, " ".join(ten.split()), codes[tt]) for ma, ten, tt in office.sql(
        "ward_a", """SELECT "MãQG", "ChủHồSơ", "TrạngThái" FROM "Quản lý"."Hồ Sơ" WHERE "LoạiVB" = 'HSMC' AND NOT "ĐãXóa\"""")}  # fmt: skip
    b = {(ma, ten, WORDS[tt]) for ma, ten, tt in office.sql(
        "ward_b", """SELECT ma_qg, ho_ten, (SELECT trang_thai FROM qua_trinh q WHERE q.ho_so_id = h.id ORDER BY luc DESC, id DESC LIMIT 1)::text
        FROM ho_so h JOIN nguoi n ON n.id = h.nguoi_nop WHERE ma_qg LIKE 'B%'""")}  # fmt: skip
    c = {(ma, ten, {"RECEIVED": 2, "PROCESSING": 4, "DONE": 9}[tt]) for ma, ten, tt in office.sql(
        "ward_c", "SELECT data #>> '{codes,national}', data #>> '{applicant,name}', state FROM dossier")}  # fmt: skip
    assert portal == a | b | c
    in_b = set(office.sql("ward_b", "SELECT ma_qg, ho_ten FROM ho_so h JOIN nguoi n ON n.id = h.nguoi_nop"))
    assert in_b == {(ma, ten) for ma, ten, _ in portal}
    assert office.cli("parked", "list").returncode == 0, office.cli("parked", "list").stdout
    assert office.stop() == [0]
