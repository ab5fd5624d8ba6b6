"""Structured logs on stderr: one JSON object a line, keys and counts only, never personal data."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

_FIELDS = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure(*, debug: bool = False) -> None:
    """Log our own words at INFO; the libraries' only when something is wrong, because they may quote what they carry."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(_FIELDS, rename_fields={"asctime": "at", "levelname": "level"}))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("lienthong", "connectors"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    silence_libraries()


def silence_libraries() -> None:
    """Let those that may quote what they carry say nothing, whoever has set up the logs."""
    for name in ("kafka", "zeep", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
