"""The sweep: every dossier against every hop that is expected of it by now; what is missing is named with its last proven holder and probable cause.

The hub's tables are read as whole sets; then only targets of what is not proven there are asked, and sources for dossiers that the hub never saw.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from connectors.postgres import Connection, Cursor, connect, transaction
from lienthong import hub
from lienthong.authority import Authority
from lienthong.config_expectations import Hop
from lienthong.journey import sources, store, suspects, targets
from lienthong.journey.causes import Finding, Judge
from lienthong.journey.expect import Limits, finished_since
from lienthong.journey.handover import Handover, Pair, Round, handovers
from lienthong.journey.suspects import Dossier, Message
from lienthong.readers import from_micros
from lienthong.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one sweep did."""

    at: datetime
    took_seconds: float
    dossiers: int
    found: int
    unasked: list[str]  # systems that did not answer: what was found about them before stays


@dataclass(slots=True)
class Facts:
    """Everything that the hub's own tables and the answers of targets show."""

    dossiers: dict[int, Dossier]
    unreceived: list[Dossier]
    unacknowledged: dict[Pair, int]  # the version that was sent
    unshown: list[Pair]
    told: dict[int, Message]
    untaken: dict[int, int]
    untold: list[int]
    handed: dict[Pair, Handover] = field(default_factory=dict)


class Sweep:
    """One look at everything, as of one time."""

    def __init__(self, settings: Settings, connection: Connection, at: datetime, wait_seconds: float | None) -> None:
        self.settings, self.connection, self.at, self.wait_seconds = settings, connection, at, wait_seconds
        self.limits = Limits.of(settings)
        self.authority = Authority(settings)
        self.unasked: set[str] = set()
        contracted = {name: party for name, party in settings.systems.items() if settings.contract_of(name) is not None}
        self.written = [name for name, party in contracted.items() if party.apply and party.has_database]
        self.shows = [name for name in self.written if settings.systems[name].kind == "portal"]
        portal = settings.national.portal.system if settings.national is not None and settings.national.portal is not None else None
        self.national = portal if portal in contracted else None

    def run(self) -> tuple[int, list[Finding]]:
        """How many dossiers were looked at, and what is lost or stuck."""
        with transaction(self.connection) as cursor:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; {suspects.WORKING}")
            around = Round.look(cursor, self.settings)
            count = suspects.count(cursor)
            facts = self._facts(cursor)
        parked = self._ask(facts)
        with transaction(self.connection) as cursor:
            facts.handed = handovers(cursor, self._pairs(facts), parked)
        judge = Judge(self.settings, self.authority, around, self.unasked)
        return count, [*self._judged(facts, judge), *self._unseen(judge)]

    # ------------------------------------------------------------ looking
    def _facts(self, cursor: Cursor) -> Facts:
        rules = self.settings.expectations.hops
        acknowledged, confirmed = rules.get("acknowledged", ()), rules.get("confirmed", ())
        facts = Facts(
            dossiers={},
            unreceived=suspects.not_received(cursor, self.at) if "received" in rules else [],
            unacknowledged=suspects.not_acknowledged(cursor, self.written, suspects.newest(self.at, acknowledged)) if acknowledged else {},
            unshown=suspects.not_shown(cursor, self.shows, self.at) if "shown" in rules else [],
            told={}, untaken={}, untold=[],
        )  # fmt: skip
        if self.national is not None:
            facts.told, facts.untaken = suspects.not_confirmed(cursor, self.national, suspects.newest(self.at, confirmed))
            facts.untold = suspects.not_told(cursor, self.national, self.at) if "shown" in rules else []
        named = {record for record, _ in (*facts.unacknowledged, *facts.unshown)} | facts.told.keys() | facts.untaken.keys() | set(facts.untold)
        facts.dossiers = suspects.dossiers(cursor, named) | {one.record: one for one in facts.unreceived}
        return facts

    def _ask(self, facts: Facts) -> dict[Pair, str]:
        """Ask the targets of what is not proven here, keep what they have acknowledged; returns why they refuse what they have parked."""
        wanted: dict[str, list[int]] = {}
        for record, system in {*facts.unacknowledged, *facts.unshown}:
            wanted.setdefault(system, []).append(record)
        answers, silent = targets.memories(self.settings, wanted)
        self.unasked.update(silent)
        with transaction(self.connection) as cursor:
            store.keep_acknowledged(cursor, answers)
        return {(record, system): reason for system, memory in answers.items() for record, reason in memory.parked.items()}

    def _pairs(self, facts: Facts) -> list[Pair]:
        """Where to look again, now that the targets were asked: the suspects, and who should have received what was not."""
        responsible = [(one.record, who) for one in facts.unreceived if (who := self._receiver(one)) is not None]
        national = [(record, self.national) for record in (*facts.untold, *facts.untaken, *facts.told) if self.national is not None]
        return [*facts.unacknowledged, *facts.unshown, *responsible, *national]

    def _receiver(self, one: Dossier) -> str | None:
        processing, receiving = self.authority.roles(one.values)
        return receiving or processing

    # ------------------------------------------------------------ judging
    def _judged(self, facts: Facts, judge: Judge) -> Iterable[Finding]:
        unshown = list(self._not_shown(facts, judge))
        taken = {(finding.record, finding.system) for finding in unshown}
        yield from unshown
        yield from (finding for finding in self._not_acknowledged(facts, judge) if (finding.record, finding.system) not in taken)
        yield from (finding for finding in self._not_confirmed(facts, judge) if (finding.record, finding.system) not in taken)
        for one in facts.unreceived:
            limit = self._over("received", from_micros(one.values["submitted_at"]), one)
            if limit is not None:
                who = self._receiver(one)
                yield judge.not_received(one, None if who is None else facts.handed[one.record, who], limit)

    def _over(self, hop: Hop, since: datetime, one: Dossier) -> tuple[datetime, datetime] | None:
        """Since when and until when, where the limit of a hop is over."""
        limit = self.limits.by(hop, since, one.values)
        return (since, limit) if limit is not None and limit <= self.at else None

    def _not_acknowledged(self, facts: Facts, judge: Judge) -> Iterable[Finding]:
        for pair, version in facts.unacknowledged.items():
            one, handed = facts.dossiers.get(pair[0]), facts.handed[pair]
            if one is None or handed.sent is None or (handed.is_current and not handed.parked):
                continue
            limit = self._over("acknowledged", from_micros(version * 1000), one)
            if limit is not None and not self._came(handed, version):
                yield judge.not_acknowledged(one, handed, limit)

    @staticmethod
    def _came(handed: Handover, version: int) -> bool:
        """Whether what was sent then has arrived, whatever was sent since."""
        return not handed.parked and handed.acknowledged is not None and handed.acknowledged >= version

    def _not_shown(self, facts: Facts, judge: Judge) -> Iterable[Finding]:
        for pair in facts.unshown:
            one, handed = facts.dossiers.get(pair[0]), facts.handed[pair]
            limit = None if one is None or handed.is_current else self._over("shown", finished_since(one.values, one.known_at), one)
            if one is not None and limit is not None:
                yield judge.not_shown(one, handed, limit)
        for record in facts.untold:
            one = facts.dossiers.get(record)
            limit = None if one is None else self._over("shown", finished_since(one.values, one.known_at), one)
            if one is not None and limit is not None and self.national is not None:
                yield judge.not_told(one, facts.handed[record, self.national], facts.told.get(record), limit)

    def _not_confirmed(self, facts: Facts, judge: Judge) -> Iterable[Finding]:
        """What the ledger has open, and what never came into it; of one that is finished, as not shown."""
        late: dict[int, tuple[datetime, Message | None]] = {r: (from_micros(version * 1000), None) for r, version in facts.untaken.items()}
        late |= {record: (message.since, message) for record, message in facts.told.items()}
        for record, (since, message) in late.items():
            one = facts.dossiers.get(record)
            limit = None if one is None else self._over("confirmed", since, one)
            if one is not None and limit is not None and self.national is not None:
                yield judge.not_confirmed(one, facts.handed[record, self.national], message, limit)

    # ------------------------------------------------------------ what the hub never saw
    def _unseen(self, judge: Judge) -> list[Finding]:
        if "seen" not in self.settings.expectations.hops:
            return []
        loaded = store.loaded(self.connection, self.settings.kafka.partitions)
        captured = [name for name in self.settings.with_database() if self.settings.systems[name].capture != "none" and name in loaded]
        mapped = [name for name in captured if "dossier" in self.settings.profile_of(name).entities]
        found, silent = sources.unseen(self.settings, self.connection, mapped)
        self.unasked.update(silent)
        known = store.known_unseen(self.connection)
        fresh = [row for row in found if (row.system, row.key) not in known]
        wait = {name: self.wait_seconds if self.wait_seconds is not None else self.settings.systems[name].lag_limit_seconds for name in mapped}
        left = [row for row in found if (row.system, row.key) in known] + sources.still_unseen(self.settings, self.connection, fresh, wait)
        parked = sources.parked(self.connection, left)
        out = []
        for row in left:
            since = known.get((row.system, row.key)) or (self.at if row.submitted_at is None else from_micros(row.submitted_at))
            limit = self.limits.by("seen", since, {"procedure_code": row.procedure})
            if limit is not None:
                out.append(judge.not_seen(row, parked.get((row.system, row.key)), (since, limit)))
        return out


