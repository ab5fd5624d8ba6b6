"""expectations.yaml: which hop a dossier must have made by when, per procedure and channel. Without the file the package's own counts."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal, Self

from pydantic import Field, model_validator

from lienthong.config_files import read_document
from lienthong.strict import Strict

FILE = "expectations.yaml"
HOPS = ("received", "acknowledged", "confirmed", "shown", "seen")
CHANNELS = {"desk": 1, "online": 2, "post": 3}
"""Channels by the number that `Dossier.channel` has."""

Hop = Literal["received", "acknowledged", "confirmed", "shown", "seen"]


class Within(Strict):
    """How long a hop may take: in working days or hours of the state calendar, or in hours of the clock."""

    working_days: float | None = Field(None, gt=0)
    working_hours: float | None = Field(None, gt=0)
    hours: float | None = Field(None, gt=0, description="of the clock, nights and days off too: for what machines do")

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if sum(amount is not None for amount in (self.working_days, self.working_hours, self.hours)) != 1:
            raise ValueError("give exactly one of working_days, working_hours or hours")
        return self


class Expected(Strict):
    """One limit: for which procedures and channels (all, where none are named), how long, and why."""

    within: Within
    procedures: tuple[str, ...] = Field((), description="procedure codes, quoted; none: every procedure")
    channels: tuple[Literal["desk", "online", "post"], ...] = Field((), description="none: every channel")
    basis: str = Field(min_length=3, description="law, decree or agreement")

    def fits(self, procedure: str | None, channel: int | None) -> bool:
        """Whether this limit is about such a dossier; a dossier without a channel came to the desk (`docs/journeys.md`)."""
        return (not self.procedures or procedure in self.procedures) and (
            not self.channels or (channel or CHANNELS["desk"]) in {CHANNELS[name] for name in self.channels}
        )


class Expectations(Strict):
    """Hop: its limits, of which the first that fits a dossier counts. A hop without a limit that fits is not expected."""

    version: Literal[1] = 1
    hops: dict[Hop, tuple[Expected, ...]] = Field(min_length=1)

    def of(self, hop: Hop, procedure: str | None, channel: int | None) -> Expected | None:
        """The limit of a hop for such a dossier."""
        return next((one for one in self.hops.get(hop, ()) if one.fits(procedure, channel)), None)


@cache
def usual() -> Expectations:
    """The expectations that come with the package."""
    with resources.as_file(resources.files("lienthong").joinpath("data", FILE)) as path:
        return Expectations.model_validate(read_document(path, FILE).value)
