"""Who looked whom up, why and when; and what was answered, for as long as it need not be asked again. SQL only, no decisions.

People stand here under pseudonyms (`Vault.pseudonym`), so the ledger is no list of personal numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connectors.postgres import Connection, Cursor, one, rows, transaction
from lienthong.errors import ConfigError
from lienthong.vault import Vault

COLUMNS = ("at", "officer", "unit", "purpose", "request_id", "operation", "subject", "outcome", "reason", "answered_at")
TOLD = "asked"
"""The outcome of a call that has left and not come back."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who wants to know, and for what: every access to personal data is somebody's (law 91/2025/QH15)."""

    officer: str
    unit: str
    purpose: str

    def __post_init__(self) -> None:
        """Refuse a look-up that nobody answers for."""
        if not (self.officer.strip() and self.unit.strip() and self.purpose.strip()):
            raise ConfigError("a look-up needs an officer, a unit and a purpose")


def subject_of(vault: Vault, system: str, number: str) -> str:
    """The name under which a person stands in the ledger of a population database."""
    return vault.pseudonym(f"person {system}", number)


# ------------------------------------------------------------------ the ledger
def note(cursor: Cursor, operation: str, subject: str, caller: Caller, request_id: str, outcome: str = TOLD) -> int:
    """Write an access down; the number of its row. The access happens only after this is committed."""
    found = one(
        cursor,
        """INSERT INTO hub.access (officer, unit, purpose, request_id, operation, subject, outcome, answered_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, CASE WHEN %s THEN clock_timestamp() END) RETURNING id""",
        [caller.officer, caller.unit, caller.purpose, request_id, operation, subject, outcome, outcome != TOLD],
    )
    assert found is not None
    return int(found[0])


def complete(cursor: Cursor, number: int, outcome: str, reason: str | None = None) -> None:
    """Write down what came of an access."""
    cursor.execute("UPDATE hub.access SET outcome = %s, reason = %s, answered_at = clock_timestamp() WHERE id = %s", [outcome, reason, number])


def accesses(cursor: Cursor, *, subjects: Sequence[str] | None = None, officer: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Accesses to some people, or by an officer, newest first."""
    found = rows(
        cursor,
        f"""SELECT {", ".join(COLUMNS)} FROM hub.access
            WHERE (%(subjects)s::text[] IS NULL OR subject = ANY(%(subjects)s)) AND (%(officer)s IS NULL OR officer = %(officer)s)
            ORDER BY at DESC LIMIT %(limit)s""",  # noqa: S608 - names of our own
        {"subjects": None if subjects is None else list(subjects), "officer": officer, "limit": limit},
    )
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


# ------------------------------------------------------------------ what was answered
class Memory:
    """Answers by question, and who asks which question now, among all processes."""

    def __init__(self, hub: Connection, *, known_days: float, missing_days: float, lease_seconds: float) -> None:
        self._hub, self._days, self._lease_seconds = hub, {True: known_days, False: missing_days}, lease_seconds

    def recall(self, question: str, *, needs_record: bool) -> bool | None:
        """Whether there is such a person, as remembered; None when it must be asked."""
        with transaction(self._hub) as cursor:
            found = one(
                cursor,
                """SELECT is_known, has_record, extract(epoch FROM clock_timestamp() - answered_at)::float / 86400
                   FROM hub.remembered WHERE question = %s AND answered_at IS NOT NULL""",
                [question],
            )
        if found is None or found[2] >= self._days[found[0]] or (needs_record and found[0] and not found[1]):
            return None
        return bool(found[0])

    def take(self, question: str, by: str) -> bool:
        """Take a question to ask it, unless somebody asks it now; who dies with it loses it when the lease ends."""
        with transaction(self._hub) as cursor:
            cursor.execute(
                """INSERT INTO hub.remembered AS r (question, asking_until, asked_by)
                   VALUES (%(question)s, clock_timestamp() + make_interval(secs => %(lease)s), %(by)s)
                   ON CONFLICT (question) DO UPDATE SET asking_until = excluded.asking_until, asked_by = excluded.asked_by
                   WHERE r.asking_until IS NULL OR r.asking_until < clock_timestamp()""",
                {"question": question, "lease": self._lease_seconds, "by": by},
            )
            return bool(cursor.rowcount == 1)

    def keep(self, question: str, is_known: bool, *, has_record: bool) -> None:
        """Remember an answer; a verification does not take away that the record is here."""
        with transaction(self._hub) as cursor:
            cursor.execute(
                """UPDATE hub.remembered SET is_known = %s, has_record = %s OR (has_record AND %s), answered_at = clock_timestamp()
                   WHERE question = %s""",
                [is_known, has_record, is_known, question],
            )

    def let_go(self, question: str, by: str) -> None:
        """Let others ask."""
        with transaction(self._hub) as cursor:
            cursor.execute("UPDATE hub.remembered SET asking_until = NULL WHERE question = %s AND asked_by = %s", [question, by])
