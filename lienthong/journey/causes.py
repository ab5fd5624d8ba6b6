"""What has not happened as a finding: which dossier, who should have it, the last that is proven to have it, and why probably not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lienthong.advice import advice
from lienthong.authority import Authority
from lienthong.journey.handover import Cause, Handover, Round, why
from lienthong.journey.sources import Unseen
from lienthong.journey.standing import HUB
from lienthong.journey.suspects import Dossier, Message
from lienthong.settings import Settings

Span = tuple[datetime, datetime]
"""Since when, and until when it should have happened."""

_MESSAGES = {
    "pending": "{kind} is queued and was not sent",
    "sent": "{kind} was sent and not answered",
    "unknown": "{kind} was sent and no answer says what became of it",
    "refused": "the portal has refused {kind}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One dossier that has not made one hop in time."""

    kind: str
    system: str
    record: int | None
    local_key: str | None
    local_code: str | None
    procedure_code: str | None
    agency: str | None
    unit: str | None
    since: datetime
    limit_at: datetime
    holder: str
    cause: Cause


class Judge:
    """Makes findings; asks nobody."""

    def __init__(self, settings: Settings, authority: Authority, around: Round, unasked: Collection[str]) -> None:
        self.settings, self.authority, self.around, self.unasked = settings, authority, around, unasked

    def not_received(self, one: Dossier, handed: Handover | None, span: Span) -> Finding:
        """Submitted, and nobody has taken it in."""
        if handed is None:
            agency = one.values.get("receiving_agency_code") or one.values.get("processing_agency_code")
            reason = f"no system acts for its agency ({agency or 'none given'}) or unit ({one.values.get('processing_unit') or 'none'})"
            cause = Cause("contract", reason, "add the code to agencies or units of a system in systems.yaml, or correct it at its source")
            return self._finding("not_received", HUB, one, HUB, cause, span)
        if not handed.holds:
            return self._finding("not_received", handed.system, one, HUB, self._why(handed, one.values), span)
        said = self.around.line(handed.system, "capture") or self.around.line(handed.system, "merge")
        nobody = Cause("nobody", f"{handed.system} has it and nobody there has received it", f"ask {handed.system}: the law gives one working day")
        return self._finding("not_received", handed.system, one, handed.system, said or nobody, span)

    def not_acknowledged(self, one: Dossier, handed: Handover, span: Span) -> Finding:
        """Handed over, and not there."""
        return self._finding("not_acknowledged", handed.system, one, HUB, self._why(handed, one.values), span)

    def not_shown(self, one: Dossier, handed: Handover, span: Span) -> Finding:
        """Finished, and a portal of ours does not show it."""
        return self._finding("not_shown", handed.system, one, HUB, self._why(handed, one.values), span)

    def not_told(self, one: Dossier, handed: Handover, message: Message | None, span: Span) -> Finding:
        """Finished, and the national portal has never acknowledged the dossier."""
        cause = why(handed, one.values, self.around) if handed.sent is None or handed.waits else self._ledger(handed.system, message)
        return self._finding("not_shown", handed.system, one, HUB, cause, span)

    def not_confirmed(self, one: Dossier, handed: Handover, message: Message | None, span: Span) -> Finding:
        """Told to the national portal, and not confirmed; of a finished dossier its result is not shown."""
        kind = "not_shown" if one.values.get("status") in (9, 10) else "not_confirmed"
        return self._finding(kind, handed.system, one, HUB, self._ledger(handed.system, message), span)

    def not_seen(self, row: Unseen, parked: tuple[str, str | None] | None, span: Span) -> Finding:
        """A system holds it, and the hub never saw it."""
        party = self.settings.systems[row.system]
        return Finding(
            kind="not_seen", system=row.system, record=None, local_key=row.key, local_code=row.key, procedure_code=row.procedure,
            agency=next(iter(party.agencies), None), unit=next(iter(party.units), None), since=span[0], limit_at=span[1], holder=row.system,
            cause=self._not_told_of(row, parked),
        )  # fmt: skip

    def _not_told_of(self, row: Unseen, parked: tuple[str, str | None] | None) -> Cause:
        if parked is not None:
            reason, field = parked
            return Cause("parked", f"the hub has parked it: {field or 'the record'} {reason}", advice(reason, row.system))
        said = self.around.line(row.system, "capture") or self.around.line(row.system, "merge")
        return said or Cause(
            "unknown", f"the line of {row.system} moves and never brought it: its change was not noted there",
            f"lienthong check, then lienthong load {row.system} --entity dossier --key KEY",
        )  # fmt: skip

    # ------------------------------------------------------------ why
    def _why(self, handed: Handover, values: Mapping[str, Any]) -> Cause:
        found = why(handed, values, self.around)
        if handed.system in self.unasked and found.kind == "unknown":
            return Cause("silent", f"{handed.system} cannot be asked, and nothing shows that it has it", "lienthong status; it is asked again")
        return found

    def _ledger(self, system: str, message: Message | None) -> Cause:
        """Why the national portal has not confirmed."""
        said = self.around.line(system, "deliver")
        if message is None:
            waiting = Cause(
                "unanswered", "it was handed over and is not in the ledger", f"lienthong status: does `lienthong run deliver` keep up with {system}?"
            )
            return said or waiting
        reason = _MESSAGES[message.state].format(kind=message.kind) + (f": {message.reason}" if message.reason else "")
        if message.state == "refused":
            return Cause("refused", reason, "lienthong national outbox --state refused")
        if said is not None:
            return Cause("line", f"{reason}; {said.reason}", said.advice)
        return Cause("unanswered", reason, "lienthong national status; lienthong national outbox")

    def _finding(self, kind: str, system: str, one: Dossier, holder: str, cause: Cause, span: Span) -> Finding:
        values = one.values
        return Finding(
            kind=kind, system=system, record=one.record, local_key=None, local_code=values["code"], procedure_code=values["procedure_code"],
            agency=values["processing_agency_code"] or values["receiving_agency_code"], unit=values["processing_unit"], since=span[0],
            limit_at=span[1], holder=holder, cause=cause,
        )  # fmt: skip
