"""Tables for spreadsheets and programs."""

from __future__ import annotations

import csv as writer
import io
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from fastapi import Response

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for the beginning of a formula (OWASP, CSV injection)."""


def csv(name: str, found: Iterable[Mapping[str, Any]]) -> Response:
    """A file of comma-separated values in UTF-8 with the mark by which spreadsheets know it."""
    text = io.StringIO()
    rows = list(found)
    table = writer.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\r\n")
    table.writeheader()
    table.writerows({column: _cell(value) for column, value in row.items()} for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response("\ufeff" + text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def json(document: Any) -> Response:
    """A JSON document."""
    return Response(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str), media_type="application/json")


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=str).decode()
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value
