"""From the out-topic into the ledger: what the portal is entitled to becomes messages, in the transaction that moves the topic's offset.

A message about a dossier is made of the dossier, its fees and its papers, so the newest of each is kept. What one routing pass says of a
dossier belongs together: one state, then its steps in the order in which they were taken. A child may come before its dossier and waits.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import schemas
from connectors.avro import DamagedError, check_digest, id_codec, unframe
from connectors.kafka import Message
from connectors.postgres import Cursor, rows
from connectors.postgres import one as first
from lienthong.national import portal_messages as messages
from lienthong.national.ledger import Keys, Ledger

logger = logging.getLogger(__name__)

_NAMES = {schemas.schema_id(name): name for name in schemas.RECORDS}
_CHILDREN = ("fee", "dossier_component")
_ENTITIES = ("dossier", *_CHILDREN, "dossier_event")
_PROCEDURE = "procedure"

_KNOWN = """
SELECT entity, record, dossier, epoch, version FROM hub.delivery_part
WHERE system = %s AND (entity, record) IN (SELECT * FROM unnest(%s::text[], %s::bigint[]))
"""
_PUT_PART = """
INSERT INTO hub.delivery_part AS p (system, entity, record, dossier, epoch, version, body) VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (system, entity, record) DO UPDATE
SET dossier = excluded.dossier, epoch = excluded.epoch, version = excluded.version, body = excluded.body
WHERE (p.epoch, p.version) < (excluded.epoch, excluded.version)
"""
_PARTS = """
SELECT entity, body FROM hub.delivery_part WHERE system = %s AND dossier = %s AND body IS NOT NULL ORDER BY record
"""
_PUT_PROCEDURE = """
INSERT INTO hub.delivery_procedure AS p (system, record, epoch, version, code, field) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (system, record) DO UPDATE SET epoch = excluded.epoch, version = excluded.version, code = excluded.code, field = excluded.field
WHERE (p.epoch, p.version) < (excluded.epoch, excluded.version)
"""
_FIELD = "SELECT min(field) FROM hub.delivery_procedure WHERE system = %s AND code = %s HAVING count(DISTINCT field) = 1"
_OTHER_WITH_CODE = "SELECT dossier FROM hub.delivery_dossier WHERE system = %s AND code = %s AND dossier <> %s LIMIT 1"
NO_DOSSIER = 0
"""Stands for the record of a message that cannot be read."""
WITHDRAWN = "withdrawn before it was sent"
NO_WAY_BACK = "the portal was told of it, and has no message that takes it back: agree with the portal's operator, then let it go"
CHANGED = "changed after it was sent, and the portal has no message that corrects a step: agree with its operator, then let it go"


@dataclass(frozen=True, slots=True)
class Arrived:
    """One message of the out-topic."""

    kind: str  # an entity, `removed` or `merged`
    entity: str
    record: int
    dossier: int
    version: tuple[int, int]
    values: dict[str, Any]


class Intake:
    """Queues what arrives."""

    def __init__(self, ledger: Ledger, form: messages.Form) -> None:
        self.ledger, self.form = ledger, form
        self.counts: Counter[str] = Counter()
        self._digests: dict[int, bytes | None] = {}

    def take(self, cursor: Cursor, batch: Sequence[Message]) -> None:
        """Queue a batch; the caller moves the offset in the same transaction."""
        damaged: list[str] = []
        decoded = list(self._decode(cursor, batch, damaged))
        self._know_procedures(cursor, [one for one in decoded if one.entity == _PROCEDURE])
        arrived = [one for one in decoded if one.entity != _PROCEDURE]
        targets = [one.values["record"] for one in arrived if one.kind == "merged" and one.entity == "dossier"]
        self._digests = self.ledger.lock(cursor, [one.dossier for one in arrived] + targets + [NO_DOSSIER] * bool(damaged))
        for reason in damaged:
            self.ledger.put_removal(cursor, NO_DOSSIER, NO_DOSSIER, "?", reason)
        fresh = self._fresh(cursor, arrived)
        # Messages of one dossier stay in the order of the topic; the version is the number of the routing pass.
        ordered = sorted(fresh, key=lambda one: (one.dossier, one.version))
        for (dossier, _), passed in groupby(ordered, key=lambda one: (one.dossier, one.version)):
            self._pass(cursor, dossier, list(passed))

    # ------------------------------------------------------------ reading
    def _decode(self, cursor: Cursor, batch: Iterable[Message], damaged: list[str]) -> Iterator[Arrived]:
        for message in batch:
            if message.value is None:
                continue  # a probe, or the purge of what has long ended
            try:
                check_digest(message.value, message.headers)
                schema_id, body = unframe(message.value)
                kind = _NAMES[schema_id]
                value = id_codec(schema_id).decode(body)
            except (KeyError, DamagedError) as error:
                damaged.append(self._damaged(message, type(error).__name__))
                continue
            entity = value["entity"] if kind in ("removed", "merged") else kind
            if entity in (*_ENTITIES, _PROCEDURE):
                yield self._arrived(cursor, kind, entity, value)

    def _arrived(self, cursor: Cursor, kind: str, entity: str, value: dict[str, Any]) -> Arrived:
        meta = value.pop("meta", value)
        record = value["from"] if kind == "merged" else meta["record"]
        dossier = record if entity in ("dossier", _PROCEDURE) else meta.get("parent")
        if dossier is None:
            found = first(
                cursor,
                "SELECT dossier FROM hub.delivery_part WHERE system = %s AND entity = %s AND record = %s",
                [self.ledger.system, entity, record],
            )
            dossier = found[0] if found else record
        return Arrived(kind, entity, record, dossier, (meta["epoch"], meta["version"]), value)

    def _damaged(self, message: Message, why: str) -> str:
        """What cannot be read is told by its place and left: the next state of its record replaces it."""
        reason = f"{message.topic} offset {message.offset} cannot be read ({why}); the next state of its record replaces it"
        logger.warning(reason, extra={"action": "deliver_damaged", "system": self.ledger.system})
        return reason

    def _know_procedures(self, cursor: Cursor, procedures: Sequence[Arrived]) -> None:
        """Keep the field of each procedure the contract grants; dossiers carry it from their next state on."""
        for one in procedures:
            said = one.values if one.kind == _PROCEDURE else {}
            cursor.execute(_PUT_PROCEDURE, [self.ledger.system, one.record, *one.version, said.get("procedure_code"), said.get("field_code")])

    def _field_of(self, cursor: Cursor, procedure: str | None) -> str | None:
        """The field of a procedure; None when nobody told it, or two records of the procedure tell two."""
        found = None if procedure is None else first(cursor, _FIELD, [self.ledger.system, procedure])
        return None if found is None else found[0]

    def _fresh(self, cursor: Cursor, arrived: Sequence[Arrived]) -> list[Arrived]:
        """Without what is older than, or the same as, what was taken before."""
        asked = [self.ledger.system, [a.entity for a in arrived], [a.record for a in arrived]]
        known = {(entity, record): (epoch, version) for entity, record, _, epoch, version in rows(cursor, _KNOWN, asked)}
        fresh = []
        for one in arrived:
            key = one.entity, one.record
            if known.get(key, (-1, -1)) < one.version:
                known[key] = one.version
                fresh.append(one)
        return fresh

    # ------------------------------------------------------------ one routing pass of one dossier
    def _pass(self, cursor: Cursor, dossier: int, passed: Sequence[Arrived]) -> None:
        for one in passed:
            # Of a step only the version is kept: its content stands in its message.
            is_part = one.kind in ("dossier", *_CHILDREN)
            body = self.ledger.seal(one.values) if is_part else None
            cursor.execute(_PUT_PART, [self.ledger.system, one.entity, one.record, dossier, *one.version, body])
        for one in passed:
            if one.kind in ("removed", "merged"):
                self._end(cursor, one)
        if any(one.entity != "dossier_event" for one in passed):
            self._state(cursor, dossier)
        steps = [one for one in passed if one.kind == "dossier_event"]
        for one in sorted(steps, key=lambda step: (step.values.get("occurred_at") or 0, step.record)):
            self._step(cursor, one)

    def _state(self, cursor: Cursor, dossier: int) -> None:
        """Queue what the portal is to know of a dossier, unless it says the same as what was queued last."""
        held: dict[str, list[Mapping[str, Any]]] = {entity: [] for entity in _ENTITIES}
        for entity, body in rows(cursor, _PARTS, [self.ledger.system, dossier]):
            held[entity].append(self.ledger.open(body))
        if not held["dossier"]:
            return  # it has not come yet, or has gone
        fields, reason = None, None
        try:
            values = held["dossier"][0]
            field = self._field_of(cursor, values.get("procedure_code"))
            fields = messages.dossier_fields(self.form, values, held["fee"], held["dossier_component"], field)
            if "MaHoSo" in fields and self._is_there_as(cursor, dossier, values.get("local_code")):
                fields["MaHoSo"] = values["local_code"]
            self._know_code(cursor, dossier, fields.get("MaHoSo"))
            digest = messages.digest(fields)
        except messages.Unsendable as error:
            fields, reason = None, str(error)
            digest = messages.digest({"refused": reason})
        if self._digests.get(dossier) != digest:
            self._digests[dossier] = digest
            self.ledger.put_state(cursor, dossier, fields, digest, reason)
            self.counts["queued" if fields else "refused"] += 1

    def _is_there_as(self, cursor: Cursor, dossier: int, code: str | None) -> bool:
        """Whether the portal knows a dossier by this code, which it keeps also when the dossier gets a national one later."""
        held = "SELECT 1 FROM hub.delivery_dossier WHERE system = %s AND dossier = %s AND is_there AND code = %s"
        return code is not None and first(cursor, held, [self.ledger.system, dossier, code]) is not None

    def _know_code(self, cursor: Cursor, dossier: int, code: str | None) -> None:
        """Two dossiers with one code would overwrite each other at the portal, and a changed code would be another dossier there."""
        if code is None:
            return
        system = self.ledger.system
        other = first(cursor, _OTHER_WITH_CODE, [system, code, dossier])
        if other is not None:
            raise messages.Unsendable("MaHoSo", f"the dossier of record {other[0]} has the same code")
        statement = "UPDATE hub.delivery_dossier SET code = %s WHERE system = %s AND dossier = %s AND (NOT is_there OR code = %s)"
        cursor.execute(statement, [code, system, dossier, code])
        if not cursor.rowcount:
            raise messages.Unsendable("MaHoSo", "the code was changed, but the portal holds the dossier under the former one")

    def _step(self, cursor: Cursor, arrived: Arrived) -> None:
        dossier, record = arrived.dossier, arrived.record
        before = self.ledger.last_step(cursor, record)
        fields, reason = None, None
        keys: Keys = (None, None)
        try:
            fields = messages.progress_fields(self.form, arrived.values)
            digest, keys = messages.digest(fields), (messages.step_digest(fields), messages.exact_digest(arrived.values))
        except messages.Unsendable as error:
            reason = str(error)
            digest = messages.digest({"refused": reason})
        if before is not None and before[2] == digest:
            return
        if before is not None and before[1] != "refused":
            if before[1] == "pending" and fields is not None:
                self.ledger.change_step(cursor, before[0], fields, digest=digest, keys=keys)
                return
            fields, reason = None, CHANGED
        is_new = self.ledger.put_step(cursor, dossier, record, fields, digest=digest, keys=keys, reason=reason)
        self.counts["queued" if is_new and reason is None else "refused" if reason else "told_twice"] += 1

    # ------------------------------------------------------------ what ends
    def _end(self, cursor: Cursor, ended: Arrived) -> None:
        """A record that ended or left the contract: what was not sent is not sent any more; what was cannot be taken back."""
        if ended.entity in _CHILDREN:
            return  # the dossier's next state is without it
        if ended.entity == "dossier" and ended.kind == "merged" and self._joined(cursor, ended.dossier, ended.values["record"]):
            return
        self.ledger.drop(cursor, ended.dossier, None if ended.entity == "dossier" else ended.record, WITHDRAWN)
        told = "SELECT 1 FROM hub.delivery WHERE system = %s AND record = %s AND state IN ('confirmed', 'sent', 'unknown') LIMIT 1"
        if first(cursor, told, [self.ledger.system, ended.record]):
            self.ledger.put_removal(cursor, ended.dossier, ended.record, ended.entity, NO_WAY_BACK)
        if ended.entity == "dossier":
            self._digests[ended.dossier] = None
            self.ledger.forget_state(cursor, ended.dossier)

    def _joined(self, cursor: Cursor, former: int, dossier: int) -> bool:
        """Two records turned out to be one dossier: whether the portal needs to forget nothing."""
        self._digests[former] = self._digests[dossier] = None
        is_fine = self.ledger.join(cursor, former, dossier)
        self._state(cursor, dossier)
        return is_fine
