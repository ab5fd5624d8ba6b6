"""The pages in two languages: a small catalogue from English, and how numbers, times and durations are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from lienthong.settings import DEFAULT_ZONE

LANGUAGES = {"vi": "Tiếng Việt", "en": "English"}
DEFAULT = "vi"
ZONE = ZoneInfo(DEFAULT_ZONE)
_STEPS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_UNITS = {"vi": {"d": "ngày", "h": "giờ", "min": "phút", "s": "giây"}, "en": {"d": "d", "h": "h", "min": "min", "s": "s"}}


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence of ours that is put into the reader's language when it is shown."""

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)


def phrase(text: str, **values: Any) -> Said:
    """A sentence for later."""
    return Said(text, values)


@cache
def catalogue(language: str) -> dict[str, str]:
    """Sentence as the code has it: the sentence in that language. English needs few: words that mean nothing without their place."""
    found: dict[str, str] = json.loads(files("lienthong.web").joinpath("languages", f"{language}.json").read_text("utf-8"))
    return found


def chosen(cookie: str | None, accepted: str) -> str:
    """The reader's language: what was chosen, else what the browser asks for first, else Vietnamese."""
    if cookie in LANGUAGES:
        return str(cookie)
    wanted = (part.split(";")[0].strip().lower().split("-")[0] for part in accepted.split(","))
    return next((language for language in wanted if language in LANGUAGES), DEFAULT)


@dataclass(frozen=True, slots=True)
class Words:
    """One reader's language."""

    language: str

    def say(self, text: str | Said, **values: Any) -> str:
        """A sentence in this language, its places filled in."""
        said = text if isinstance(text, Said) else Said(text, values)
        words, values = catalogue(self.language).get(said.text, said.text), dict(said.values)
        return words % {name: self._shown(value) for name, value in values.items()} if values else words

    def _shown(self, value: Any) -> Any:
        if isinstance(value, Said):
            return self.say(value)
        return self.number(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def number(self, value: float | None, digits: int = 0) -> str:
        """A number with the language's own marks; a dash for none."""
        if value is None:
            return "–"
        text = f"{value:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.language == "vi" else text

    def percent(self, value: float | None, digits: int = 1) -> str:
        """A share of one as a percentage."""
        return "–" if value is None else f"{self.number(value * 100, digits)} %"

    def seconds(self, value: float | None) -> str:
        """A lag: always in seconds."""
        if value is None:
            return "–"
        digits = 0 if value >= 100 or isinstance(value, int) else 1
        return f"{self.number(value, digits)} {'giây' if self.language == 'vi' else 's'}"

    def span(self, seconds: float | None) -> str:
        """A duration in its two largest units."""
        if seconds is None:
            return "–"
        left = max(int(seconds), 0)
        parts: list[str] = []
        for size, unit in _STEPS:
            if left >= size or (size == 1 and not parts):
                parts.append(f"{left // size} {_UNITS[self.language][unit]}")
                left %= size
        return " ".join(parts[:2])

    def moment(self, value: datetime | str | None) -> str:
        """A time in the city's own zone."""
        if value is None:
            return "–"
        at = (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(ZONE)
        return f"{at:%H:%M:%S} {self.day(at.date())}"

    def day(self, value: date | str | None) -> str:
        """A date."""
        if value is None:
            return "–"
        on = date.fromisoformat(value) if isinstance(value, str) else value
        return f"{on:%d/%m/%Y}" if self.language == "vi" else f"{on.day} {on:%b %Y}"

    def ago(self, value: datetime | str | None) -> str:
        """How long ago a time was."""
        if value is None:
            return "–"
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return self.span((datetime.now(UTC) - at).total_seconds())
