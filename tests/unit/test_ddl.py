"""The script for a system's administrator says what its capture form, profile and user need, and nothing twice."""

from __future__ import annotations

import getpass
import re
from typing import Any

import pytest

from lienthong.ddl import ddl_for, image_columns, literal, notification_columns, quoted, trigger_arguments, user_of
from lienthong.settings import Hub, Kafka, Profile, Settings, System


def profile(**changes: Any) -> Profile:
    """A dossier over two tables, its papers in a third, its fees as elements of a JSON column."""
    entities: dict[str, Any] = {
        "dossier": {
            "table": 'quan_ly."Hồ sơ"', "key": ["nam", "so"], "events": "TrangThai",
            "parts": {"nguoi": {"table": "nguoi", "on": {"ma": "nguoi_ma"}},
                      "moi": {"table": "lich_su", "on": {"nam": "nam", "so": "so"}, "pick": {"order_by": "id"}}},
            "fields": {"status": "TrangThai", "applicant_name": "nguoi.ten", "handler_name": "moi.can_bo"},
        },
        "dossier_component": {"table": "giay_to", "key": "id",
                              "parent": {"entity": "dossier", "columns": ["nam", "so"]},
                              "fields": {"component_code": "ma"}},
        "fee": {"table": 'quan_ly."Hồ sơ"', "key": ["nam", "so"], "each": {"column": "phi", "key": "ma"},
                "fields": {"fee_code": "ma"}},
        "citizen": {"table": "nguoi", "key": "id", "fields": {"full_name": "ten"}, "write": False},
    }  # fmt: skip
    return Profile.model_validate({"profile": "p", "entities": {**entities, **changes}})


def settings(capture: str, *, apply: bool = True, dsn: str = "postgresql://ward%40x@h/d") -> Settings:
    party = System.model_validate({"profile": "p", "dsn": dsn, "capture": capture, "apply": apply})
    hub, kafka = Hub(dsn="x"), Kafka.model_validate({"bootstrap": "x"})
    return Settings(hub=hub, kafka=kafka, systems={"w": party}, profiles={"p": profile()}, authority={}, contracts={})


def test_notifications_unite_every_use_of_a_table() -> None:
    assert notification_columns(profile()) == {
        'quan_ly."Hồ sơ"': ("nam", "so"), "nguoi": ("ma", "id"), "lich_su": ("nam", "so"), "giay_to": ("id",),
    }  # fmt: skip


def test_only_a_status_without_history_asks_for_images() -> None:
    assert image_columns(profile()) == {'quan_ly."Hồ sơ"': ("TrangThai",), "nguoi": (), "lich_su": (), "giay_to": ()}


def test_trigger_arguments_name_the_table_as_the_profile_does() -> None:
    arguments = trigger_arguments(profile())
    assert arguments['quan_ly."Hồ sơ"'] == ('quan_ly."Hồ sơ"', '["nam", "so"]', '["TrangThai"]')
    assert arguments["lienthong.overwritten"] == ("lienthong.overwritten", '["id"]', "[]")
    assert arguments["lienthong.consumer_offset"] == ("lienthong.consumer_offset", '["topic", "partition"]', "[]")


def test_outbox_has_two_triggers_for_each_table_and_no_publication() -> None:
    script = ddl_for("w", settings("outbox"))
    triggers = re.findall(r"CREATE OR REPLACE TRIGGER (\w+) AFTER ([A-Z ]+) ON (\S+)", script)
    tables = [table for name, _, table in triggers if name == "lienthong_note_change"]
    assert len(tables) == len(set(tables)) == 7
    assert [events for name, events, _ in triggers if name == "lienthong_note_truncate"] == ["TRUNCATE"] * 7
    assert "SELECT lienthong.ensure_published" not in script
    assert "SELECT lienthong.ensure_replication" not in script


def test_wal_publishes_each_table_once_with_keys_and_images() -> None:
    script = ddl_for("w", settings("wal"))
    published = re.findall(r"SELECT lienthong\.ensure_published\('(.+)', ARRAY\[(.*)\]::text\[\]\);", script)
    assert dict(published)['"quan_ly"."Hồ sơ"'] == "'nam', 'so', 'TrangThai'"
    assert len(published) == 7
    identities = dict(re.findall(r"SELECT lienthong\.ensure_identity\('(.+)', ARRAY\[(.*)\]::text\[\]\);", script))
    assert identities['"public"."nguoi"'] == "'ma', 'id'"
    assert "CREATE OR REPLACE TRIGGER" not in script
    assert "SELECT lienthong.ensure_replication('ward@x');" in script


def test_capture_none_has_neither() -> None:
    script = ddl_for("w", settings("none"))
    assert "CREATE OR REPLACE TRIGGER" not in script
    assert "SELECT lienthong.ensure_published" not in script
    assert "CREATE TABLE IF NOT EXISTS lienthong.applied" in script


def test_only_written_tables_are_made_writable() -> None:
    script = ddl_for("w", settings("outbox"))
    written = re.findall(r"SELECT lienthong\.ensure_writable\('(.+)', 'ward@x'\);", script)
    assert written == ['"quan_ly"."Hồ sơ"', '"public"."nguoi"', '"public"."giay_to"']
    assert 'GRANT SELECT ON "public"."lich_su" TO "ward@x";' in script  # a history that we only pick from
    reading = ddl_for("w", settings("outbox", apply=False))
    assert "SELECT lienthong.ensure_writable" not in reading
    assert 'GRANT SELECT ON "public"."giay_to" TO "ward@x";' in reading


def test_the_script_never_holds_the_connection_string() -> None:
    assert "hush" not in ddl_for("w", settings("wal", dsn="host=h user=ward password=hush"))


@pytest.mark.parametrize(
    ("dsn", "user"),
    [
        ("postgresql://an:pw@h:1/d", "an"),
        ("postgresql://h/d?user=b%C3%ACnh&sslmode=require", "bình"),
        ("host=h user=an password=x", "an"),
        (r"host=h user = 'o\'an x' dbname=d", "o'an x"),
        ("host=h dbname=user", getpass.getuser()),
        ("postgresql://h/d", getpass.getuser()),
    ],
)
def test_the_grants_go_to_the_user_of_the_dsn(dsn: str, user: str) -> None:
    assert user_of(dsn) == user


@pytest.mark.parametrize(
    ("table", "name"),
    [("ho_so", '"public"."ho_so"'), ("a.b", '"a"."b"'), ('"Hồ sơ"', '"public"."Hồ sơ"'), ('q."x.y"', '"q"."x.y"')],
)
def test_table_names_are_quoted_whole(table: str, name: str) -> None:
    assert quoted(table) == name


def test_text_constants_survive_quotes_and_backslashes() -> None:
    assert literal("o'x") == "'o''x'"
    assert literal(r"a\'b") == r"E'a\\''b'"
