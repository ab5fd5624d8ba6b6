"""The role `deliver`: from the out-topic of the national portal into the ledger, and from the ledger to the portal.

One thread fills the ledger, one claims and settles; up to `parallel` others wait for the portal, each for one message of a dossier of its
own. `sent` is committed before a request leaves. What became of it is stored when it is known; a timeout is no answer, and is read back.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime

from connectors.http import Busy, Refused, UnknownOutcome
from connectors.postgres import Connection, connect, one, transaction
from lienthong import hub, tracing
from lienthong.errors import ConfigError, FatalError, LienThongError, TransientError
from lienthong.gate import GateClosed
from lienthong.national.intake import Intake
from lienthong.national.ledger import CONFIRMED, PENDING, PROGRESS, REFUSED, UNKNOWN, Ledger, Outcome, Task
from lienthong.national.papers import Papers
from lienthong.national.portal import AlreadyThere, Ministry, PortalClient, client_of, gate_of, portal_of
from lienthong.national.portal_messages import Unsendable, form_of, says, step_key
from lienthong.national.topic import TopicReader
from lienthong.settings import Settings
from lienthong.vault import Vault

logger = logging.getLogger(__name__)

STAGE = "deliver"
WAIT_SECONDS = 0.02
GATHER_SECONDS = 0.01  # what comes back within it is stored in one transaction
RETRY_SECONDS = (0.5, 1, 2, 5, 10, 30, 60)
NOT_LEFT_SECONDS = 5.0  # at most, for what did not leave or met a busy portal: the gate holds back who asks too often
STOPPED_RETRY_SECONDS = 5.0
BEAT_SECONDS = 1.0
LEASE_SECONDS = 10.0

# A step whose dossier was refused waits for the next state of the dossier: the line is not late by it, the refused one is what is shown.
_OLDEST = """
SELECT (extract(epoch FROM m.queued_at) * 1000000)::bigint FROM hub.delivery m LEFT JOIN hub.delivery_dossier d USING (system, dossier)
WHERE m.system = %s AND m.state IN ('pending', 'sent', 'unknown') AND (d.is_there IS NOT FALSE OR m.kind <> 'progress') ORDER BY m.id LIMIT 1
"""


class Courier:
    """Sends single messages and says what became of each; used by many threads at once."""

    def __init__(
        self, client: PortalClient, *, code_is_issued: bool, settle_seconds: float, rest_seconds: float, papers: Papers | None = None
    ) -> None:
        self._client, self._code_is_issued, self._papers = client, code_is_issued, papers
        self._settle, self._rest = settle_seconds, rest_seconds

    def carry(self, task: Task, until: float) -> Outcome:
        """Do what is next for a message, if it can be done before the claim ends (`until`, monotonic seconds).

        A request that did not leave, or was not taken because the portal is busy, leaves its message as it was.
        """
        before = UNKNOWN if task.in_doubt else PENDING
        try:
            if time.monotonic() > until:
                raise TransientError("its turn came too late")
            with self._client.within(until):
                return self._read_back(task) if task.in_doubt else self._send(task)
        except Refused as error:
            return Outcome(task=task, state=UNKNOWN if task.in_doubt else REFUSED, reason=str(error), wait_seconds=_backoff(task), is_answer=True)
        except Unsendable as error:
            return Outcome(task=task, state=REFUSED, reason=str(error))
        except UnknownOutcome as error:
            return Outcome(task=task, state=UNKNOWN, reason=str(error), wait_seconds=max(self._settle, _backoff(task)))
        except GateClosed as error:
            seconds = min(_until(error), self._rest)  # while another's request tries, the gate names the latest end of that
            return Outcome(task=task, state=before, reason=str(error), wait_seconds=seconds, rest_seconds=seconds)
        except Busy as error:
            return Outcome(task=task, state=before, reason=str(error), wait_seconds=max(error.retry_after or 0.0, _backoff(task, NOT_LEFT_SECONDS)))
        except TransientError as error:
            return Outcome(task=task, state=before, reason=str(error), wait_seconds=_backoff(task, NOT_LEFT_SECONDS))

    def _send(self, task: Task) -> Outcome:
        if self._code_is_issued and task.code is None:
            return self._issue(task)
        if self._papers is not None and task.kind != PROGRESS and (body := self._papers.put(task.body)) is not None:
            return Outcome(task=task, state=PENDING, body=body)
        try:
            self._client.send(task.kind, {"MaHoSo": task.code, **task.body})
        except AlreadyThere as error:
            return Outcome(task=task, state=PENDING, reason=f"{error.reason}: it is there already, so it is sent as an update", is_there=True)
        return Outcome(task=task, state=CONFIRMED, is_there=None if task.kind == PROGRESS else True, is_answer=True)

    def _issue(self, task: Task) -> Outcome:
        """A code is stored before it is used. When its answer is lost so is the code, and nothing else."""
        try:
            code = self._client.next_code(task.request_id)
        except UnknownOutcome as error:
            raise TransientError(f"no code was issued: {error}") from None
        return Outcome(task=task, state=PENDING, code=code)

    def _read_back(self, task: Task) -> Outcome:
        """Nobody knows whether the message was taken: what the portal holds decides whether it is sent again."""
        seen = None if task.code is None else self._client.look_up(task.code)
        if seen is None:  # a step goes out again all the same: that the portal has lost its dossier is to be seen as its refusal
            is_there = None if task.kind == PROGRESS else False
            return Outcome(task=task, state=PENDING, reason="read back: the portal does not hold the dossier", is_there=is_there)
        if task.kind == PROGRESS:
            is_taken = seen.steps[step_key(task.body)] > task.like_it
        else:
            is_taken = says(seen.fields, task.body)
        found = "it was taken" if is_taken else "it was not taken, so it is sent again"
        return Outcome(task=task, state=CONFIRMED if is_taken else PENDING, reason=f"read back: {found}", is_there=True, is_answer=is_taken)


def _backoff(task: Task, longest: float = RETRY_SECONDS[-1]) -> float:
    """Longer with every try, and not the same for all."""
    seconds = min(RETRY_SECONDS[min(task.attempts, len(RETRY_SECONDS) - 1)], longest)
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, no secret


def _until(error: GateClosed) -> float:
    seconds = 1.0 if error.until is None else (error.until - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.1)


class Deliverer:
    """One process of the role."""

    def __init__(self, settings: Settings, vault: Vault, stop: Callable[[], bool]) -> None:
        portal = portal_of(settings)
        self.system, self.portal = portal.system, portal
        self.hub: Connection = connect(settings.hub.dsn, application_name="lienthong deliver")
        with transaction(self.hub) as cursor:
            cursor.execute(hub.KEYED)
        form = form_of(portal.variant, portal.applicant_kinds)
        self.ledger = Ledger(portal.system, vault)
        self.gate = gate_of(settings.hub.dsn, portal)
        self.client = client_of(portal, self.gate, stop)
        self.papers = Papers(settings.hub.dsn, portal, self.client) if isinstance(self.client, Ministry) else None
        self.courier = Courier(
            self.client,
            code_is_issued=form.code_is_issued,
            settle_seconds=portal.deadline_seconds,
            rest_seconds=portal.rest_seconds,
            papers=self.papers,
        )
        self._lease = LEASE_SECONDS + 3 * portal.deadline_seconds + 4 * portal.parallel / portal.rate_per_second
        self._pool = ThreadPoolExecutor(portal.parallel, thread_name_prefix="deliver")
        self._flying: dict[Future[Outcome], Task] = {}
        self._ended: list[Outcome] = []  # what has come back and is not stored yet
        self._resting_until, self._beat_at = 0.0, 0.0
        self.state, self.reason = "running", ""
        self.topic = TopicReader(settings, portal.system, Intake(self.ledger, form))
        self.topic.start()

    # ------------------------------------------------------------ one turn
    def step(self) -> int:
        """Settle what has come back and send what is due; returns how many messages were settled."""
        self.topic.check()
        settled = self._turn()
        self._beat()
        if settled:
            time.sleep(GATHER_SECONDS)
        else:
            self._rest()
        return settled

    def _turn(self) -> int:
        for future in [future for future in self._flying if future.done()]:
            self._ended.append(self._result(future))
            del self._flying[future]
        free = self.portal.parallel - len(self._flying)
        tasks: list[Task] = []
        settled: list[Outcome] = []
        until = time.monotonic() + self._lease - 2 * self.portal.deadline_seconds
        if self._ended or (free and time.monotonic() >= self._resting_until):
            with transaction(self.hub) as cursor:
                settled = self.ledger.at_hand(cursor, self._ended)
                self.ledger.settle(cursor, settled)
                if free and time.monotonic() >= self._resting_until:
                    tasks = self.ledger.claim(cursor, free, self._lease)
        tracing.delivered(self.system, settled)
        stored = {outcome.task.id for outcome in settled}
        self._ended = [outcome for outcome in self._ended if outcome.task.id not in stored]
        self._flying |= {self._pool.submit(self._carry, task, until): task for task in tasks}
        return len(settled)

    def _carry(self, task: Task, until: float) -> Outcome:
        """What stops the line is told as the message's outcome: the request did not leave, or its answer was about us and not about it."""
        try:
            return self.courier.carry(task, until)
        except (FatalError, ConfigError) as error:
            self._stopped(error)
            state = UNKNOWN if task.in_doubt else PENDING
            return Outcome(task=task, state=state, reason=str(error), wait_seconds=STOPPED_RETRY_SECONDS)

    def _result(self, future: Future[Outcome]) -> Outcome:
        outcome = future.result()
        if outcome.rest_seconds:
            self._resting_until = time.monotonic() + outcome.rest_seconds
        if outcome.is_answer and self.state == "stopped":
            self.state, self.reason = "running", ""
        if outcome.state == REFUSED:
            words = "the portal refuses a message: `lienthong national outbox --state refused` shows it"
            logger.warning(
                words, extra={"action": "deliver_refused", "system": self.system, "message_id": outcome.task.id, "kind": outcome.task.kind}
            )
        return outcome

    def _stopped(self, error: LienThongError) -> None:
        if self.reason != str(error):
            logger.error(str(error), extra={"action": "deliver_stopped", "system": self.system, "code": error.code})
        self.state, self.reason = "stopped", str(error)
        self._resting_until = time.monotonic() + STOPPED_RETRY_SECONDS

    def _rest(self) -> None:
        if self._flying:
            wait(self._flying, timeout=WAIT_SECONDS, return_when=FIRST_COMPLETED)
        else:
            time.sleep(WAIT_SECONDS)

    def _beat(self) -> None:
        """Everything queued before the oldest message that is not settled has reached the portal."""
        if time.monotonic() - self._beat_at < BEAT_SECONDS:
            return
        self._beat_at = time.monotonic()
        now = int(time.time() * 1_000_000)
        self.gate.state()  # a gate without a hub lets nothing through: the role begins anew
        if self.papers is not None:
            self.papers.check()
        with transaction(self.hub) as cursor:
            oldest = (one(cursor, _OLDEST, [self.system]) or (None,))[0]
            through = oldest if oldest is not None else now if self.topic.is_drained else 0
            state = "stopped" if self.topic.lost else self.state
            hub.beat(cursor, self.system, STAGE, 0, through, state, self.topic.lost or self.reason or None)

    def close(self) -> None:
        """Wait for what is under way, at most its deadline, and store what became of it; what has not begun stays as it was."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        wait(self._flying, timeout=self.portal.deadline_seconds)
        ended = [future.result() for future in self._flying if future.done() and not future.cancelled()]
        unsent = [Outcome(task=task, state=UNKNOWN if task.in_doubt else PENDING) for future, task in self._flying.items() if future.cancelled()]
        try:
            with transaction(self.hub) as cursor:
                self.ledger.settle(cursor, [*self._ended, *ended, *unsent])
        except TransientError as error:  # they are read back when their claims have ended
            logger.warning(str(error), extra={"action": "deliver_close", "system": self.system})
        self.client.close()
        if self.papers is not None:
            self.papers.close()
        self.gate.close()
        self.topic.close()
        self.hub.close()


def run(settings: Settings, vault: Vault, stop: Callable[[], bool]) -> None:
    """Deliver until told to stop."""
    line = Deliverer(settings, vault, stop)
    try:
        while not stop():
            line.step()
    finally:
        line.close()
