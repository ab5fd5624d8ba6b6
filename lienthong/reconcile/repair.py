"""Repair: what a comparison has found is put right by the ways that records always take, never by writing into somebody's tables.

A system's row that the hub does not know as it is, is read again by its key; a golden record that is not what its words say is
folded again; what a party lacks is put on the router's list for it, and what it may not have is withdrawn there.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from connectors.postgres import Connection, connect, one, rows, transaction
from lienthong import golden, hub
from lienthong.authority import RECORD, Authority, Said
from lienthong.capture import state
from lienthong.entitled import Golden, read_golden
from lienthong.errors import TransientError
from lienthong.keys import root_of
from lienthong.load import Loader
from lienthong.reconcile.compare import Comparison, Difference, Scope
from lienthong.reconcile.fence import Fence
from lienthong.reconcile.judge import CAPTURE, EXTRA, MERGE, PARENT
from lienthong.settings import Settings
from lienthong.vault import Vault
from schemas import field as field_of

RE_READ, FOLD, RE_SEND, WITHDRAW, PERSON = "re-read", "fold again", "re-send", "withdraw", "a person decides"
ACTS = (RE_READ, FOLD, RE_SEND, WITHDRAW)
ROUNDS = 3  # a row that was read again may then have to be sent back
NUMBER_SECONDS = 30.0

_FORGOTTEN = """
SELECT c.system, c.entity, c.local_key FROM hub.contribution c JOIN hub.capture_state s USING (system)
WHERE c.system = ANY(%s) AND c.local_key = ANY(%s) AND c.op = 's' AND c.epoch < s.epoch
"""  # what a restored source does not hold any more is deleted by a person's decision only


@dataclass(frozen=True, slots=True)
class Action:
    """One difference, what is done about it, and by whose authority."""

    difference: Difference
    act: str
    owners: tuple[str, ...]
    basis: str


def known_differences(settings: Settings, systems: Sequence[str], entities: Sequence[str] = ()) -> list[Difference]:
    """The differences that the last comparisons have left."""
    connection = connect(settings.hub.dsn, application_name="lienthong repair")
    try:
        with transaction(connection) as cursor:
            found = rows(
                cursor,
                """SELECT system, entity, local_key, record, hop, kind, fields FROM hub.difference
                   WHERE system = ANY(%s) AND (%s OR entity = ANY(%s)) ORDER BY id""",
                [list(systems), not entities, list(entities)],
            )
    finally:
        connection.close()
    return [Difference(system, entity, key, record, hop, kind, tuple(fields)) for system, entity, key, record, hop, kind, fields in found]


class Planner:
    """Says what is to be done about differences."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.authority = Authority(settings)

    def plan(self, connection: Connection, differences: Sequence[Difference]) -> list[Action]:
        """An action for each difference, with the systems whose word counts there and the rule that says so."""
        records = [d.record for d in differences if d.record is not None]
        with transaction(connection) as cursor:
            found = read_golden(cursor, records)
            sent = set(rows(cursor, "SELECT system, record FROM hub.entitled WHERE record = ANY(%s)", [records]))
            forgotten = set(rows(cursor, _FORGOTTEN, [list({d.system for d in differences}), [d.key for d in differences if d.key is not None]]))
        return [
            self._one(
                d, found.get(d.record or 0), is_sent=(d.system, d.record) in sent, is_forgotten=(d.system, d.entity, d.key) in forgotten
            )
            for d in differences
        ]  # fmt: skip

    def _one(self, difference: Difference, record: Golden | None, *, is_sent: bool, is_forgotten: bool) -> Action:
        act = RE_SEND
        if difference.hop == CAPTURE:
            act = PERSON if is_forgotten and difference.kind == EXTRA else RE_READ
        elif difference.hop == MERGE:
            act = FOLD
        elif difference.kind == EXTRA:
            act = WITHDRAW if is_sent else PERSON
        return Action(difference, act, *self._authority(difference, record))

    def _authority(self, difference: Difference, record: Golden | None) -> tuple[tuple[str, ...], str]:
        contract = self.settings.contract_of(difference.system)
        if difference.hop not in (CAPTURE, MERGE) and difference.kind == EXTRA:
            return (), f"not in its contract: {contract.legal_ground}" if contract else "no contract"
        names = [name for name in difference.fields if name != PARENT]
        groups = list(dict.fromkeys(field_of(difference.entity, name).group for name in names)) or [RECORD]
        on = self.authority.date_of(difference.entity, [Said("", 0, record.values)] if record is not None else [])
        owners = [record.holder(group) for group in groups] if record is not None else [difference.system]
        basis = dict.fromkeys(self.authority.rule(difference.entity, group, on).basis for group in groups)
        return tuple(dict.fromkeys(owner for owner in owners if owner is not None)), "; ".join(basis)


