"""Pages from templates: one environment, everything escaped, nothing undefined."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from lienthong.web.told import told
from lienthong.web.words import LANGUAGES, Words


@cache
def environment() -> Environment:
    """The templates."""
    made = Environment(loader=PackageLoader("lienthong.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals["told"] = told
    return made


@cache
def fingerprint(name: str) -> str:
    """What a static file's address ends with, so that a new release is never mixed with a browser's old copy."""
    return sha256(files("lienthong.web").joinpath("static", name).read_bytes()).hexdigest()[:12]


def static(name: str) -> str:
    """The address of a static file."""
    return f"/static/{name}?{fingerprint(name)}"


def html(template: str, words: Words, status: int = 200, **values: Any) -> HTMLResponse:
    """One page in one language."""
    shown = {"words": words, "_": words.say, "static": static, "languages": LANGUAGES, "now": datetime.now(UTC), **values}
    return HTMLResponse(environment().get_template(template).render(shown), status)
