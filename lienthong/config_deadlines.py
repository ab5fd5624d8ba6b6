"""deadlines.yaml: what a city decides itself about its calendar and its time limits. The file may be missing."""

from __future__ import annotations

from datetime import date, time
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lienthong.strict import Strict

FILE = "deadlines.yaml"
USUAL_HOURS = ("07:00-11:30", "13:30-17:00")


def _is_span(text: str) -> str:
    start, end = _span(text)
    if start >= end:
        raise ValueError("must end after it starts, such as 07:00-11:30")
    return text


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return _seconds(first), _seconds(last)


def _seconds(text: str) -> int:
    clock = time.fromisoformat(text)
    return clock.hour * 3600 + clock.minute * 60


Span = Annotated[str, Field(pattern=r"^\d\d:\d\d-\d\d:\d\d$"), AfterValidator(_is_span)]


class OwnDay(Strict):
    """A day decided after this release: worked or off, and by which letter."""

    kind: Literal["worked", "off"]
    source: str = Field(min_length=3, description="letter or decision")


class Limit(Strict):
    """How long a procedure may take: in working days, in working hours or in calendar days."""

    amount: float = Field(gt=0)
    unit: Literal["working_days", "hours", "calendar_days"] = "working_days"


class DeadlineRules(Strict):
    """What is decided beside the published calendar and the catalogue of procedures."""

    version: Literal[1] = 1
    hours: tuple[Span, ...] = Field(USUAL_HOURS, min_length=1, description="when is worked on a working day, in order")
    disputed: dict[date, Literal["worked", "off"]] = Field(
        default_factory=dict, description="days whose standing in law is open; worked, unless it says off"
    )
    days: dict[date, OwnDay] = Field(default_factory=dict, description="days decided after this release")
    limits: dict[str, Limit] = Field(default_factory=dict, description="procedure code: its limit, in place of the catalogue's")

    def seconds(self) -> tuple[tuple[int, int], ...]:
        """The working hours as seconds since midnight."""
        return tuple(_span(text) for text in self.hours)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        spans = self.seconds()
        if any(before[1] > after[0] for before, after in zip(spans, spans[1:], strict=False)):
            raise ValueError("`hours` must be in order and must not overlap")
        return self
