"""Citizens whose identity nobody has confirmed yet: who they are, and asking the population database about some of them at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from connectors.http import Refused
from connectors.postgres import Connection, connect, one, rows, transaction
from lienthong import hub
from lienthong.entitled import Golden, read_golden
from lienthong.national.access import Caller
from lienthong.national.answers import Asked
from lienthong.national.lookup import ENTITY, LookUp
from lienthong.settings import Settings
from lienthong.vault import Vault

TOLD_EVERY = 50

# The population database's own word needs no confirmation; an old answer is asked again when its memory has ended.
_CANDIDATES = f"""
FROM hub.record r LEFT JOIN hub.verified v USING (record)
WHERE r.entity = '{ENTITY}' AND NOT r.deleted AND r.merged_into IS NULL AND r.body ? 'full_name' AND r.body ? 'birth_date'
  AND (r.body ? 'personal_number' OR r.body ? 'old_identity_number')
  AND (v.record IS NULL OR v.version <> r.version OR v.at < clock_timestamp() - %(days)s * INTERVAL '1 day')
  AND NOT EXISTS (SELECT FROM hub.contribution c WHERE c.record = r.record AND c.system = %(system)s AND c.op = 's')
"""  # noqa: S608 - names of our own
_NOTE = """
INSERT INTO hub.verified (record, version, is_known) SELECT record, version, %s FROM hub.record WHERE record = %s
ON CONFLICT (record) DO UPDATE SET version = excluded.version, is_known = excluded.is_known, at = clock_timestamp()
"""


class Unverified:
    """The citizens who are still to be asked about."""

    def __init__(self, settings: Settings, service: LookUp) -> None:
        assert settings.national is not None
        assert settings.national.population is not None
        self._service = service
        self._which = {"system": settings.national.population.system, "days": settings.national.population.remember_days}
        with hub.named():
            self._hub: Connection = connect(settings.hub.dsn, application_name="lienthong look-up")

    def count(self) -> int:
        """How many there are."""
        with transaction(self._hub) as cursor:
            found = one(cursor, f"SELECT count(*) {_CANDIDATES}", self._which)
        return int(found[0]) if found else 0

    def verify(self, caller: Caller, budget: int, told: Callable[[int], None] = lambda _: None) -> Counter[str]:
        """Ask about so many at most, those never asked about first; how often the answer was yes, no, or that the question is refused."""
        answers: Counter[str] = Counter(yes=0, no=0, refused=0)
        for done, (record, asked) in enumerate(self._some(budget), start=1):
            answer = self._answer(asked, caller)
            with transaction(self._hub) as cursor:
                cursor.execute(_NOTE, [answer, record])
            answers["refused" if answer is None else "yes" if answer else "no"] += 1
            if done % TOLD_EVERY == 0:
                told(done)
        return answers

    def _answer(self, asked: Asked, caller: Caller) -> bool | None:
        try:
            return self._service.verify(asked, caller).is_known
        except Refused:
            return None

    def _some(self, budget: int) -> list[tuple[int, Asked]]:
        with transaction(self._hub) as cursor:
            statement = f"SELECT r.record {_CANDIDATES} ORDER BY v.at NULLS FIRST, r.record LIMIT %(budget)s"
            found = [record for (record,) in rows(cursor, statement, {**self._which, "budget": budget})]
            known = read_golden(cursor, found)
        return [(record, _asked(known[record])) for record in found]

    def close(self) -> None:
        """Drop the connections."""
        self._hub.close()
        self._service.close()


def open_desk(settings: Settings, vault: Vault) -> Unverified:
    """The citizens of a configured city; raises `ConfigError` where no population database is configured."""
    return Unverified(settings, LookUp(settings, vault))


def _asked(golden: Golden) -> Asked:
    values = golden.values
    return Asked(number=values.get("personal_number") or values["old_identity_number"], name=values["full_name"], birth=values["birth_date"])