def sweep(settings: Settings, at: datetime | None = None, *, wait_seconds: float | None = None) -> Swept:
    """Look at everything as of a time (now), and store what is found; `wait_seconds`: how long a row that the hub does not know may be on its way.

    By default that is the lag limit of its system. It ends when the lines have passed the moment of the look; where every row is known, nothing is
    waited for.
    """
    started, at = time.monotonic(), at or datetime.now(UTC)
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong lost")
    try:
        with hub.named():
            one = Sweep(settings, connection, at, wait_seconds)
            count, findings = one.run()
            return _store(connection, one, count, findings, started)
    finally:
        connection.close()


def _store(connection: Connection, one: Sweep, count: int, findings: Sequence[Finding], started: float) -> Swept:
    unasked = sorted(one.unasked)
    with transaction(connection) as cursor:
        store.keep_codes(cursor)
        found = store.replace(cursor, findings, one.at, unasked)
        took = time.monotonic() - started
        store.note(cursor, one.at, took, count, found, unasked)
    return Swept(at=one.at, took_seconds=round(took, 3), dossiers=count, found=found, unasked=unasked)


def by_kind(found: Iterable[Mapping[str, object]]) -> dict[str, int]:
    """How many of each kind."""
    counts: dict[str, int] = {}
    for one in found:
        counts[str(one["kind"])] = counts.get(str(one["kind"]), 0) + 1
    return dict(sorted(counts.items()))
