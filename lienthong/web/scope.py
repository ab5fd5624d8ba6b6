"""What somebody may see and do: roles, and for the people of an agency only what is of their agency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lienthong.settings import Settings
from lienthong.web.accounts import Account

MAY: dict[str, frozenset[str]] = {
    "viewer": frozenset(),
    "operator": frozenset({"replay", "reveal"}),
    "auditor": frozenset({"reveal", "audit"}),
}
"""Role: what it may do besides looking. `reveal`: see personal data for a purpose that is recorded."""

OF_THE_CITY_ONLY = frozenset({"reveal", "audit"})
"""What nobody of an agency may do here: their own system shows them their own records."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The systems, agencies and units somebody sees; `everything`: no limit."""

    everything: bool
    systems: frozenset[str]
    agencies: frozenset[str]
    units: frozenset[str]

    def sees(self, system: str | None) -> bool:
        """Whether a system is theirs; what is of no one system is the city's alone."""
        return self.everything or (system is not None and system in self.systems)

    def sees_row(self, row: Mapping[str, Any]) -> bool:
        """Whether a row that names its agency, unit or system is theirs. The agency decides; then the unit; then the system."""
        for name, mine in (("agency", self.agencies), ("unit", self.units), ("system", self.systems)):
            if row.get(name):
                return self.everything or row[name] in mine
        return self.everything

    def of(self, found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows that are theirs."""
        return [row for row in found if self.sees_row(row)]


def scope_of(settings: Settings, account: Account) -> Scope:
    """What an account sees: with agencies, the systems that act for one of them and the units of these systems."""
    mine = frozenset(account.agencies)
    systems = frozenset(name for name, party in settings.systems.items() if mine & set(party.agencies))
    units = frozenset(unit for name in systems for unit in settings.systems[name].units)
    return Scope(not mine, frozenset(settings.systems) if not mine else systems, mine, units)


def may(account: Account, action: str) -> bool:
    """Whether somebody may do something; looking needs no leave."""
    return action in MAY[account.role] and not (account.agencies and action in OF_THE_CITY_ONLY)
