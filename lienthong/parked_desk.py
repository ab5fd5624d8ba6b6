"""What a person sees of a parked record and does with it; every look at a value, every edit, decision and discard is recorded."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson

from connectors.avro import DamagedError, id_codec, unframe
from connectors.postgres import Connection, Cursor, connect, rows, transaction
from lienthong import hub, parked, parked_hold
from lienthong.errors import ConfigError
from lienthong.parked import Wanted
from lienthong.settings import Settings
from lienthong.vault import Vault

HUB = "hub"  # the place of what is parked in the hub; else it is the name of a target

_DISCARD_AT_TARGET = "UPDATE lienthong.parked SET state = 'discarded' WHERE id = %s AND state = 'parked'"
_RELEASE_BEHIND = """
UPDATE lienthong.parked p SET state = 'replay' WHERE (p.entity, p.record) = (%(e)s, %(r)s) AND p.state = 'parked' AND p.reason = 'held'
  AND NOT EXISTS (SELECT 1 FROM lienthong.parked h WHERE (h.entity, h.record) = (p.entity, p.record) AND h.state = 'parked' AND h.reason <> 'held')
"""
_ACTIONS = "SELECT at, officer, action, why, outcome, edited FROM hub.parked_action WHERE place = %s AND parked = %s ORDER BY id"


def place_of(record: Mapping[str, Any]) -> str:
    """Where a parked record is kept: the hub, or a target by name."""
    return str(record["system"]) if record["kind"] == "apply" else HUB


class Desk:
    """The parked records of a city at one officer's hands."""

    def __init__(self, settings: Settings, vault: Vault, officer: str) -> None:
        self.settings, self.vault, self.officer = settings, vault, officer
        with hub.named():
            self.hub: Connection = connect(settings.hub.dsn, application_name="lienthong parked")

    # ------------------------------------------------------------ finding
    def find(self, wanted: Wanted, refs: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Open parked records in the order in which they came: those named, or all that are wanted."""
        if refs:
            return [record for ref in refs for record in self._named(ref)]
        with hub.named():
            found = parked.listing(self.hub, wanted)
        return found + parked.at_targets(self.settings, wanted)

    def _named(self, ref: str) -> list[dict[str, Any]]:
        place, _, number = ref.rpartition("/")
        if not number.isdecimal() or (place and place not in self.settings.systems):
            raise ConfigError(f"no parked record {ref}: a number, or SYSTEM/NUMBER, as `lienthong parked list` shows them")
        wanted = Wanted(ids=(int(number),))
        found = parked.at_target(place, self.settings.dsn_of(place), wanted) if place else parked.listing(self.hub, wanted)
        if not found:
            raise ConfigError(f"no open parked record {ref}: it was closed meanwhile, or never was; `lienthong parked list` shows what is open")
        return found

    # ------------------------------------------------------------ showing
    def show(self, ref: str, *, purpose: str | None) -> dict[str, Any]:
        """One record with its payload, masked unless a purpose is given, which is recorded first, and what was done with it."""
        (record,) = self._named(ref)
        if purpose is not None:
            self.note(record, "reveal", purpose, "shown")
        with transaction(self.hub) as cursor:
            done = rows(cursor, _ACTIONS, [place_of(record), record["id"]])
        return {
            **record,
            "payload": self._payload(record, show=purpose is not None),
            "actions": [
                {"at": at, "officer": officer, "action": action, "why": why, "outcome": outcome, "edited": self._edited(edited, purpose)}
                for at, officer, action, why, outcome, edited in done
            ],
        }

    def payload(self, record: Mapping[str, Any]) -> bytes | None:
        """What is kept of a record, opened."""
        with self.at(record) as cursor:
            table = "hub.parked" if place_of(record) == HUB else "lienthong.parked"
            ((stored,),) = rows(cursor, f"SELECT payload FROM {table} WHERE id = %s", [record["id"]])  # noqa: S608
        return None if not stored else self.vault.open(bytes(stored))

    def _payload(self, record: Mapping[str, Any], *, show: bool) -> Any:
        kept = self.payload(record)
        if kept is None:
            return None
        return _shown(_values(kept, record["kind"]), show=show)

    def _edited(self, edited: memoryview | None, purpose: str | None) -> Any:
        return None if edited is None else _shown(orjson.loads(self.vault.open(bytes(edited))), show=purpose is not None)

    # ------------------------------------------------------------ doing
    def note(self, record: Mapping[str, Any], action: str, why: str | None, outcome: str | None, edited: bytes | None = None) -> int:
        """Record what is about to be done, or was; returns the number of the entry."""
        sealed = None if edited is None else self.vault.seal(edited)
        with transaction(self.hub) as cursor:
            found = rows(
                cursor,
                """INSERT INTO hub.parked_action (officer, action, place, parked, system, why, outcome, edited)
                   VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING id""",
                [self.officer, action, place_of(record), record["id"], record["system"], why, outcome, sealed],
            )
        return int(found[0][0])

    def outcome(self, entry: int, words: str) -> None:
        """How it ended."""
        with transaction(self.hub) as cursor:
            cursor.execute("UPDATE hub.parked_action SET outcome = %s WHERE id = %s", [words, entry])

    def close_row(self, record: Mapping[str, Any], state: str) -> bool:
        """End a row of the hub; its payload stays. Returns whether it was still open."""
        with transaction(self.hub) as cursor:
            cursor.execute("UPDATE hub.parked SET state = %s, closed_at = clock_timestamp() WHERE id = %s AND state = 'open'", [state, record["id"]])
            return bool(cursor.rowcount)

    def discard(self, record: Mapping[str, Any], why: str) -> bool:
        """Give a record up; payload and reason stay. What waited behind it goes on. Returns whether it was still open."""
        entry = self.note(record, "discard", why, None)
        if place_of(record) == HUB:
            done = self.close_row(record, "discarded")
        else:
            with self.at(record) as cursor:
                cursor.execute(_DISCARD_AT_TARGET, [record["id"]])
                done = bool(cursor.rowcount)
                cursor.execute(_RELEASE_BEHIND, {"e": record["entity"], "r": record["local_key"] and int(record["local_key"])})
        self.outcome(entry, "discarded" if done else "was closed already")
        return done

    @contextmanager
    def at(self, record: Mapping[str, Any]) -> Iterator[Cursor]:
        """A transaction where the record is parked."""
        if place_of(record) == HUB:
            with transaction(self.hub) as cursor:
                yield cursor
            return
        connection = connect(self.settings.dsn_of(record["system"]), application_name="lienthong parked", connect_timeout_seconds=3)
        try:
            with transaction(connection) as cursor:
                yield cursor
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connection."""
        self.hub.close()


def _values(kept: bytes, kind: str) -> Any:
    """A payload as values, where it is not just bytes."""
    if kind == parked_hold.HELD:
        return parked_hold.values_of(kept)
    if kind == "refused":
        try:
            return orjson.loads(kept)
        except orjson.JSONDecodeError:
            return {"bytes": kept}  # cut, because it was too large
    if kind == "apply":
        try:
            schema_id, body = unframe(kept)
            value: dict[str, Any] = id_codec(schema_id).decode(body)
        except (DamagedError, KeyError):
            return {"bytes": kept}
        value.pop("meta", None)
        return value
    return {"bytes": kept}


def _shown(values: Any, *, show: bool) -> Any:
    """The values, or only what they are like: a refused value may stand in any field, so none is taken for public."""
    if not isinstance(values, dict):
        return values if show else "•"
    return {name: _one(value, show=show) for name, value in values.items()}


def _one(value: Any, *, show: bool) -> Any:
    if value is None:
        return None
    if show:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value
    if isinstance(value, bytes):
        return f"• {len(value):,} bytes"
    return f"• {len(value):,} characters" if isinstance(value, str) else f"• {type(value).__name__}"
