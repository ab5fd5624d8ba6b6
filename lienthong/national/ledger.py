"""The delivery ledger as operations: queue, claim, mark, settle. SQL only; who decides is `intake` and `deliver`.

A dossier's row in `hub.delivery_dossier` is its lock: it is taken before any message of it is queued, marked or settled. A claim lasts until
`next_at`; whoever lets it pass has lost it, and what it had under way counts as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson

from connectors.postgres import Cursor, one, rows
from lienthong.vault import Vault

PENDING, SENT, CONFIRMED, REFUSED, UNKNOWN = "pending", "sent", "confirmed", "refused", "unknown"
CREATE, UPDATE, PROGRESS, REMOVE = "create", "update", "progress", "remove"
Keys = tuple[bytes | None, bytes | None]
"""Of a step: as the portal tells steps apart, and as we do."""
_OPEN = "state IN ('pending', 'sent', 'unknown')"
_SENDABLE = f"{_OPEN} AND (d.is_there OR m.kind <> 'progress')"

_CLAIM = """
UPDATE hub.delivery_dossier t SET ticket = t.ticket + 1, next_at = clock_timestamp() + %(lease)s * INTERVAL '1 second'
FROM (SELECT dossier FROM hub.delivery_dossier WHERE system = %(system)s AND next_at <= clock_timestamp()
      ORDER BY next_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) due
WHERE t.system = %(system)s AND t.dossier = due.dossier RETURNING t.dossier, t.ticket
"""
_HEADS = f"""
SELECT DISTINCT ON (m.dossier) m.dossier, m.id, m.kind, m.state, m.body, m.attempts, m.request_id, d.code, d.is_there,
  (SELECT count(*) FROM hub.delivery o
   WHERE o.system = m.system AND o.dossier = m.dossier AND o.kind = 'progress' AND o.state = 'confirmed' AND o.step = m.step)
FROM hub.delivery m JOIN hub.delivery_dossier d USING (system, dossier)
WHERE m.system = %s AND m.dossier = ANY(%s) AND {_SENDABLE} ORDER BY m.dossier, m.id
"""  # noqa: S608 - constants of ours
_MARK = """
UPDATE hub.delivery m SET kind = g.kind, state = 'sent', attempts = m.attempts + 1, request_id = g.request::uuid, sent_at = clock_timestamp()
FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS g(id, kind, request) WHERE m.id = g.id
"""
_SETTLE = """
UPDATE hub.delivery m SET state = g.state, reason = g.reason, answered_at = CASE WHEN g.is_answer THEN clock_timestamp() ELSE m.answered_at END,
  sent_at = CASE WHEN g.state <> 'pending' THEN m.sent_at END
FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::boolean[]) AS g(id, state, reason, is_answer) WHERE m.id = g.id
"""
_BODY = "UPDATE hub.delivery m SET body = g.body FROM unnest(%s::bigint[], %s::bytea[]) AS g(id, body) WHERE m.id = g.id"
_LEARN = """
UPDATE hub.delivery_dossier d SET is_there = coalesce(g.is_there, d.is_there), code = coalesce(g.code, d.code)
FROM unnest(%s::bigint[], %s::boolean[], %s::text[]) AS g(dossier, is_there, code) WHERE d.system = %s AND d.dossier = g.dossier
"""
_CURE = """
UPDATE hub.delivery m SET cured_at = clock_timestamp() FROM unnest(%s::bigint[], %s::bigint[]) AS g(dossier, id)
WHERE m.system = %s AND m.dossier = g.dossier AND m.id < g.id AND m.kind IN ('create', 'update') AND m.state = 'refused' AND m.cured_at IS NULL
"""
_NEXT = f"""
UPDATE hub.delivery_dossier d SET next_at = CASE
  WHEN EXISTS (SELECT FROM hub.delivery m WHERE m.system = d.system AND m.dossier = d.dossier AND {_SENDABLE})
  THEN clock_timestamp() + g.wait * INTERVAL '1 second' END
