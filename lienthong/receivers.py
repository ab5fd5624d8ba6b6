"""Which systems we write to: those with a contract, and those that had one, until everything they were sent is withdrawn there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from connectors.postgres import Cursor, rows
from lienthong.contracts import Terms, Values, terms_of
from lienthong.settings import Settings


class Receivers:
    """Whom a golden record is for: contracts found by unit, of those systems whose initial load is complete."""

    def __init__(self, settings: Settings) -> None:
        self.terms = terms_of(settings)
        self._by_unit, self._others = _index(self.terms)
        self._open: set[str] = {name for name, system in settings.systems.items() if system.capture == "none"}
        self._names = {contract.system for contract in settings.contracts.values()}
        self._partitions = settings.kafka.partitions

    def newly_loaded(self, cursor: Cursor) -> set[str]:
        """Systems whose initial load has just become complete, after putting everything there is on the list of changes; `open` them then.

        Before, a record of theirs that is not loaded yet would look like a new one and be inserted a second time. One that was opened stays so: what
        it was sent would be withdrawn from it while it is loaded anew, into a topic with more partitions for example.
        """
        complete = "SELECT system FROM hub.loaded GROUP BY system HAVING count(*) >= %s"
        found = {s for (s,) in rows(cursor, complete, [self._partitions])}
        known = {n.removeprefix("open ") for (n,) in rows(cursor, "SELECT name FROM hub.setting WHERE name LIKE 'open %%'")}
        fresh = ((found | known) & self._names) - self._open
        if fresh - known:
            cursor.execute("INSERT INTO hub.changed (record, lane) SELECT record, 1 FROM hub.record ORDER BY record")
            for system in fresh - known:
                cursor.execute("INSERT INTO hub.setting VALUES (%s, '') ON CONFLICT DO NOTHING", [f"open {system}"])
        return fresh

    def open(self, systems: set[str]) -> None:
        """From now on these are delivered to; only when what `newly_loaded` wrote is committed."""
        self._open |= systems

    def due(self, entity: str, values: Values, parent: Values | None) -> list[Terms]:
        """The terms under which someone is entitled to this record; a child is in scope with its parent."""
        scoped = parent if parent is not None else values
        found = list(self._others.get(entity, ()))
        for name in ("processing_unit", "residence_unit", "unit_code"):
            unit = scoped.get(name)
            if unit is not None:
                found += self._by_unit.get((entity, unit), ())
        return [terms for terms in found if terms.system in self._open and terms.in_scope(values, parent)]

    def having(self, entity: str, systems: Iterable[str]) -> list[str]:
        """Those of the systems, which hold a row of their own and were never sent the record, that are told of the owner's delete."""
        return sorted(s for s in systems if s in self._open and any(terms.system == s for terms in self.terms.get(entity, ())))


def _index(terms: Mapping[str, Sequence[Terms]]) -> tuple[dict[tuple[str, str], list[Terms]], dict[str, list[Terms]]]:
    """Terms that ask for own units only are found by unit, so that 168 wards cost no more than three."""
    by_unit: dict[tuple[str, str], list[Terms]] = defaultdict(list)
    others: dict[str, list[Terms]] = defaultdict(list)
    for entity, every in terms.items():
        for each in every:
            if each.scope.units == ("own",):
                for unit in each.units:
                    by_unit[entity, unit].append(each)
            else:
                others[entity].append(each)
    return by_unit, others


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
