# ruff: noqa: S608 - names and numbers of our own in statements
"""What changes at a source, and every value of it, arrive: the same suite for the log and for the outbox, on real PostgreSQL and Kafka."""

from __future__ import annotations

import pytest

from lienthong.embedded import PostgresCluster
from tests.capture_kit import PROFILE, TABLES, Site
from tests.capture_scenes import (
    NewSite,
)


# ------------------------------------------------------------------ what changes
def test_inserts_updates_and_deletes_arrive(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    assert site.drain(line).field("note") == {"1": "a", "2": "b", "3": "c"}
    site.sql("UPDATE dossier SET note = 'B' WHERE id = 2", "DELETE FROM dossier WHERE id = 3")
    assert site.drain(line).field("note") == {"2": "B", "3": "gone"}
    site.assert_same()


def test_a_new_primary_key_is_the_end_of_one_record_and_the_begin_of_another(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'a')")
    site.drain(line)
    site.sql("UPDATE dossier SET id = 2 WHERE id = 1")
    assert site.drain(line).field("note") == {"1": "gone", "2": "a"}
    site.assert_same()


def test_a_part_that_moves_changes_both_roots(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id) VALUES (1), (2)", "INSERT INTO officer VALUES (7, 1, 'Bình')")
    assert site.drain(line).field("handler_name") == {"1": "Bình", "2": None}
    site.sql("UPDATE officer SET dossier_id = 2 WHERE id = 7")
    assert site.drain(line).field("handler_name") == {"1": None, "2": "Bình"}
    site.sql("UPDATE officer SET name = 'Bích' WHERE id = 7")
    assert site.drain(line).field("handler_name") == {"2": "Bích"}
    site.sql("DELETE FROM officer")
    assert site.drain(line).field("handler_name") == {"2": None}
    site.assert_same()


def test_a_part_that_roots_refer_to_changes_all_of_them(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO address VALUES (1, 'A'), (2, 'B')", "INSERT INTO dossier (id, address_id) VALUES (1, 1), (2, 1), (3, 2)")
    assert site.drain(line).field("applicant_address") == {"1": "A", "2": "A", "3": "B"}
    site.sql("UPDATE address SET line = 'A2' WHERE id = 1")
    assert site.drain(line).field("applicant_address") == {"1": "A2", "2": "A2"}
    site.sql("UPDATE address SET id = 9 WHERE id = 1")
    assert site.drain(line).field("applicant_address") == {"1": None, "2": None}
    site.sql("UPDATE dossier SET address_id = 9 WHERE id = 2")
    assert site.drain(line).field("applicant_address") == {"2": "A2"}
    site.assert_same()


def test_rollbacks_and_savepoints_leave_only_what_was_committed(site: Site) -> None:
    line = site.line()
    session = site.open()
    session.cursor().execute("INSERT INTO dossier (id, note) VALUES (1, 'never')")
    session.rollback()
    session.cursor().execute(
        "INSERT INTO dossier (id, note) VALUES (2, 'kept'); SAVEPOINT s; INSERT INTO dossier (id) VALUES (3);"
        "UPDATE dossier SET note = 'lost' WHERE id = 2; ROLLBACK TO s; INSERT INTO dossier (id, note) VALUES (4, 'after')"
    )
    session.commit()
    assert site.drain(line).field("note") == {"2": "kept", "4": "after"}
    site.assert_same()


def test_one_transaction_over_several_tables_is_one_reading(site: Site) -> None:
    line = site.line()
    site.sql(
        "INSERT INTO dossier (id) VALUES (1)",
        "INSERT INTO officer VALUES (1, 1, 'Chi')",
        """INSERT INTO "Lệ phí" VALUES ('P1', 'LP', 1, 50000)""",
        "UPDATE dossier SET note = 'x' WHERE id = 1",
    )
    published = site.drain(line)
    assert len({header.version for header in published.headers}) == 1
    assert published.field("handler_name") == {"1": "Chi"}
    assert published.field("amount", "fee") == {"P1|LP": 50000}
    assert [entry.parent for entry in published.entries if entry.entity == "fee"] == ["1"]


# ------------------------------------------------------------------ values
TRICKY = {
    1: "NULL",
    2: "'quote' \"double\"",
    3: "tab\tnewline\nreturn\r",
    4: "back\\slash \\N \\t",
    5: "Nguyễn",
    6: "Nguye\u0302\u0303n",
    7: "",
    8: "  spaces  ",
    9: "😀 \u200b %s %(x)s {0}",
    10: "\x01\x7f",
}


def test_values_arrive_as_they_are(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (0, NULL)")
    with site.admin.cursor() as cursor:
        for key, value in TRICKY.items():
            cursor.execute("INSERT INTO dossier (id, note) VALUES (%s, %s)", [key, value])
    site.admin.commit()
    assert site.drain(line).field("note") == {"0": None} | {str(key): value for key, value in TRICKY.items()}
    site.assert_same()


def test_keys_of_any_text_and_of_several_columns_arrive(site: Site) -> None:
    line = site.line()
    keys = [("a|b", "c"), ("a", "b|c"), ("a\\", "|b"), ("a\\|", "b"), ("Đ\u1ed3ng", "Đo\u0302\u0300ng"), ("", "'\"\t")]
    with site.admin.cursor() as cursor:
        cursor.execute("INSERT INTO dossier (id) VALUES (1)")
        for key in keys:
            cursor.execute('INSERT INTO "Lệ phí" VALUES (%s, %s, 1, 1)', key)
    site.admin.commit()
    site.drain(line)
    held = site.in_hub("fee")
    assert len(held) == len(keys)
    assert {values["fee_code"] for values in held.values()} == {code for _, code in keys}
    site.sql("""DELETE FROM "Lệ phí" WHERE unit = 'a|b' OR "Mã" = '|b'""", """UPDATE "Lệ phí" SET "Mã" = 'z' WHERE unit = ''""")
    site.drain(line)
    assert {values["fee_code"] for values in site.in_hub("fee").values()} == {"b|c", "b", keys[4][1], "z"}


ODD_KEYS = {
    "char(8)": ("'ab'", "'cd'"),
    "timestamptz": ("'2026-01-01 07:00+07'", "'2026-01-02 07:00:00.5+07'"),
    "boolean": ("true", "false"),
    "date": ("'2026-02-01'", "'2026-02-03'"),
    "numeric(9,2)": ("1.50", "2"),
}


@pytest.mark.parametrize("kind", ODD_KEYS)
def test_a_key_has_one_text_whoever_writes_it(form: str, kind: str, new_site: NewSite) -> None:
    """In the log, in a trigger and in a query a char(8), a time or a boolean look different."""
    profile = {
        **PROFILE,
        "entities": {
            "dossier": {
                **PROFILE["entities"]["dossier"],
                "parts": {},
                "fields": {name: spec for name, spec in PROFILE["entities"]["dossier"]["fields"].items() if "." not in str(spec)},
            }
        },
    }
    site = new_site(form, profile)
    site.install(TABLES, f"ALTER TABLE dossier ALTER COLUMN id TYPE {kind} USING NULL")
    line = site.line()
    kept, removed = ODD_KEYS[kind]
    site.sql(
        "SET LOCAL timezone = 'Asia/Ho_Chi_Minh'; SET LOCAL datestyle = 'SQL, DMY'",
        f"INSERT INTO dossier (id, note) VALUES ({kept}::{kind}, 'kept'), ({removed}::{kind}, 'removed')",
    )
    assert sorted(values["note"] for values in site.drain(line).states().values() if values) == ["kept", "removed"]
    site.sql("SET LOCAL timezone = 'Asia/Ho_Chi_Minh'; SET LOCAL datestyle = 'SQL, DMY'", f"DELETE FROM dossier WHERE id = {removed}::{kind}")
    published = site.drain(line)
    assert list(published.states().values()) == [None]
    held = site.in_hub()
    assert [values["note"] for values in held.values()] == ["kept"]
    assert site.history(next(iter(held))) == [1]


def test_what_is_too_large_is_refused_and_the_rest_flows(site: Site) -> None:
    line = site.line()
    site.sql(
        "INSERT INTO dossier (id, note) VALUES (1, repeat('ă', 150000)), (2, repeat('x', 1000000)), (4, 'small')",
        "INSERT INTO dossier (id, note) VALUES (3, repeat('y', 10000000))",
        "INSERT INTO dossier (id, note, summary, applicant) SELECT 5, s, s, s FROM (SELECT repeat('ộ', 199000) AS s) x",
    )
    published = site.drain(line)
    assert published.refused() == [("2", "note", "too_large"), ("3", "note", "too_large"), ("5", "", "too_large")]
    assert {key: len(note) for key, note in published.field("note").items()} == {"1": 150000, "4": 5}
    site.sql("UPDATE dossier SET summary = 'touched' WHERE id = 1")  # the unchanged large value is not in the log
    assert len(site.drain(line).field("note")["1"]) == 150000
    site.sql("UPDATE dossier SET note = 'cured', summary = NULL, applicant = 'An'")
    site.drain(line)
    site.assert_same()


def test_refusals_name_field_and_reason_and_nothing_else_stops(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, status, applicant) VALUES (1, 'nope', 'a'), (2, 'new', NULL), (3, NULL, 'c'), (4, 'new', 'd')")
    published = site.drain(line)
    assert published.refused() == [("1", "status", "unmapped_word"), ("2", "applicant_name", "missing"), ("3", "status", "missing")]
    assert published.field("applicant_name") == {"4": "d"}


def test_a_sql_ascii_database_gives_its_utf8_and_its_broken_bytes_are_refused(form: str, new_site: NewSite, pg: PostgresCluster) -> None:
    pg.execute("DROP DATABASE IF EXISTS ascii_source WITH (FORCE)")
    pg.execute("CREATE DATABASE ascii_source TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'")
    site = new_site(form, dsn=pg.dsn("ascii_source"))
    try:
        site.install(TABLES)
        line = site.line()
        site.sql(
            "INSERT INTO dossier (id, note, summary) VALUES (1, 'Nguyễn Đồng', 'x'), (2, E'caf\\xe9', 'bad')",
            "INSERT INTO dossier (id, note, summary) VALUES (3, 'ok', E'\\xff\\xfe'), (4, 'tốt', NULL)",
            """INSERT INTO "Lệ phí" VALUES ('Phí đợt', 'P1', 1, 5), (E'\\xe9', 'P2', 1, 5)""",
        )
        published = site.drain(line)
        assert published.refused() == [("2", "note", "invalid_utf8"), ("3", "summary", "invalid_utf8"), ("\\xe9|P2", "", "invalid_utf8")]
        assert published.field("note") == {"1": "Nguyễn Đồng", "4": "tốt"}
        assert published.field("fee_code", "fee") == {"Phí đợt|P1": "P1"}
        site.sql("UPDATE dossier SET note = 'được', summary = 'đ'", """DELETE FROM "Lệ phí" WHERE "Mã" = 'P1'""")
        site.drain(line)
        site.assert_same()
        assert site.in_hub("fee") == {}
    finally:
        site.close = lambda: None  # type: ignore[method-assign]
        Site.close(site)
        pg.drop_database("ascii_source")
