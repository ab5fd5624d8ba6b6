"""`lienthong doctor`: the commonest problems of operators, found at the live city, explained, each with the command that mends it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Said:
    """What a check says of one place: what was found there, the command that mends it, and where to type it or what else to know."""

    where: str
    found: str
    command: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem: which of `CHECKS` found it, what it said, and why it matters."""

    id: str
    where: str
    found: str
    why: str
    command: str
    note: str

    @classmethod
    def of(cls, check: str, why: str, said: Said) -> Finding:
        """What a check said, with its name."""
        return cls(id=check, why=why, **asdict(said))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one examination has found, in the order in which to mend it, and what could not be looked at because of that."""

    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...]
    not_looked_at: tuple[str, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether everything was looked at and nothing found."""
        return not self.findings and not self.not_looked_at

    def as_dict(self) -> dict[str, Any]:
        """As one document."""
        return {"schema": "lienthong/doctor/1", "healthy": self.is_healthy, **asdict(self)}
