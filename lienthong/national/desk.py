"""What operators see of the delivery ledger and may do about it: counts, messages (masked), sending again, letting go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.postgres import Connection, Cursor, connect, one, rows, transaction
from lienthong.errors import ConfigError
from lienthong.national.ledger import CONFIRMED, PENDING, REFUSED, SENT, UNKNOWN, Ledger
from lienthong.vault import Vault

STATES = (PENDING, SENT, CONFIRMED, REFUSED, UNKNOWN)
SHOWN = frozenset(
    {
        "MaHoSo", "MaTTHC", "TenTTHC", "DonViXuLy", "NoiNopHoSo", "KenhThucHien", "LoaiDoiTuong", "TrangThaiHoSo", "TrangThai", "ThoiDiemXuLy",
        "PhongBanXuLy", "NgayNopHoSo", "NgayTiepNhan", "NgayHenTra", "NgayTra", "NgayKetThucXuLy", "NgayTuChoi", "LoaiDinhDanh", "MaPhiLePhi",
        "TenPhiLePhi", "HinhThucThu", "Gia", "MaThanhPhanHoSo", "SoLuong", "DuocSoHoa", "DuocTaiSuDung", "IsDeleted", "MaGiayToKetQua",
        "MaLinhVuc", "IdTepTin", "HashTepTin",
    }
)  # fmt: skip
"""Fields that say nothing about a person; of the others the last four characters are shown."""
_TAIL = 4

_OPEN = """
SELECT state, count(*), min(queued_at), greatest(extract(epoch FROM clock_timestamp() - min(queued_at))::float8, 0)
FROM hub.delivery WHERE system = %s AND (state IN ('pending', 'sent', 'unknown') OR (state = 'refused' AND cured_at IS NULL)) GROUP BY state
"""
_HALF = """
SELECT count(DISTINCT m.dossier) FROM hub.delivery m JOIN hub.delivery_dossier d USING (system, dossier)
WHERE m.system = %s AND m.state = 'refused' AND m.cured_at IS NULL AND d.is_there
"""
_WAITING = """
SELECT count(*) FROM hub.delivery m JOIN hub.delivery_dossier d USING (system, dossier)
WHERE m.system = %s AND m.state = 'pending' AND m.kind = 'progress' AND NOT d.is_there
"""
_LIST = """
SELECT m.id, m.dossier, d.code, m.kind, m.state, m.attempts, m.queued_at, m.sent_at, m.answered_at, m.reason, m.body IS NOT NULL, m.cured_at
FROM hub.delivery m LEFT JOIN hub.delivery_dossier d USING (system, dossier)
WHERE m.system = %(system)s AND (%(state)s::text IS NULL OR m.state = %(state)s) AND (%(code)s::text IS NULL OR d.code = %(code)s)
  AND (%(cured)s OR m.cured_at IS NULL) AND (%(open)s IS FALSE OR m.state <> 'confirmed') AND (%(ids)s::bigint[] IS NULL OR m.id = ANY(%(ids)s))
