"""Replay of parked records: through the normal path again, in the order received for each key, within a budget, and not for ever.

| Kind | Replay means |
|---|---|
| refused | read again at its source by key, or the row there with corrected values; closed by the merge |
| held | nothing of its own: the merge takes it when nothing refused stands before it any more |
| damaged | the kept bytes go to their topic and partition again, if this version can open them |
| link | a person decides: one record, or kept apart |
| ghost | a person decides: gone, or kept |
| apply | sent again as it is now by the router, or, when others wait behind it or it is a delete, the kept bytes are applied in order |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.kafka import Message, Producer
from connectors.postgres import rows, transaction
from lienthong import frames, golden, hub, links, parked_hold
from lienthong.authority import Authority
from lienthong.batch import read_messages
from lienthong.capture import state
from lienthong.errors import ConfigError, FatalError, LienThongError
from lienthong.identity import claim_of
from lienthong.parked_again import Again
from lienthong.parked_desk import HUB, Desk, place_of

BUDGET = 100
FAILURES_IN_A_ROW = 5
PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.1

DECISIONS = ("accept", "keep")


class StillWrong(LienThongError):
    """A replayed record is refused again; it stays parked: correct it, or what refuses it, and replay it then."""

    code = "LT-PARK-001"


@dataclass(frozen=True, slots=True)
class Result:
    """How one replay ended; `fine` is false for what is still parked."""

    record: dict[str, Any]
    outcome: str
    words: str
    fine: bool = True


@dataclass(slots=True)
class Order:
    """What a person asks for: how many at most, why, and what is decided or corrected."""

    budget: int = BUDGET
    why: str | None = None
    decide: str | None = None
    edit: dict[str, Any] | None = None
    patience_seconds: float = PATIENCE_SECONDS
    stuck: set[tuple[str, str | None, str | None, str | None]] = field(default_factory=set)


class Replayer:
    """Replays parked records one by one."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.settings = desk, desk.settings
        self._loaders: dict[str, Again] = {}
        self._producer: Producer | None = None
        self._work: Mapping[str, Callable[[dict[str, Any], Order], str]] = {
            "refused": self._refused,
            "held": self._held,
            "damaged": self._damaged,
            "link": self._link,
            "ghost": self._ghost,
            "apply": self._apply,
            "route": self._route,
        }

    # ------------------------------------------------------------ the whole
    def run(self, records: Sequence[dict[str, Any]], order: Order) -> Iterator[Result]:
        """Replay in the order received; a key whose earlier record stays parked is left. Raises `FatalError` after failures in a row."""
        _check(records, order)
        failures = 0
        for record in in_order(records)[: order.budget]:
            if _key(record) in order.stuck:
                yield Result(record, "behind", "an earlier record of the same key is still parked", fine=False)
                continue
            result = self._one(record, order)
            yield result
            failures = 0 if result.fine else failures + 1
            if not result.fine:
                order.stuck.add(_key(record))
            if failures >= FAILURES_IN_A_ROW:
                raise FatalError(
                    f"{failures} replays in a row did not end well, so the rest was left parked: cure the cause first; "
                    "`lienthong parked list` shows what is open"
                )

    def _one(self, record: dict[str, Any], order: Order) -> Result:
        action = "edit" if order.edit is not None else order.decide or "replay"
        edited = None if order.edit is None else orjson.dumps(order.edit)
        entry = self.desk.note(record, action, order.why, None, edited)
        try:
            outcome, words, fine = self._work[record["kind"]](record, order), "", True
        except StillWrong as error:
            outcome, words, fine = "still_wrong", str(error), False
        self.desk.outcome(entry, outcome)
        return Result(record, outcome, words, fine)

    # ------------------------------------------------------------ by kind
    def _refused(self, record: dict[str, Any], order: Order) -> str:
        place = record["version"] if self.settings.parking.holds(record["entity"]) else None
        answer = self._loader(record["system"]).read(record["entity"], record["local_key"], order.edit, place)
        if answer.words:
            raise StillWrong(answer.words if not answer.sent else f"refused again: {answer.words}")
        if self._is_step(record):
            self.desk.close_row(record, "closed")  # the step itself was an image that is gone: the dossier is what can be read again
            return "dossier_read_again"
        return self._until(order, "merge", lambda: self._state(record) != "open", "merged")

    def _is_step(self, record: Mapping[str, Any]) -> bool:
        return record["entity"] == "dossier_event" and "dossier_event" not in self.settings.profile_of(record["system"]).entities

    def _held(self, record: dict[str, Any], order: Order) -> str:
        with transaction(self.desk.hub) as cursor:
            before = parked_hold.waits_for(cursor, (record["system"], record["entity"], record["local_key"]), record["id"])
        if before is not None:
            raise StillWrong(f"it waits behind entry {before}: replay or discard that one, and this one follows by itself")
        return self._until(order, "merge", lambda: self._state(record) != "open", "merged")

    def _damaged(self, record: dict[str, Any], _order: Order) -> str:
        payload = self.desk.payload(record) or b""
        _, batch = read_messages([Message(record["topic"], record["partition"], record["offset"], 0, None, payload, ())])
        if batch.damaged:
            raise StillWrong("its bytes still cannot be opened: load the systems that write there, then discard it")
        self._send(record["topic"], record["partition"], payload)
        self.desk.close_row(record, "closed")
        return "sent"

    def _link(self, record: dict[str, Any], order: Order) -> str:
        if order.decide == "keep":
            self.desk.close_row(record, "apart")
            return "kept_apart"
        if record["reason"] == "duplicate_identifier":
            raise StillWrong("one system cannot have a record twice: correct the code of one of the two there, or decide to keep them apart")
        with transaction(self.desk.hub) as cursor:
            hub.enter(cursor, alone=True)
            found = rows(
                cursor,
                """SELECT c.record, r.parent FROM hub.contribution c JOIN hub.record r USING (record)
                   WHERE (c.system, c.entity, c.local_key) = (%s, %s, %s) FOR UPDATE OF c""",
                [record["system"], record["entity"], record["local_key"]],
            )
            said = hub.bodies(cursor, [(record["system"], record["entity"], record["local_key"])])
            values = next(iter(said.values()), None)
            claim = claim_of(record["entity"], values, found[0][1]) if found and values is not None else None
            holder = rows(cursor, "SELECT record FROM hub.identifier WHERE claim = %s", [claim])
            if not holder or links.living(cursor, int(holder[0][0])) == found[0][0]:
                raise StillWrong("they do not claim the same identifier any more: nothing is left to decide, discard it")
            keep, gone = sorted((links.living(cursor, int(holder[0][0])), int(found[0][0])))
            hub.lock(cursor, [keep, gone])
            golden.fold_again(cursor, Authority(self.settings), links.merge_records(cursor, keep, gone))
            cursor.execute("UPDATE hub.parked SET state = 'closed', closed_at = clock_timestamp() WHERE id = %s", [record["id"]])
        return "joined"

    def _ghost(self, record: dict[str, Any], order: Order) -> str:
        if order.decide == "keep":
            self.desk.close_row(record, "kept")
            return "kept"
        stored = state.load(self.desk.hub, record["system"])
        key = (record["system"], record["entity"], record["local_key"])
        with transaction(self.desk.hub) as cursor:
            found = rows(cursor, "SELECT parent_key FROM hub.contribution WHERE (system, entity, local_key) = (%s, %s, %s)", list(key))
        if stored is None or not found:
            raise StillWrong("the hub does not know it any more: discard it")
        header = frames.Header(record["system"], record["entity"], "records", stored.epoch, stored.finished, 0, int(time.time() * 1_000_000))
        builder = frames.FrameBuilder(header)
        builder.add(
            frames.pack_entry(frames.DELETE, record["local_key"], parent=found[0][0], record=None, delivered=False, edited=None, nulls=0, body=b"")
        )
        root = found[0][0] if found[0][0] is not None else record["local_key"]
        self._send(frames.TOPIC, frames.partition_of(record["system"], root, self.settings.kafka.partitions), builder.close() or b"")
        return self._until(order, "merge", lambda: self._state(record) != "open", "deleted")

    def _route(self, _record: dict[str, Any], _order: Order) -> str:
        raise StillWrong("it is sent by itself when it fits into a message: shorten it at its owners")

    def _apply(self, record: dict[str, Any], order: Order) -> str:
        if record["reason"] == "withdraw_kept":
            raise StillWrong("its system decides whether its row may stay; then discard this")
        if self._is_sent_again(record):
            return self._resend(record, order)
        with self.desk.at(record) as cursor:
            cursor.execute(
                """UPDATE lienthong.parked SET state = 'replay' WHERE state = 'parked'
                   AND (id = %s OR (entity, record) = (%s, %s))""",
                [record["id"], record["entity"], record["local_key"] and int(record["local_key"])],
            )
        return self._until(order, "apply", lambda: self._state(record) != "replay", "applied", self._is_parked_again(record))

    def _is_sent_again(self, record: Mapping[str, Any]) -> bool:
        """Whether the router would send it: it is known which record it is, the party is entitled to it now, and nothing waits behind it."""
        if record["local_key"] is None or self.settings.parking.holds(record["entity"]) or record["reason"] == "held":
            return False
        with transaction(self.desk.hub) as cursor:
            found = rows(
                cursor, "SELECT state::text FROM hub.entitled WHERE (record, system) = (%s, %s)", [int(record["local_key"]), record["system"]]
            )
        return bool(found) and found[0][0] == "s"

    def _resend(self, record: dict[str, Any], order: Order) -> str:
        newest = self._newest(record)
        with transaction(self.desk.hub) as cursor:
            hub.note_changed(cursor, [(int(record["local_key"]), 0, record["system"], 0)])
        done = self._until(order, "route and apply", lambda: self._newest(record) != newest, "sent_again")
        if self._newest(record)[0] != newest[0]:
            self._replace(record)
            raise StillWrong("its target refuses it again")
        self._replace(record)
        return done

    def _replace(self, record: Mapping[str, Any]) -> None:
        """What was sent again has its own end, applied or parked anew: the old row is of the past."""
        with self.desk.at(record) as cursor:
            cursor.execute("UPDATE lienthong.parked SET state = 'replayed' WHERE id = %s", [record["id"]])

    # ------------------------------------------------------------ waiting for the service
    def _until(self, order: Order, who: str, done: Callable[[], bool], outcome: str, failed: Callable[[], bool] = lambda: False) -> str:
        """Wait for what the service makes of it; raises `StillWrong` when it is refused again or nobody answers."""
        until = time.monotonic() + order.patience_seconds
        while not done():
            if time.monotonic() > until:
                raise StillWrong(f"it is on its way, but not through {who} within {order.patience_seconds:.0f} s: is `lienthong run` running?")
            time.sleep(_POLL_SECONDS)
        if failed():
            raise StillWrong("its target refuses it again")
        return outcome

    def _state(self, record: Mapping[str, Any]) -> str:
        table = "hub.parked" if place_of(record) == HUB else "lienthong.parked"
        with self.desk.at(record) as cursor:
            return str(rows(cursor, f"SELECT state FROM {table} WHERE id = %s", [record["id"]])[0][0])  # noqa: S608

    def _is_parked_again(self, record: Mapping[str, Any]) -> Callable[[], bool]:
        return lambda: self._state(record) == "parked"

    def _newest(self, record: Mapping[str, Any]) -> tuple[int, tuple[int, int]]:
        """The newest parked row and the version applied, of one record at its target."""
        with self.desk.at(record) as cursor:
            key = [record["entity"], int(record["local_key"])]
            parked = rows(cursor, "SELECT max(id) FROM lienthong.parked WHERE (entity, record) = (%s, %s)", key)
            applied = rows(cursor, "SELECT epoch, version FROM lienthong.applied WHERE (entity, record) = (%s, %s)", key)
        return int(parked[0][0]), applied[0] if applied else (0, 0)

    # ------------------------------------------------------------ doors
    def _loader(self, system: str) -> Again:
        if system not in self._loaders:
            loader = self._loaders[system] = Again(self.settings, system, self.desk.vault)
            loader.reach()
        return self._loaders[system]

    def _send(self, topic: str, partition: int, value: bytes) -> None:
        if self._producer is None:
            self._producer = Producer(self.settings.kafka.brokers, client_id="lienthong-replay")
        self._producer.send(topic, value, partition=partition)
        self._producer.flush()

    def close(self) -> None:
        """Close what was opened."""
        for loader in self._loaders.values():
            loader.close()
        if self._producer is not None:
            self._producer.close()


