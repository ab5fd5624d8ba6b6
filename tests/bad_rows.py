"""Rows that fit nowhere: a layout that takes anything, one way after the other not to fit, and what must be said about each."""

# ruff: noqa: E501 - one case a line reads best

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NAME = "Lê Thị Chim Sơn Ca"
PASSWORD = "hush-hush-canary"
CANARIES = (NAME, PASSWORD, "0791990007777", "07919900O888", "31/02/1980", "20259999101010", "CHIMSECRET", "079199000999")
GOOD_NUMBER = "079199000999"
MEGABYTES = "CHIMSECRET " * 1_000_000

TABLE = """
CREATE TABLE ho_so (
    id serial PRIMARY KEY, ma text NOT NULL, tthc text, nop text, ten text, cccd text, sinh text, xa text, tt text, phi text, ghi_chu text,
    trich_yeu text, y_kien text, doc json)
"""
PROFILE = """
version: 1
profile: loose
entities:
  dossier:
    table: ho_so
    key: id
    identifiers: {national: ma}
    fields:
      procedure_code: tthc
      submitted_at: {column: nop, read: datetime_compact}
      applicant_name: {column: ten, read: vietnamese_name}
      applicant_personal_number: {column: cccd, read: personal_number}
      applicant_birth_date: {column: sinh, read: partial_date_text}
      applicant_unit_code: {column: xa, read: unit_code, on: submitted_at}
      status: {column: tt, values: {moi: 1, dang_xu_ly: 4, xong: 9}}
      fee_total: {column: phi, read: money_text}
      note: ghi_chu
      summary: trich_yeu
      handler_note: y_kien
      result_code: {column: doc, path: [ket_qua]}
"""
SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}"}
systems:
  portal: {profile: loose, dsn: "${PORTAL_DSN}", capture: none, kind: portal}
  ward: {profile: loose, dsn: "${WARD_DSN}", kind: ward}
  ward-ascii: {profile: loose, dsn: "${WARD_ASCII_DSN}", kind: ward}
  ward-gone: {profile: loose, dsn: "${WARD_GONE_DSN}", kind: ward}
  ward-locked: {profile: loose, dsn: "${WARD_LOCKED_DSN}", kind: ward}
  ward-typo: {profile: typo, dsn: "${WARD_TYPO_DSN}", kind: ward}
"""
CONTRACTS = """
version: 1
contracts:
  portal: {system: portal, purpose: test, legal_ground: test, entities: {dossier: {}}}
"""

GOOD: dict[str, Any] = {
    "tthc": "1.001", "nop": "20250801083000", "ten": NAME, "cccd": GOOD_NUMBER, "sinh": "1980", "xa": "26737", "tt": "moi", "phi": "12.000 đ",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One way for a row not to fit, and what must be said about it."""

    name: str
    row: dict[str, Any]
    field: str
    reason: str
    says: str


CASES = [
    Case("13 digits", {"cccd": "0791990007777"}, "applicant_personal_number", "malformed_personal_number", "13 digits where 12 digits are required"),
    Case(
        "a letter in the number",
        {"cccd": "07919900O888"},
        "applicant_personal_number",
        "malformed_personal_number",
        "12 characters, not all of them digits",
    ),
    Case("31 February", {"sinh": "31/02/1980"}, "applicant_birth_date", "impossible_date", "a day or month that does not exist"),
    Case("month 99", {"nop": "20259999101010"}, "submitted_at", "impossible_date", "14 characters that are not a real"),
    Case("an unmapped word", {"tt": "tra_lai"}, "status", "unmapped_word", "'tra_lai' has no mapping"),
    Case("an unknown unit", {"xa": "99999"}, "applicant_unit_code", "unknown_unit", "the register has never had"),
    Case("a code of before the reform", {"xa": "26734"}, "applicant_unit_code", "unit_not_valid_then", "not valid on the record's date"),
    Case("no name", {"ten": None}, "applicant_name", "missing", "a mandatory field has no value"),
    Case("10 MB of note", {"ghi_chu": MEGABYTES}, "note", "too_large", "more than 200,000 characters"),
    Case("three long texts", {name: "ộ" * 199_000 for name in ("ghi_chu", "trich_yeu", "y_kien")}, "", "too_large", "in all fields together"),
    Case("not an amount", {"phi": "CHIMSECRET"}, "fee_total", "not_an_amount", "10 characters that are not an amount"),
    Case("a NUL in JSON", {"doc": '{"ket_qua": "CHIMSECRET\\u0000"}'}, "result_code", "nul_character", "the database cannot give this value out"),
]
ASCII = Case("not UTF-8", {}, "applicant_name", "invalid_utf8", "bytes that are not UTF-8 text")
