"""Look-ups of people: as few as possible, each written down before it is made, its answer told to the city as the population database's word.

Verify is preferred; equal questions are asked once, by whichever process comes first; answers and negatives are remembered for a stated time; and
what is asked stays under the contract rate of all processes (`lienthong.gate`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from connectors.http import Busy, NotSent, Refused, UnknownOutcome
from connectors.kafka import Producer
from connectors.postgres import connect, one, rows, transaction
from lienthong import frames, tracing
from lienthong.errors import ConfigError, LienThongError, TransientError
from lienthong.gate import Gate
from lienthong.national import access
from lienthong.national.access import Caller, Memory
from lienthong.national.answers import Asked, Values
from lienthong.national.population import FAMILY, LOOK_UP, PAGE, VERIFY, Call, Population
from lienthong.output import Output
from lienthong.readers import to_micros
from lienthong.settings import Settings
from lienthong.vault import Vault

ENTITY = "citizen"
TRIES = 3
LOOK_AGAIN_SECONDS = 0.05

T = TypeVar("T")
Relatives = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Known:
    """What the population database said: whether there is such a person; `values` of a look-up, unless it was remembered."""

    is_known: bool
    is_remembered: bool
    values: Values | None = None


class LookUp:
    """Verifies and looks up people for one process; one thread at a time."""

    def __init__(self, settings: Settings, vault: Vault, *, stop: Callable[[], bool] = lambda: False, gate: Gate | None = None) -> None:
        if settings.national is None or settings.national.population is None:
            raise ConfigError("no population database is configured: national.yaml has no section `population`")
        vault.pseudonym("", "")  # without a key nothing may be asked
        self._configured = settings.national.population
        self._settings, self._vault, self._stop = settings, vault, stop
        self._service = Population(self._configured)
        self._gate = gate or Gate(
            settings.hub.dsn,
            f"population {self._configured.system}",
            self._configured.rate_per_second,
            rest_seconds=self._configured.rest_seconds,
        )
        self._hub = connect(settings.hub.dsn, application_name="lienthong look-up")
        self._memory = Memory(
            self._hub,
            known_days=self._configured.remember_days,
            missing_days=self._configured.remember_missing_days,
            lease_seconds=TRIES * (self._configured.deadline_seconds + 5),
        )
        self._producer: Producer | None = None

    # ------------------------------------------------------------ what may be asked
    def verify(self, asked: Asked, caller: Caller) -> Known:
        """Whether there is a person of this number, name and birth date. A remembered look-up answers it too."""
        return self._known(VERIFY, asked, caller, lambda call: (self._service.verify(asked, call), None), _nothing)

    def look_up(self, asked: Asked, caller: Caller) -> Known:
        """The person's record: it becomes the population database's word in the city. A remembered negative answers it too."""
        drawn = (0, 0)

        def ask(call: Call) -> tuple[bool, Values | None]:
            nonlocal drawn
            drawn = self._draw()
            values = self._service.look_up(asked, call)
            return values is not None, values

        return self._known(LOOK_UP, asked, caller, ask, lambda values: self._publish([values], *drawn))

    def family(self, asked: Asked, caller: Caller) -> Relatives | None:
        """The person's relatives, for this one use; None when there is no such person."""
        return self._call(FAMILY, self.subject(asked.number), caller, lambda call: self._service.family(asked, call))

    def refresh(self, since: datetime, until: datetime, caller: Caller) -> int:
        """Bring what changed in a period, of the people the city holds; nobody else's data is kept. Returns how many."""
        page, brought, period = 0, 0, f"period {since.astimezone(UTC):%Y-%m-%dT%H:%M:%S} {until.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
        while True:
            page, drawn = page + 1, self._draw()
            found = self._call(LOOK_UP, period, caller, lambda call, page=page: self._service.changed(since, until, page, call))  # type: ignore[misc]
            held = self._held(found)
            with transaction(self._hub) as cursor:
                for values in held:
                    access.note(cursor, LOOK_UP, self.subject(values["personal_number"]), caller, str(uuid4()), "found")
            self._publish(held, *drawn)
            brought += len(held)
            if len(found) < PAGE:
                return brought

    def subject(self, number: str) -> str:
        """The name under which a person stands in the ledger, and the local key of the population database's word."""
        return access.subject_of(self._vault, self._configured.system, number)

    def close(self) -> None:
        """Drop all connections."""
        self._service.close()
        self._gate.close()
        self._hub.close()
        if self._producer is not None:
            self._producer.close()

    # ------------------------------------------------------------ equal questions
    def _known(
        self, operation: str, asked: Asked, caller: Caller, ask: Callable[[Call], tuple[bool, Values | None]], tell: Callable[[Values], None]
    ) -> Known:
        """What is remembered, or what `ask` answers; `tell` brings a record to the city, and only then it is remembered."""
        question, subject, mine = self._question(asked), self.subject(asked.number), str(uuid4())
        is_mine = False
        try:
            while (remembered := self._memory.recall(question, needs_record=operation == LOOK_UP)) is None:
                if is_mine:  # and nobody has answered it just before it became ours
                    is_known, values = self._call(operation, subject, caller, ask)
                    if values is not None:
                        tell(values)
                    self._memory.keep(question, is_known, has_record=values is not None)
                    return Known(is_known, is_remembered=False, values=values)
                is_mine = self._memory.take(question, mine) or self._wait()
        finally:
            if is_mine:
                self._memory.let_go(question, mine)
        with transaction(self._hub) as cursor:
            access.note(cursor, operation, subject, caller, mine, "remembered")
        return Known(remembered, is_remembered=True)

    def _wait(self) -> bool:
        """Look again a little later; always False."""
        if self._stop():
            raise TransientError("stopped while another process asks the same")
        time.sleep(LOOK_AGAIN_SECONDS)
        return False

    def _question(self, asked: Asked) -> str:
        said = f"{asked.number}|{' '.join(asked.name.casefold().split())}|{asked.birth}"
        return self._vault.pseudonym(f"question {self._configured.system}", said)

    # ------------------------------------------------------------ one call
    def _call(self, operation: str, subject: str, caller: Caller, ask: Callable[[Call], T]) -> T:
        """Make a call: at its turn, written down before it leaves, tried again only where it provably was not processed."""
        again = Retrying(
            retry=retry_if_exception_type((NotSent, Busy)),
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(multiplier=0.2, max=2),
            reraise=True,
        )
        found: T = again(self._once, operation, subject, caller, ask)
        return found

    def _once(self, operation: str, subject: str, caller: Caller, ask: Callable[[Call], T]) -> T:
        self._gate.enter(self._stop)
        call = Call(str(uuid4()), caller.officer)
        with transaction(self._hub) as cursor:
            number = access.note(cursor, operation, subject, caller, call.request_id)
        try:
            found = ask(call)
        except Exception as error:
            self._tell_gate(error)
            with transaction(self._hub) as cursor:
                access.complete(cursor, number, *_outcome_of(error))
            raise
        self._gate.succeeded()
        with transaction(self._hub) as cursor:
            access.complete(cursor, number, _found_word(found))
        return found

    def _tell_gate(self, error: Exception) -> None:
        """A refusal is an answer; whatever else went wrong counts against the service."""
        if isinstance(error, Refused):
            self._gate.succeeded()
            return
        self._gate.failed()
        if isinstance(error, Busy) and error.retry_after:
            self._gate.hold(error.retry_after)

    # ------------------------------------------------------------ the word of the population database
    def _draw(self) -> tuple[int, int]:
        """Number and epoch of a reading, drawn before the call: what is answered is at least as new. Never used twice, also after a restore."""
        with transaction(self._hub) as cursor:
            cursor.execute("INSERT INTO hub.capture_state (system) VALUES (%s) ON CONFLICT DO NOTHING", [self._configured.system])
            found = one(
                cursor,
                """UPDATE hub.capture_state SET drawn = greatest(drawn + 1, %(now)s), finished = greatest(drawn + 1, %(now)s)
                   WHERE system = %(system)s RETURNING drawn, epoch""",
                {"now": int(time.time() * 1000), "system": self._configured.system},
            )
        assert found is not None
        return int(found[0]), int(found[1])

    def _held(self, found: Sequence[Values]) -> list[Values]:
        """Those of some people whose record the city has."""
        claims = {f"{ENTITY}:{values['personal_number']}": values for values in found}
        with transaction(self._hub) as cursor:
            known = rows(cursor, "SELECT claim FROM hub.identifier WHERE claim = ANY(%s)", [list(claims)])
        return [claims[claim] for (claim,) in known]

    def _publish(self, people: Sequence[Values], version: int, epoch: int) -> None:
        """Send contributions; they are acknowledged before anybody is told of the answer."""
        if not people:
            return
        at = tracing.unfollowed(to_micros(datetime.now(UTC)))
        output = Output(self._settings.kafka.partitions, self._configured.system, epoch, version, at)
        for values in people:
            key = self.subject(values["personal_number"])
            output.add(ENTITY, key, *packed(key, values))
        if self._producer is None:
            self._producer = Producer(self._settings.kafka.brokers, client_id="lienthong-look-up")
        for partition, frame in output.close():
            self._producer.send(frames.TOPIC, frame, partition=partition)
        self._producer.flush()


def packed(key: str, values: Mapping[str, Any]) -> tuple[int, bytes]:
    """Mask and contribution of one person: it speaks of what the answer said, and of nothing else."""
    mask = frames.mask_of(ENTITY, values)
    bits = {name: frames.mask_of(ENTITY, [name]) for name in values}
    nulls, body = frames.encode_body(ENTITY, dict(values), bits, mask)
    return mask, frames.pack_entry(frames.STATE, key, parent=None, record=None, delivered=False, edited=None, nulls=nulls, body=body)


def _nothing(_: Values) -> None:
    """There is no record to tell."""


def _found_word(found: object) -> str:
    """What the ledger says of an answer: yes or no of a verification; else found or missing."""
    if isinstance(found, tuple):
        is_known, values = found
        return "found" if values is not None else "yes" if is_known else "no"
    return "missing" if found is None else "found"


def _outcome_of(error: Exception) -> tuple[str, str | None]:
    """Outcome and reason for the ledger."""
    if isinstance(error, Refused):
        return "refused", error.reason
    if isinstance(error, UnknownOutcome):
        return "unknown", error.code
    if isinstance(error, TransientError):
        return "not_sent", error.code
    return "failed", error.code if isinstance(error, LienThongError) else type(error).__name__