def in_order(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records as they came, each place by itself: ids are drawn in the order of parking."""
    return sorted(records, key=lambda r: (place_of(r) != HUB, place_of(r), r["id"]))


def meaning(record: Mapping[str, Any], order: Order) -> str:
    """What a replay would do, in words."""
    kind = record["kind"]
    if kind in ("link", "ghost"):
        return {"accept": {"link": "make one record of the two", "ghost": "delete it"}, "keep": {"link": "keep them apart", "ghost": "keep it"}}.get(
            order.decide or "", {}
        ).get(kind, "nothing: give --decide accept or keep")
    if kind == "refused":
        what = "correct it" if order.edit is not None else "read it again"
        return f"{what} at {record['system']}"
    if kind == "held":
        return "merge it once nothing refused stands before it"
    return "put its bytes through again" if kind == "damaged" else f"send it to {record['system']} again"


def _key(record: Mapping[str, Any]) -> tuple[str, str | None, str | None, str | None]:
    return place_of(record), record["system"], record["entity"], record["local_key"] or f"#{record['id']}"


def _check(records: Sequence[Mapping[str, Any]], order: Order) -> None:
    """Refuse an order that does not fit its records before anything is done."""
    kinds = {record["kind"] for record in records}
    if order.edit is not None and (kinds != {"refused"} or len(records) != 1):
        raise ConfigError("--edit is for one refused record: name it by its number")
    if order.decide is None and kinds & {"link", "ghost"}:
        raise ConfigError("a link or a ghost needs a decision: --decide accept or --decide keep (or leave them out with --kind)")
    if order.decide is not None and kinds - {"link", "ghost"}:
        raise ConfigError("--decide is for links and ghosts only: choose them with --kind or by number")
    if (order.edit is not None or order.decide is not None) and not (order.why or "").strip():
        raise ConfigError("an edit and a decision need a reason: --why TEXT")