FROM unnest(%s::bigint[], %s::float8[]) AS g(dossier, wait) WHERE d.system = %s AND d.dossier = g.dossier
"""  # noqa: S608


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One message that this process may see to now."""

    id: int
    dossier: int
    ticket: int
    kind: str
    body: dict[str, Any]
    code: str | None
    attempts: int
    request_id: str
    in_doubt: bool  # it may be there already: read back before anything is sent
    like_it: int = 0  # steps of the same second, status and unit that the portal has taken already


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a task."""

    task: Task
    state: str
    reason: str | None = None
    wait_seconds: float = 0.0
    rest_seconds: float = 0.0  # so long nothing is to be tried at all
    is_there: bool | None = None  # what is known of the dossier now
    code: str | None = None  # issued by the portal
    body: dict[str, Any] | None = None  # with the ids of the papers that were put: stored before it is sent
    is_answer: bool = False  # of the portal, about this message


class Ledger:
    """The ledger of one portal."""

    def __init__(self, system: str, vault: Vault) -> None:
        self.system, self._vault = system, vault

    def seal(self, values: Mapping[str, Any]) -> bytes:
        """The stored form of values."""
        return self._vault.seal(orjson.dumps(values))

    def open(self, stored: bytes | memoryview) -> dict[str, Any]:
        """Stored values."""
        found: dict[str, Any] = orjson.loads(self._vault.open(bytes(stored)))
        return found

    # ------------------------------------------------------------ queueing
    def lock(self, cursor: Cursor, dossiers: Sequence[int]) -> dict[int, bytes | None]:
        """Take dossiers, in one order; the digest of the newest state queued of each."""
        wanted = sorted(set(dossiers))
        cursor.execute(
            "INSERT INTO hub.delivery_dossier (system, dossier) SELECT %s, x FROM unnest(%s::bigint[]) x ORDER BY x ON CONFLICT DO NOTHING",
            [self.system, wanted],
        )
        statement = "SELECT dossier, digest FROM hub.delivery_dossier WHERE system = %s AND dossier = ANY(%s) ORDER BY dossier FOR UPDATE"
        return {dossier: bytes(digest) if digest else None for dossier, digest in rows(cursor, statement, [self.system, wanted])}

    def put_state(self, cursor: Cursor, dossier: int, body: Mapping[str, Any] | None, digest: bytes | None, reason: str | None) -> None:
        """Queue a state of a dossier; without a body it is refused at once, for the reason."""
        state = PENDING if body is not None else REFUSED
        cursor.execute(
            """INSERT INTO hub.delivery (system, dossier, record, entity, kind, state, body, digest, reason)
               SELECT system, dossier, dossier, 'dossier', CASE WHEN is_there THEN 'update' ELSE 'create' END, %s, %s, %s, %s
               FROM hub.delivery_dossier WHERE system = %s AND dossier = %s""",
            [state, None if body is None else self.seal(body), digest, reason, self.system, dossier],
        )
        self._queued(cursor, dossier, state, digest)

    def put_removal(self, cursor: Cursor, dossier: int, record: int, entity: str, reason: str) -> None:
        """Show that the portal would have to take something back, which no message of it does."""
        cursor.execute(
            "INSERT INTO hub.delivery (system, dossier, record, entity, kind, state, reason) VALUES (%s, %s, %s, %s, 'remove', 'refused', %s)",
            [self.system, dossier, record, entity, reason],
        )
        self._count(cursor, {REFUSED: 1})

    def _queued(self, cursor: Cursor, dossier: int, state: str, digest: bytes | None) -> None:
        cursor.execute(
            """UPDATE hub.delivery_dossier SET digest = %s, next_at = CASE WHEN %s THEN coalesce(next_at, clock_timestamp()) ELSE next_at END
               WHERE system = %s AND dossier = %s""",
            [digest, state == PENDING, self.system, dossier],
        )
        if state == REFUSED:
            self._count(cursor, {REFUSED: 1})

    def last_step(self, cursor: Cursor, record: int) -> tuple[int, str, bytes | None, int] | None:
        """The newest message about a step: id, state, digest, attempts."""
        statement = (
            "SELECT id, state, digest, attempts FROM hub.delivery WHERE system = %s AND record = %s AND kind = 'progress' ORDER BY id DESC LIMIT 1"
        )
        found = one(cursor, statement, [self.system, record])
        return None if found is None else (found[0], found[1], bytes(found[2]) if found[2] else None, found[3])

    def put_step(
        self, cursor: Cursor, dossier: int, record: int, body: Mapping[str, Any] | None, *, digest: bytes, keys: Keys, reason: str | None
    ) -> bool:
        """Queue a step; False when the same step (time, status, unit) of the dossier is in the ledger already."""
        state = PENDING if reason is None else REFUSED
        cursor.execute(
            """INSERT INTO hub.delivery (system, dossier, record, entity, kind, state, body, digest, step, told, reason)
               VALUES (%s, %s, %s, 'dossier_event', 'progress', %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
            [self.system, dossier, record, state, None if body is None else self.seal(body), digest, *keys, reason],
        )
        is_new = bool(cursor.rowcount)
        if state == REFUSED:
            self._count(cursor, {REFUSED: 1})
        elif is_new:
            statement = (
                "UPDATE hub.delivery_dossier SET next_at = coalesce(next_at, clock_timestamp()) WHERE system = %s AND dossier = %s AND is_there"
            )
            cursor.execute(statement, [self.system, dossier])
        return is_new

    def change_step(self, cursor: Cursor, message: int, body: Mapping[str, Any], *, digest: bytes, keys: Keys) -> None:
        """Give a step that was not taken yet its corrected content."""
        statement = "UPDATE hub.delivery SET body = %s, digest = %s, step = %s, told = %s WHERE id = %s"
        cursor.execute(statement, [self.seal(body), digest, *keys, message])

    def drop(self, cursor: Cursor, dossier: int, record: int | None, reason: str) -> int:
        """Let go of what is queued of a dossier (or of one record of it) and was not taken; returns how many."""
        cursor.execute(
            """UPDATE hub.delivery SET state = 'refused', reason = %s, answered_at = clock_timestamp(), cured_at = clock_timestamp()
               WHERE system = %s AND dossier = %s AND state = 'pending' AND (%s::bigint IS NULL OR record = %s)""",
            [reason, self.system, dossier, record, record],
        )
        return int(cursor.rowcount)

    def forget_state(self, cursor: Cursor, dossier: int) -> None:
        """Should it come back, its state is queued anew; its code is free unless the portal holds it."""
        cursor.execute(
            "UPDATE hub.delivery_dossier SET digest = NULL, code = CASE WHEN is_there THEN code END WHERE system = %s AND dossier = %s",
            [self.system, dossier],
        )

    def join(self, cursor: Cursor, former: int, dossier: int) -> bool:
        """Give a dossier what is queued and known of another record of it; False when the portal holds both, under two codes."""
        statement = "SELECT dossier, code, is_there FROM hub.delivery_dossier WHERE system = %s AND dossier = ANY(%s)"
        known = {number: (code, is_there) for number, code, is_there in rows(cursor, statement, [self.system, [former, dossier]])}
        (code, was_there), (_, is_there) = known[former], known[dossier]
        cursor.execute(
            "UPDATE hub.delivery_part SET dossier = %s WHERE system = %s AND dossier = %s AND record <> %s", [dossier, self.system, former, former]
        )
        cursor.execute(
            """UPDATE hub.delivery m SET dossier = %s WHERE m.system = %s AND m.dossier = %s AND m.kind = 'progress' AND m.state = 'pending'
               AND NOT EXISTS (SELECT FROM hub.delivery o WHERE o.system = m.system AND o.dossier = %s AND o.told = m.told
                               AND o.kind = 'progress' AND o.state <> 'refused')""",
            [dossier, self.system, former, dossier],
        )
        self.drop(cursor, former, None, "joined with another record of the same dossier")
        if was_there and is_there:
            return False
        take_over = "UPDATE hub.delivery_dossier SET code = %s, is_there = is_there OR %s, digest = NULL WHERE system = %s AND dossier = %s"
        if was_there:
            cursor.execute(take_over, [code, True, self.system, dossier])
        cursor.execute(
            "UPDATE hub.delivery_dossier SET code = NULL, is_there = false, digest = NULL WHERE system = %s AND dossier = %s", [self.system, former]
        )
        cursor.execute(
            "UPDATE hub.delivery_dossier SET next_at = coalesce(next_at, clock_timestamp()) WHERE system = %s AND dossier = %s",
            [self.system, dossier],
        )
        return True

    # ------------------------------------------------------------ sending
    def claim(self, cursor: Cursor, limit: int, lease_seconds: float) -> list[Task]:
        """Take dossiers that are due, and mark the next message of each as sent: it is stored before the request leaves."""
        claimed = dict(rows(cursor, _CLAIM, {"system": self.system, "limit": limit, "lease": lease_seconds}))
        if not claimed:
            return []
        tasks = [self._task(claimed, found) for found in rows(cursor, _HEADS, [self.system, sorted(claimed)])]
        self._mark(cursor, [task for task in tasks if not task.in_doubt])
        doubted = [task.id for task in tasks if task.in_doubt]
        if doubted:
            cursor.execute("UPDATE hub.delivery SET state = 'unknown' WHERE id = ANY(%s) AND state = 'sent'", [doubted])
        idle = sorted(set(claimed) - {task.dossier for task in tasks})
        if idle:
            cursor.execute("UPDATE hub.delivery_dossier SET next_at = NULL WHERE system = %s AND dossier = ANY(%s)", [self.system, idle])
        return tasks

    def _task(self, claimed: Mapping[int, int], found: tuple[Any, ...]) -> Task:
        dossier, id_, kind, state, body, attempts, request, code, is_there, like_it = found
        in_doubt = state != PENDING
        if kind != PROGRESS and not in_doubt:
            kind = UPDATE if is_there else CREATE
        return Task(
            id=id_, dossier=dossier, ticket=claimed[dossier], kind=kind, body=self.open(body), code=code, attempts=attempts,
            request_id=str(request) if in_doubt else str(uuid4()), in_doubt=in_doubt, like_it=like_it,
        )  # fmt: skip

    def _mark(self, cursor: Cursor, tasks: Sequence[Task]) -> None:
        if tasks:
            cursor.execute(_MARK, [[task.id for task in tasks], [task.kind for task in tasks], [task.request_id for task in tasks]])

    def at_hand(self, cursor: Cursor, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Those that can be settled at once: not of dossiers to which a batch of messages is being queued at this moment. Takes their dossiers."""
        if not outcomes:
            return []
        statement = "SELECT dossier FROM hub.delivery_dossier WHERE system = %s AND dossier = ANY(%s) ORDER BY dossier FOR UPDATE SKIP LOCKED"
        free = {dossier for (dossier,) in rows(cursor, statement, [self.system, [outcome.task.dossier for outcome in outcomes]])}
        return [outcome for outcome in outcomes if outcome.task.dossier in free]

    def settle(self, cursor: Cursor, outcomes: Sequence[Outcome]) -> int:
        """Store what became of tasks; returns of how many: whoever lost a claim leaves it to who has it now."""
        ordered = sorted(outcomes, key=lambda outcome: outcome.task.dossier)
        if not ordered:
            return 0
        statement = "SELECT dossier, ticket FROM hub.delivery_dossier WHERE system = %s AND dossier = ANY(%s) ORDER BY dossier FOR UPDATE"
        tickets = dict(rows(cursor, statement, [self.system, [outcome.task.dossier for outcome in ordered]]))
        mine = [outcome for outcome in ordered if tickets.get(outcome.task.dossier) == outcome.task.ticket]
        self._store(cursor, mine)
        self._count(cursor, {state: sum(o.state == state for o in mine) for state in (CONFIRMED, REFUSED)})
        return len(mine)

    def _store(self, cursor: Cursor, outcomes: Sequence[Outcome]) -> None:
        """One statement for each thing that changes: this is done for every message."""
        dossiers = [outcome.task.dossier for outcome in outcomes]
        columns = [(o.task.id, o.state, o.reason, o.is_answer) for o in outcomes]
        if columns:
            cursor.execute(_SETTLE, [list(column) for column in zip(*columns, strict=True)])
        changed = [(o.task.id, self.seal(o.body)) for o in outcomes if o.body is not None]
        if changed:
            cursor.execute(_BODY, [list(column) for column in zip(*changed, strict=True)])
        learned = [(o.task.dossier, o.is_there, o.code) for o in outcomes if o.is_there is not None or o.code is not None]
        if learned:
            cursor.execute(_LEARN, [*(list(column) for column in zip(*learned, strict=True)), self.system])
        taken = [(o.task.dossier, o.task.id) for o in outcomes if o.state == CONFIRMED and o.task.kind != PROGRESS]
        if taken:
            cursor.execute(_CURE, [*(list(column) for column in zip(*taken, strict=True)), self.system])
        if dossiers:
            cursor.execute(_NEXT, [dossiers, [outcome.wait_seconds for outcome in outcomes], self.system])

    def _count(self, cursor: Cursor, counts: Mapping[str, int]) -> None:
        for outcome, n in sorted(counts.items()):
            if n:
                cursor.execute(
                    """INSERT INTO hub.delivery_count AS c (system, outcome, n) VALUES (%s, %s, %s)
                       ON CONFLICT (system, outcome) DO UPDATE SET n = c.n + excluded.n""",
                    [self.system, outcome, n],
                )