ORDER BY m.id LIMIT %(limit)s
"""
_COLUMNS = ("id", "dossier", "code", "kind", "state", "attempts", "queued_at", "sent_at", "answered_at", "reason", "has_body", "cured_at")


def counts(cursor: Cursor, system: str) -> dict[str, Any]:
    """How many messages stand where, since when the oldest waits, and which dossiers are there only in part."""
    found = {state: (n, oldest, age) for state, n, oldest, age in rows(cursor, _OPEN, [system])}
    told = dict(rows(cursor, "SELECT outcome, n FROM hub.delivery_count WHERE system = %s", [system]))
    states = {state: found[state][0] if state in found else 0 for state in (PENDING, SENT, UNKNOWN, REFUSED)}
    waiting = [found[state] for state in (PENDING, SENT, UNKNOWN) if state in found]
    oldest = min(waiting, key=lambda each: each[1], default=(0, None, 0.0))
    return {
        "system": system,
        "states": {**states, CONFIRMED: told.get(CONFIRMED, 0)},
        "oldest_pending_at": None if oldest[1] is None else oldest[1].isoformat(),
        "oldest_pending_seconds": round(oldest[2], 3),
        "dossiers_in_part": (one(cursor, _HALF, [system]) or (0,))[0],
        "steps_waiting_for_their_dossier": (one(cursor, _WAITING, [system]) or (0,))[0],
    }


def gates(cursor: Cursor) -> list[dict[str, Any]]:
    """The breaker of each national service: failures in a row, until when it is closed, how often it was."""
    found = rows(cursor, "SELECT service, failures, opened_until, openings FROM hub.gate ORDER BY service")
    return [
        {"service": service, "failures": failures, "closed_until": None if until is None else until.isoformat(), "openings": openings}
        for service, failures, until, openings in found
    ]


class Desk:
    """One operator at the ledger."""

    def __init__(self, hub_dsn: str, system: str, vault: Vault, officer: str) -> None:
        self.system, self.officer = system, officer
        self._ledger = Ledger(system, vault)
        self._connection: Connection = connect(hub_dsn, application_name="lienthong national")

    def find(
        self, *, ids: Sequence[int] | None = None, state: str | None = None, code: str | None = None, is_open: bool = False, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Messages, oldest first; never their bodies. What is of the past is found by number or code only."""
        asked = {"system": self.system, "state": state, "code": code, "open": is_open, "cured": bool(code or ids), "limit": limit, "ids": ids}
        with transaction(self._connection) as cursor:
            return [dict(zip(_COLUMNS, found, strict=True)) for found in rows(cursor, _LIST, asked)]

    def show(self, message: int) -> dict[str, Any]:
        """One message with its masked body; raises `ConfigError` when there is none."""
        found = self.find(ids=[message])
        if not found:
            raise ConfigError(f"there is no message {message} to {self.system}")
        with transaction(self._connection) as cursor:
            (body,) = one(cursor, "SELECT body FROM hub.delivery WHERE id = %s", [message]) or (None,)
        return {**found[0], "body": None if body is None else masked(self._ledger.open(body))}

    def resend(self, message: int, why: str) -> str:
        """Put a refused message before the portal again; how it went, in words."""
        with transaction(self._connection) as cursor:
            found = one(cursor, "SELECT dossier FROM hub.delivery WHERE id = %s AND system = %s", [message, self.system])
            if found is None:
                return "there is no such message"
            self._ledger.lock(cursor, [found[0]])
            problem = self._not_sendable(cursor, message)
            if problem is not None:
                return problem
            cursor.execute("UPDATE hub.delivery SET state = 'pending', reason = NULL WHERE id = %s", [message])
            statement = "UPDATE hub.delivery_dossier SET next_at = coalesce(next_at, clock_timestamp()) WHERE system = %s AND dossier = %s"
            cursor.execute(statement, [self.system, found[0]])
            self._note(cursor, "replay", message, why, "queued again")
        return ""

    def _not_sendable(self, cursor: Cursor, message: int) -> str | None:
        statement = "SELECT state, cured_at IS NULL, body IS NOT NULL, kind, dossier, told FROM hub.delivery WHERE id = %s"
        state, is_current, has_body, kind, dossier, told = one(cursor, statement, [message]) or (None,) * 6
        if state != REFUSED:
            return f"it is {state}; only what was refused is sent again by hand"
        if not is_current:
            return "it is of the past: a newer state was taken, or it was let go"
        if not has_body:
            return "the portal has no place for it as it is: the source corrects it, and the next state follows by itself"
        if kind == "progress":
            same = "SELECT 1 FROM hub.delivery WHERE system = %s AND dossier = %s AND told = %s AND kind = 'progress' AND state <> 'refused'"
            return "the same step is queued or was taken" if one(cursor, same, [self.system, dossier, told]) else None
        newer = "SELECT 1 FROM hub.delivery WHERE system = %s AND dossier = %s AND id > %s AND kind IN ('create', 'update') AND body IS NOT NULL"
        return "a newer state of the dossier is queued" if one(cursor, newer, [self.system, dossier, message]) else None

    def let_go(self, message: int, why: str) -> str:
        """Stop asking for attention for a refused message; how it went, in words."""
        with transaction(self._connection) as cursor:
            cursor.execute(
                "UPDATE hub.delivery SET cured_at = clock_timestamp() WHERE id = %s AND system = %s AND state = 'refused' AND cured_at IS NULL",
                [message, self.system],
            )
            if not cursor.rowcount:
                return "it is not refused, or was let go before"
            self._note(cursor, "discard", message, why, "let go")
        return ""

    def _note(self, cursor: Cursor, action: str, message: int, why: str, outcome: str) -> None:
        cursor.execute(
            "INSERT INTO hub.parked_action (officer, action, place, parked, system, why, outcome) VALUES (%s, %s, 'delivery', %s, %s, %s, %s)",
            [self.officer, action, message, self.system, why, outcome],
        )

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()


def masked(value: Any, *, is_shown: bool = False) -> Any:
    """A message without what it says about people: names, numbers, addresses, links and free text show their last four characters."""
    if isinstance(value, Mapping):
        return {name: masked(inside, is_shown=name in SHOWN) for name, inside in value.items()}
    if isinstance(value, list):
        return [masked(inside, is_shown=is_shown) for inside in value]
    text = str(value)
    return text if is_shown else f"*****{text[-_TAIL:]}" if len(text) > 2 * _TAIL else "*****"
