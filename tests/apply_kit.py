"""A target with a layout of its own, and hand-made messages for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import schemas
from connectors.avro import frame, out_codec
from connectors.kafka import Message
from connectors.postgres import Connection, connect, transaction
from lienthong.apply.target import Target
from lienthong.ddl import ddl_for
from lienthong.frames import Entry, unpack_entries
from lienthong.frames import open_frame as opened
from lienthong.output import Output
from lienthong.readers import to_micros
from lienthong.reading import SourceReadings
from lienthong.settings import Settings
from lienthong.vault import Vault

TOPIC = "lienthong.out.ward"
NOON = to_micros(datetime(2026, 3, 5, 5, tzinfo=UTC))

TABLES = """
CREATE TYPE trang_thai AS ENUM ('moi', 'dang_xu_ly', 'xong');
CREATE DOMAIN tien AS bigint CHECK (VALUE >= 0);
CREATE TABLE nguoi (id serial PRIMARY KEY, ho_ten text NOT NULL, dien_thoai varchar(20));
CREATE TABLE thu_tuc (ma text PRIMARY KEY, ten text NOT NULL);
CREATE TABLE "Hồ sơ" (
  id bigserial PRIMARY KEY, ma_qg text UNIQUE, thu_tuc text REFERENCES thu_tuc,
  "Trạng thái" trang_thai NOT NULL DEFAULT 'moi',
  ngay_nop timestamp, ghi_chu text CHECK (ghi_chu <> 'forbidden'), can_bo text, nguoi_id int NOT NULL REFERENCES nguoi,
  nguon text NOT NULL, local_only text DEFAULT 'ours'
);
CREATE TABLE dia_chi (ho_so_id bigint PRIMARY KEY REFERENCES "Hồ sơ", dia_chi text);
CREATE TABLE phi (ho_so_id bigint REFERENCES "Hồ sơ", ma text, so_tien tien, PRIMARY KEY (ho_so_id, ma));
CREATE TABLE giay_to (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), ho_so_id bigint NOT NULL REFERENCES "Hồ sơ", ma text, xoa_luc timestamptz);
CREATE TABLE danh_gia (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ho_so_id bigint NOT NULL REFERENCES "Hồ sơ", diem int, luc timestamptz);
INSERT INTO thu_tuc VALUES ('1.001', 'Khai sinh'), ('1.002', 'Kết hôn');
"""
ENTITIES: dict[str, Any] = {
    "dossier": {
        "table": '"Hồ sơ"',
        "key": "id",
        "parts": {
            "nguoi": {"table": "nguoi", "on": {"id": "nguoi_id"}},
            "dia_chi": {"table": "dia_chi", "on": {"ho_so_id": "id"}},
        },
        "insert": {"nguon": "city"},
        "fields": {
            "national_code": "ma_qg",
            "procedure_code": "thu_tuc",
            "status": {"column": "Trạng thái", "values": {"moi": 1, "dang_xu_ly": 4, "xong": 9}},
            "submitted_at": "ngay_nop",
            "note": "ghi_chu",
            "handler_name": "can_bo",
            "applicant_name": "nguoi.ho_ten",
            "applicant_phone": "nguoi.dien_thoai",
            "applicant_address": "dia_chi.dia_chi",
        },
    },
    "fee": {
        "table": "phi",
        "key": ["ho_so_id", "ma"],
        "parent": {"entity": "dossier", "columns": "ho_so_id"},
        "fields": {"fee_code": "ma", "amount": "so_tien"},
    },
    "dossier_component": {
        "table": "giay_to",
        "key": "id",
        "parent": {"entity": "dossier", "columns": "ho_so_id"},
        "deleted": {"column": "xoa_luc"},
        "fields": {"component_code": "ma"},
    },
    "evaluation": {
        "table": "danh_gia",
        "key": "id",
        "parent": {"entity": "dossier", "columns": "ho_so_id"},
        "fields": {"score": "diem", "rated_at": "luc"},
    },
    "procedure": {"table": "thu_tuc", "key": "ma", "fields": {"procedure_code": "ma", "name": "ten"}},
}
DOSSIER = {
    "national_code": "N1",
    "procedure_code": "1.001",
    "status": 4,
    "submitted_at": NOON,
    "applicant_name": "Nguyễn Văn An",
    "applicant_phone": "0901",
    "applicant_address": "1 Lê Lợi",
    "note": "ghi chú",
}


def settings(dsn: str, entities: Mapping[str, Any] = ENTITIES) -> Settings:
    return Settings.model_validate(
        {
            "hub": {"dsn": "x"},
            "kafka": {"bootstrap": "x"},
            "profiles": {"own": {"profile": "own", "entities": entities}},
            "systems": {"ward": {"profile": "own", "dsn": dsn, "capture": "outbox", "kind": "ward"}},
            "authority": {},
            "contracts": {},
        }
    )


# ------------------------------------------------------------------ messages as the router makes them
def state(record: int, version: int, values: Mapping[str, Any] = DOSSIER, *, entity: str = "dossier", **more: Any) -> bytes:
    """One record of an out-topic; `more` is what its `meta` says besides: parent, held, withheld, yields, keys."""
    meta = {
        "record": record,
        "parent": None,
        "epoch": 1,
        "version": version,
        "withheld": [],
        "held": [],
        "yields": [],
        "local_key": None,
        "parent_key": None,
        **more,
    }
    return frame(schemas.schema_id(entity), out_codec(entity).encode({"meta": meta, **values}))


def removed(record: int, version: int, reason: str, *, entity: str = "dossier", local_key: str | None = None) -> bytes:
    value = {
        "entity": entity,
        "record": record,
        "parent": None,
        "epoch": 1,
        "version": version,
        "reason": reason,
        "local_key": local_key,
    }
    return frame(schemas.schema_id("removed"), out_codec("removed").encode(value))


def merged(kept: int, gone: int, version: int) -> bytes:
    value = {"entity": "dossier", "record": kept, "from": gone, "epoch": 1, "version": version, "local_key": None}
    return frame(schemas.schema_id("merged"), out_codec("merged").encode(value))


def fee(record: int, version: int, parent: int, *, code: str = "LP1", amount: int = 5, **more: Any) -> bytes:
    return state(record, version, {"fee_code": code, "amount": amount}, entity="fee", parent=parent, **more)


class Ward:
    """A target database, the service's connection to it and one of the ward's own."""

    def __init__(self, dsn: str, entities: Mapping[str, Any] = ENTITIES, tables: str = TABLES) -> None:
        self.settings = settings(dsn, entities)
        self.own: Connection = connect(dsn, application_name="ward")
        with transaction(self.own) as cursor:
            cursor.execute(tables)
            cursor.execute(ddl_for("ward", self.settings))
        self.target = Target(self.settings, "ward", Vault(None))
        self.at: int | None = None

    def apply(self, *values: bytes) -> Counter[tuple[str, str]]:
        """Apply messages as one batch."""
        start = self.at or 0
        messages = [Message(TOPIC, 0, start + n, 0, b"key", value, ()) for n, value in enumerate(values)]
        counts = self.target.apply(messages, {(TOPIC, 0): (self.at, start + len(values))})
        self.at = start + len(values)
        return counts

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """A statement of the ward's own."""
        with transaction(self.own) as cursor:
            cursor.execute(statement, arguments)
            return cursor.fetchall() if cursor.description else []

    def dossiers(self) -> list[dict[str, Any]]:
        """The dossiers as the ward sees them."""
        found = self.sql(
            """SELECT to_jsonb(h)
                 || jsonb_build_object('ho_ten', n.ho_ten, 'dien_thoai', n.dien_thoai, 'dia_chi', d.dia_chi)
               FROM "Hồ sơ" h JOIN nguoi n ON n.id = h.nguoi_id
               LEFT JOIN dia_chi d ON d.ho_so_id = h.id ORDER BY h.id"""
        )
        return [document for (document,) in found]

    def applied(self, entity: str = "dossier") -> list[tuple[int, int, str, bool]]:
        return self.sql("SELECT record, version, state, inserted FROM lienthong.applied WHERE entity = %s ORDER BY record", entity)

    def rows_of(self, entity: str) -> list[tuple[int, str | None, str]]:
        """Which row is whose, and how it stands."""
        return self.sql("SELECT record, local_key, state FROM lienthong.applied WHERE entity = %s ORDER BY record", entity)

    def parked(self) -> list[tuple[Any, ...]]:
        return self.sql("SELECT entity, record, reason, field FROM lienthong.parked ORDER BY id")

    def overwritten(self) -> list[tuple[Any, ...]]:
        return self.sql("SELECT record, field, was, base, written FROM lienthong.overwritten ORDER BY id")

    def captured(self, key: str, entity: str = "dossier") -> list[Entry]:
        """What capture makes of one key."""
        with transaction(self.own) as cursor:
            reading = SourceReadings(cursor, "ward", self.settings.profile_of("ward"), Vault(None)).entities[entity]
            output = Output(1, "ward", 1, 1, 0)
            reading.read_keys(cursor, [(key,)], output)
        return [entry for _, data in output.close() for entry in unpack_entries(*opened(data))]

    def edited(self, key: str, entity: str = "dossier") -> tuple[int | None, bool, int | None]:
        """How capture sees a row: the record it is known as, whether it was delivered, which fields count as edited."""
        (entry,) = self.captured(key, entity)
        return entry.record, entry.delivered, entry.edited

    def close(self) -> None:
        self.target.close()
        self.own.close()
