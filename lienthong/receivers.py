"""Which systems we write to: those with a contract, and those that had one, until everything they were sent is withdrawn there."""

from __future__ import annotations

from connectors.postgres import Cursor, rows
from lienthong.settings import Settings


def receivers(cursor: Cursor, settings: Settings) -> list[str]:
    """The systems whose out-topic is to be applied, in the order of the configuration."""
    had = {s for (s,) in rows(cursor, "SELECT system FROM hub.line WHERE stage = 'apply'")}
    had |= {n.removeprefix("open ") for (n,) in rows(cursor, "SELECT name FROM hub.setting WHERE name LIKE 'open %%'")}
    return [name for name, system in settings.systems.items() if system.apply and (name in had or settings.contract_of(name) is not None)]


def forget_receiver(cursor: Cursor, system: str) -> bool:
    """A system without a contract that has applied all of its topic is none of `receivers` any more, unless a withdrawal is still to be sent."""
    if rows(cursor, "SELECT 1 FROM hub.entitled WHERE system = %s AND state = 's' LIMIT 1", [system]):
        return False
    cursor.execute("DELETE FROM hub.setting WHERE name = %s", [f"open {system}"])
    cursor.execute("DELETE FROM hub.line WHERE system = %s AND stage = 'apply'", [system])
    return True