class Repair:
    """Carries out actions for one system and looks whether they helped."""

    def __init__(self, settings: Settings, system: str, *, wait_seconds: float, told: Callable[[str], None] = lambda _: None) -> None:
        self.settings, self.system, self.wait_seconds, self.told = settings, system, wait_seconds, told
        self.planner = Planner(settings)

    def run(self, differences: Sequence[Difference], acts: Collection[str] = ACTS) -> list[Action]:
        """Repair, round by round, with these acts only: a record is read again, folded, sent until it is right or nothing helps.

        Returns what is left.
        """
        connection = hub.open_hub(self.settings.hub.dsn, "repair")
        try:
            actions = self.planner.plan(connection, self._again(differences))  # some may have gone since they were found
            for _ in range(ROUNDS):
                chosen = [action for action in actions if action.act in acts]
                if not chosen:
                    break
                self._act(connection, chosen)
                Fence(self.settings, self.system, connection, self.wait_seconds, self.told).wait()
                actions = self.planner.plan(connection, self._again([action.difference for action in actions]))
        finally:
            connection.close()
        return actions

    def _act(self, connection: Connection, actions: Sequence[Action]) -> None:
        """The first hop of each record that is wrong: what comes behind it may be right once it is."""
        by_act: dict[str, list[Difference]] = defaultdict(list)
        for action in actions:
            by_act[action.act].append(action.difference)
        if by_act[RE_READ]:
            self._re_read(by_act[RE_READ])
        folds = sorted({d.record for d in by_act[FOLD] if d.record is not None})
        earlier = {d.record for d in (*by_act[RE_READ], *by_act[FOLD])}
        sends = sorted({d.record for d in (*by_act[RE_SEND], *by_act[WITHDRAW]) if d.record is not None and d.record not in earlier})
        with transaction(connection) as cursor:
            hub.enter(cursor, alone=True)
            golden.fold_again(cursor, self.planner.authority, folds)
            hub.note_changed(cursor, [(record, 0, self.system, 0) for record in sends])

    def _re_read(self, differences: Iterable[Difference]) -> None:
        by_entity: dict[str, list[str]] = defaultdict(list)
        for d in differences:
            if d.key is not None:
                by_entity[d.entity].append(d.key)
        loader = Rereader(self.settings, self.system, Vault.from_environment())
        try:
            for entity, keys in by_entity.items():
                loader.wait_number(entity, keys)
                loader.run(entities=[entity], keys=sorted({_root(self.settings, self.system, entity, key) for key in keys}))
        finally:
            loader.close()

    def _again(self, differences: Sequence[Difference]) -> list[Difference]:
        """Look at the same records once more."""
        if not differences:
            return []
        with Comparison(self.settings, self.system, wait_seconds=self.wait_seconds, told=self.told) as comparison:
            out = []
            for entity in dict.fromkeys(d.entity for d in differences):
                of_entity = [d for d in differences if d.entity == entity]
                keys, records = [d.key for d in of_entity if d.key is not None], [d.record for d in of_entity if d.record is not None]
                out += comparison.compare(entity, Scope(keys=tuple(keys), records=tuple(records))).differences
            return out


class Rereader(Loader):
    """Reads single records again, under a number above the one with which the hub has them."""

    def wait_number(self, entity: str, keys: Sequence[str]) -> None:
        """Wait until such a number is free; raises `TransientError` when the source is not captured at all."""
        with transaction(self.hub) as cursor:
            found = one(
                cursor,
                "SELECT coalesce(max(version), 0) FROM hub.contribution WHERE system = %s AND entity = %s AND local_key = ANY(%s)",
                [self.system, entity, list(keys)],
            )
        newest = int(found[0]) if found else 0
        until = time.monotonic() + NUMBER_SECONDS
        while self._finished()[0] <= newest:
            if time.monotonic() > until:
                raise TransientError(f"{self.system}: nothing is read there, so no record can be read again: is `lienthong run capture` running?")
            time.sleep(0.2)

    def _finished(self) -> tuple[int, int]:
        """All numbers below the block that is being drawn from belong to readings that have ended, and none of them is used again."""
        finished, epoch = super()._finished()
        stored = state.load(self.hub, self.system)
        return max(finished, stored.drawn - state.BLOCK) if stored is not None else finished, epoch


def _root(settings: Settings, system: str, entity: str, key: str) -> str:
    """The key of the row to read: elements of a JSON document are read with their root."""
    mapping = settings.profile_of(system).entities[entity]
    return key if mapping.each is None else root_of(key, len(mapping.key))
