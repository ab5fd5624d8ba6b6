"""Sentences that processes wrote and the hub keeps (reasons, advice, steps), in the reader's language: each is known again by its form.

What is stored stays English, the same in every log, command and page; a page looks for the form that a sentence has and says it in Vietnamese.
A sentence of somebody else, such as a database's own, has no form here and stays as it is: `language` says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final

from lienthong.web.words import DEFAULT, Words, catalogue

MUST_BE_KNOWN: Final = "said"
"""A place of a form whose name begins so holds a sentence of ours; what fits there but is none, is another form's."""

ONE_WORD: Final = frozenset({
    "age", "code", "entity", "failed", "kind", "most", "n", "number", "pid", "same", "seconds", "seen", "slot", "stage", "system", "topic",
})  # fmt: skip
"""Places in which no blank stands, but for the source of a record that cannot be told."""

_PLACE = re.compile(r"%\((\w+)\)s")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*")
_JOINTS = ("; ", ": ", ". ")
_MOST_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Told:
    """A sentence and the language in which it is."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class _Form:
    pattern: re.Pattern[str]
    said: str


def told(words: Words, text: str) -> Told:
    """A stored sentence for a reader."""
    if words.language != DEFAULT or not text:
        return Told(text, "en" if text else words.language)
    found = _vietnamese(text)
    return Told(text, "en") if found is None else Told(found, DEFAULT)


@cache
def forms_vi() -> dict[str, str]:
    """The form of a sentence, with its places: the same in Vietnamese."""
    found: dict[str, str] = json.loads(files("lienthong.web").joinpath("languages", "told.vi.json").read_text("utf-8"))
    return found


@cache
def _forms() -> tuple[_Form, ...]:
    """The forms with places, the most particular first."""
    open_ = [form for form in forms_vi() if _PLACE.search(form)]
    open_.sort(key=lambda form: -len(_PLACE.sub("", form)))
    return tuple(_Form(re.compile("".join(_pieces(form)), re.DOTALL), forms_vi()[form]) for form in open_)


def _pieces(form: str) -> Iterator[str]:
    for number, piece in enumerate(_PLACE.split(form)):
        yield re.escape(piece) if number % 2 == 0 else rf"(?P<{piece}>its source|\S+?)" if piece in ONE_WORD else f"(?P<{piece}>.+?)"


@lru_cache(maxsize=4096)
def _vietnamese(text: str) -> str | None:
    if len(text) > _MOST_CHARACTERS:
        return None
    if text in forms_vi():
        return forms_vi()[text]
    for form in _forms():
        found = form.pattern.fullmatch(text)
        filled = None if found is None else _filled(form.said, found.groupdict())
        if filled is not None:
            return filled
    return _joined(text)


def _filled(said: str, values: dict[str, str]) -> str | None:
    shown = {}
    for name, value in values.items():
        known = _value(value)
        if known is None and name.startswith(MUST_BE_KNOWN):
            return None
        shown[name] = value if known is None else known
    return said % shown


def _value(text: str) -> str | None:
    """What stands in a place: a sentence or a word of ours, or an instant."""
    if _INSTANT.fullmatch(text):
        return Words(DEFAULT).moment(text)
    return _vietnamese(text) or catalogue(DEFAULT).get(text)


def _joined(text: str) -> str | None:
    """Two sentences with a joint between them: what comes behind it is one of ours, what stands before it may be a name."""
    for joint in _JOINTS:
        at = text.find(joint)
        while at > 0:
            before, behind = text[:at], _vietnamese(text[at + len(joint) :])
            if behind is not None and (" " not in before or _vietnamese(before) is not None):
                return f"{_value(before) or before}{joint}{behind}"
            at = text.find(joint, at + 1)
    return None
