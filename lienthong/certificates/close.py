"""Closing days: once all lines have passed, each day's sums and what every party holds are certified, or the reason why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from connectors.postgres import Connection, connect, one, transaction
from lienthong.certificates import chain
from lienthong.certificates.chain import Issued
from lienthong.certificates.form import Counts, Reason, Signed, Statement
from lienthong.certificates.keys import Signer
from lienthong.certificates.standing import NOT_COMPARED, Standing, compare, pass_fence
from lienthong.days import yesterday
from lienthong.errors import ConfigError
from lienthong.settings import Settings


@dataclass(slots=True)
class Closed:
    """What closing has brought: new certificates in order, those that stand as they were, and systems that could not be looked at."""

    issued: list[Signed] = field(default_factory=list)
    standing: list[Signed] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class Closing:
    """Closes days of some systems; use as a context. Days are those of Asia/Ho_Chi_Minh."""

    def __init__(
        self,
        settings: Settings,
        signer: Signer,
        *,
        wait_seconds: float,
        told: Callable[[str], None] = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings, self.signer, self.wait_seconds, self.told, self.clock = settings, signer, wait_seconds, told, clock
        self.yesterday = yesterday(clock())
        self.hub: Connection = connect(settings.hub.dsn, application_name="lienthong certificate")

    def __enter__(self) -> Closing:
        return self

    def __exit__(self, *_: object) -> None:
        self.hub.close()

    def run(self, systems: Sequence[str], day: date | None = None) -> Closed:
        """Close one day, or every day that is not closed; raises `ConfigError` for a day that is not over."""
        if day is not None and day > self.yesterday:
            raise ConfigError(f"{day} is not over yet in Asia/Ho_Chi_Minh; the last day that can be closed is {self.yesterday}")
        closed = Closed()
        for system in systems:
            self.told(system)
            closed.issued += self._reopen(system, day)
            days = [day] if day is not None else self._due(system)
            if days:
                self._close(system, days, closed)
        return closed

    # ------------------------------------------------------------ which days
    def _reopen(self, system: str, day: date | None) -> list[Signed]:
        """A closed day of which more has come is open again, and says so, before anything else is done about it."""
        with transaction(self.hub) as cursor:
            came = chain.late(cursor, systems=[system], first=day, last=day)
            issues = chain.last_issues(cursor, systems=[system], first=day, last=day) if came else {}
            counted = chain.counted(cursor, system, day, day or self.yesterday) if came else {}
        statements = []
        for place, entries in sorted(came.items()):
            _, entity, of = place
            if issues[place].state == "closed":
                counts, reading = counted[entity, of]
                reason = Reason("late_arrivals", entries)
                statements.append(Statement(system=system, entity=entity, day=of, reading=reading, counts=counts, target=None, reasons=(reason,)))
        return chain.add(self.hub, self.signer, statements, self.clock())

    def _due(self, system: str) -> list[date]:
        """Yesterday, days of which something was counted or that passed since the last closing, unless they are closed."""
        with transaction(self.hub) as cursor:
            issues = chain.last_issues(cursor, systems=[system], last=self.yesterday)
            counted = chain.counted(cursor, system, None, self.yesterday)
        wanted = {(entity, self.yesterday) for entity in self._entities(system)} | counted.keys()
        newest = max((of for _, _, of in issues), default=self.yesterday)
        for back in range((self.yesterday - newest).days):
            wanted |= {(entity, self.yesterday - timedelta(days=back)) for entity in self._entities(system)}
        wanted |= {(entity, of) for (_, entity, of), issued in issues.items() if issued.state == "open"}
        return sorted({of for entity, of in wanted if not self._is_closed(issues.get((system, entity, of)))})

    def _entities(self, system: str) -> list[str]:
        return list(self.settings.profile_of(system).entities)

    @staticmethod
    def _is_closed(issued: Issued | None) -> bool:
        return issued is not None and issued.state == "closed"

    # ------------------------------------------------------------ closing
    def _close(self, system: str, days: Sequence[date], closed: Closed) -> None:
        failure = pass_fence(self.settings, system, self.hub, wait_seconds=self.wait_seconds, told=self.told)
        with transaction(self.hub) as cursor:  # what comes after this is late
            counted = chain.counted(cursor, system, days[0], days[-1])
            issues = chain.last_issues(cursor, systems=[system], first=days[0], last=days[-1])
            finished = one(cursor, "SELECT finished FROM hub.capture_state WHERE system = %s", [system])
            unreadable = one(cursor, "SELECT count(*) FROM hub.parked WHERE state = 'open' AND kind = 'damaged'")
        standings: dict[str, Standing] = {}
        if failure is None:
            standings, failure = compare(self.settings, system, wait_seconds=self.wait_seconds)
        if failure is not None:
            closed.failed[system] = failure
        every = [Reason("unreadable_frames", unreadable[0])] if unreadable and unreadable[0] else []
        statements = []
        for day in days:
            for entity in sorted({*self._entities(system), *(e for e, of in counted if of == day)}):
                standing = standings.get(entity) or self._only_counted(system, entity, failed=failure is not None)
                counts, reading = counted.get((entity, day), (Counts(), 0))
                reasons = sorted([*every, *standing.reasons, *([] if counts.is_exact else [Reason("counts_differ")])])
                statement = Statement(
                    system=system, entity=entity, day=day, reading=max(reading, finished[0] if finished else 0),
                    counts=counts, target=standing.target, reasons=tuple(reasons),
                )  # fmt: skip
                before = issues.get((system, entity, day))
                if before is not None and _says_the_same(before, statement):
                    closed.standing.append(before.signed)
                else:
                    statements.append(statement)
        closed.issued += chain.add(self.hub, self.signer, statements, self.clock())

    def _only_counted(self, system: str, entity: str, *, failed: bool) -> Standing:
        """An entity that was not compared: nothing answered, or the profile has no rows of it (steps made from row images)."""
        if failed or entity in self._entities(system):
            return Standing(reasons=[Reason(NOT_COMPARED)])
        return Standing()


def _says_the_same(before: Issued, statement: Statement) -> bool:
    """Whether a new issue would tell nothing new: a closed day stays as it was closed, an open one is open for the same reasons."""
    if before.captured != statement.counts.captured:
        return False
    if before.state == "closed":
        return True
    reasons = [(reason["code"], reason["records"]) for reason in before.signed.document()["reasons"]]
    return reasons == [(reason.code, reason.records) for reason in statement.reasons]
