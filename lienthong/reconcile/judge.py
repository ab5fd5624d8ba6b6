"""Whether one record is as it should be on each hop, and if not, what differs. Pure: values in, findings out.

capture: what the system's row says against what the hub has as the system's word. merge: the golden record against the fold of all
words. delivery: what the party is entitled to against what its row holds, in the fields that the contract gives and the layout can hold.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import schemas
from lienthong.authority import Authority, Said, fold
from lienthong.contracts import Terms
from lienthong.digest import record_digest
from lienthong.entitled import Golden, due, held_groups
from lienthong.mapping import Refusal
from lienthong.reconcile.held import Applied, Held
from lienthong.reconcile.hubside import Proof, Word

CAPTURE, MERGE, DELIVERY = "capture", "merge", "delivery"
MISSING, EXTRA, STALE, DIFFERENT = "missing", "extra", "stale", "different"
PARENT = "parent"
KEPT = "kept"  # explained so: the city keeps a record that its restored source has forgotten


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference of one record on one hop; `fields` is empty where all of the record is concerned."""

    hop: str
    kind: str
    fields: tuple[str, ...] = ()


@dataclass(slots=True)
class Case:
    """Everything known about one record in one system."""

    entity: str
    key: str | None
    held: Held | None
    applied: Applied | None
    word: Word | None
    golden: Golden | None
    parent: Golden | None
    parent_key: str | None
    said: Sequence[Said] = ()
    sent: tuple[str, int, bytes | None] | None = None
    proof: Proof | None = None
    is_refused: bool = False  # its row is parked as refused
    is_kept: bool = False  # its system has forgotten it, and a person decided to keep it
    golden_digest: int | None = None

    @property
    def row(self) -> Held | None:
        """The row, unless it is marked as deleted."""
        return None if self.held is None or self.held.gone else self.held


@dataclass(slots=True)
class Verdict:
    """What came out: findings, a reason where a difference is known and waits for somebody, and the digests of both sides."""

    findings: list[Finding] = field(default_factory=list)
    explained: str | None = None
    due: int | None = None
    held: int | None = None

    @property
    def is_equal(self) -> bool:
        """Whether there is nothing to report."""
        return not self.findings and self.explained is None


@dataclass(frozen=True, slots=True)
class Entitled:
    """What the party is entitled to: under which terms, and which groups are its own word."""

    terms: Terms
    held: tuple[str, ...]
    golden: Golden

    def values(self, names: Sequence[str]) -> dict[str, Any]:
        """Those of some fields that have a value, as the party may see them."""
        return _some(self.golden.values if not self.terms.masks else self.terms.shape(self.golden.values), names)


@dataclass(frozen=True, slots=True)
class Judge:
    """The rules of one system and entity: what it is captured for, what it is given, which fields it can hold."""

    system: str
    authority: Authority
    is_captured: bool
    terms: Sequence[Terms]
    writable: frozenset[str]  # empty: nothing is written there

    def withheld(self) -> frozenset[str]:
        """The fields that could be written there and that not every contract gives."""
        return frozenset().union(*(self.writable.difference(terms.fields) for terms in self.terms))

    def judge(self, case: Case, parked: Collection[int] = ()) -> Verdict:
        """All hops of one record; `parked` are the records that the target has refused."""
        verdict = Verdict()
        if case.row is None and case.word is not None and case.word.is_past:
            return verdict  # judged under the key that its system has it by now
        if self.is_captured:
            self._capture(case, verdict)
        self._merge(case, verdict)
        if self.writable:
            self._delivery(case, parked, verdict)
        return verdict

    # ------------------------------------------------------------ capture
    def _capture(self, case: Case, verdict: Verdict) -> None:
        row, word = case.row, case.word
        if row is None:
            if case.is_kept:
                verdict.explained = KEPT
            elif word is not None and word.exists and not _is_taken_by_us(case):
                verdict.findings.append(Finding(CAPTURE, EXTRA))
            return
        if isinstance(row.values, Refusal):
            if case.is_refused:
                verdict.explained = "refused"
            else:
                verdict.findings.append(Finding(CAPTURE, MISSING if word is None else STALE, (row.values.field,) if row.values.field else ()))
            return
        if word is None or not word.exists:
            verdict.findings.append(Finding(CAPTURE, MISSING))
            return
        if case.applied is not None and case.applied.state == "kept":
            verdict.explained = "kept at the target"  # what stands there was delivered and then withdrawn: no word of its own
            return
        names = self._unknown(case, row, row.values, word)
        if row.parent != word.parent:
            names.append(PARENT)
        if names:
            verdict.findings.append(Finding(CAPTURE, STALE if _row_moved(case) else DIFFERENT, tuple(names)))

    def _unknown(self, case: Case, row: Held, values: Mapping[str, Any], word: Word) -> list[str]:
        """The fields whose value the hub does not know; of a row that we write to, only those that are not as we wrote them."""
        if row.edited is None:
            return [] if values == word.values else [name for name in values if word.values.get(name, _NOTHING) != values[name]]
        names = [name for name in sorted(row.edited) if name in values and word.values.get(name) != values[name]]
        silent = [name for name in names if name not in word.values]
        if silent:
            # A delivered value in a group that has become the system's own has no base any more, and is still no edit.
            delivered = self._entitled(case)
            given = [
                case.golden.values if case.golden is not None else {},
                delivered.terms.shape(delivered.golden.values) if delivered is not None else {},
            ]
            names = [n for n in names if n in word.values or all(values[n] != one.get(n, _NOTHING) for one in given)]
        return names

    # ------------------------------------------------------------ merge
    def _merge(self, case: Case, verdict: Verdict) -> None:
        golden = case.golden
        if golden is None or golden.merged_into is not None or not case.said:
            return
        if len(case.said) == 1 and case.said[0].exists and golden.sole and not golden.deleted and golden.values == case.said[0].values:
            return
        folded = fold(self.authority, case.entity, case.said, case.parent.values if case.parent is not None else None)
        names = [n for n in folded.values.keys() | golden.values.keys() if folded.values.get(n, _NOTHING) != golden.values.get(n, _NOTHING)]
        if names or folded.deleted != golden.deleted or (golden.sole is None and folded.who != golden.who):
            verdict.findings.append(Finding(MERGE, DIFFERENT, tuple(sorted(names))))

    # ------------------------------------------------------------ delivery
    def _delivery(self, case: Case, parked: Collection[int], verdict: Verdict) -> None:
        entitled = self._entitled(case)
        row = case.row
        if row is None and verdict.explained == KEPT:
            return  # that it is missing there is decided
        if entitled is None:
            if row is not None and self._is_extra(case):
                verdict.findings.append(Finding(DELIVERY, EXTRA))
                verdict.held = self._digest(case, _some(row.values if isinstance(row.values, dict) else {}, sorted(self.writable)))
            return
        names = self._compared(case, entitled)
        told = entitled.values(names)
        verdict.due = self._digest(case, told)
        if row is None:
            self._absent(case, parked, verdict)
            return
        if isinstance(row.values, Refusal):
            if verdict.explained is None and not self.is_captured:
                verdict.findings.append(Finding(DELIVERY, DIFFERENT, (row.values.field,) if row.values.field else ()))
            return
        holds = _some(row.values, names)
        wrong = [] if holds == told else [name for name in names if holds.get(name) != told.get(name)]
        wrong = self._wrong(case, entitled, wrong, row, row.values)
        if not wrong:
            verdict.held = verdict.due
            return
        verdict.held = self._digest(case, holds)
        covered = {name for finding in verdict.findings if finding.hop == CAPTURE for name in finding.fields}
        if case.golden is not None and case.golden.record in parked:
            verdict.explained = "parked at the target"
        elif left := [name for name in wrong if name not in covered]:
            verdict.findings.append(Finding(DELIVERY, STALE if self._is_behind(case) else DIFFERENT, tuple(left)))

    def _entitled(self, case: Case) -> Entitled | None:
        golden, parent = case.golden, case.parent
        if golden is None or golden.merged_into is not None or golden.is_gone():
            return None
        if golden.parent is not None and (parent is None or parent.is_gone()):
            return None
        values = parent.values if golden.parent is not None and parent is not None else None
        for terms in self.terms:
            if terms.in_scope(golden.values, values):
                held = () if golden.sole not in (None, self.system) else held_groups(golden, self.system)
                return Entitled(terms, tuple(held), golden)
        return None

    def _compared(self, case: Case, entitled: Entitled) -> tuple[str, ...]:
        """The fields that the contract gives, that somebody else owns and that the layout can hold."""
        return _delivered(case.entity, self.writable, entitled.terms.fields, entitled.held)

    def _wrong(self, case: Case, entitled: Entitled, wrong: list[str], row: Held, values: Mapping[str, Any]) -> list[str]:
        """What is wrong of the fields that are other than they should be, and of those that should not be there."""
        if wrong and _is_as_written(case, row, entitled):  # then its own form of a value is right
            wrong = [name for name in wrong if row.edited is None or name in row.edited]
        if not self.is_captured and row.parent is not None and case.parent_key is not None and row.parent != case.parent_key:
            wrong.append(PARENT)
        base = case.applied.base if case.applied is not None else None
        if base:
            withheld = self.writable.difference(entitled.terms.fields)
            wrong += sorted(name for name in withheld if base.get(name) is not None and values.get(name) is not None)
        return wrong

    def _absent(self, case: Case, parked: Collection[int], verdict: Verdict) -> None:
        """The party is entitled to a record that it does not hold."""
        record = case.golden.record if case.golden is not None else 0
        if record in parked:
            verdict.explained = "parked at the target"
        elif case.applied is not None and case.applied.state == "waiting":
            verdict.explained = "waits for its parent"
        elif not any(f.hop == CAPTURE for f in verdict.findings):
            verdict.findings.append(Finding(DELIVERY, MISSING))

    def _is_extra(self, case: Case) -> bool:
        """Whether a row that the party is not entitled to is there by our doing, or by nobody's that we know."""
        if case.applied is not None and case.applied.state == "kept":
            return False  # parked there: a person decides
        if not self.is_captured:
            return True
        return case.applied is not None and (case.applied.inserted or case.applied.state in ("deleted", "withdrawn"))

    def _is_behind(self, case: Case) -> bool:
        """Whether the row is untouched, so that it holds an earlier state of what it should."""
        if case.held is None or case.held.edited:
            return False
        if case.applied is not None and case.sent is not None and case.applied.version[1] < case.sent[1]:
            return True
        return case.proof is not None and case.proof.local == case.held.local and case.proof.golden != case.golden_digest

    def _digest(self, case: Case, values: Mapping[str, Any]) -> int:
        return record_digest(case.entity, case.golden.record if case.golden is not None else case.key or "", values)


_NOTHING = object()


def _some(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Those of some fields that have a value."""
    return {name: value for name in names if (value := values.get(name)) is not None}


@lru_cache(maxsize=4096)
def _delivered(entity: str, writable: frozenset[str], given: tuple[str, ...], held: tuple[str, ...]) -> tuple[str, ...]:
    groups = schemas.groups(entity)
    own = {name for group in held for name in groups[group]}
    return tuple(sorted(writable.intersection(given) - own))


def _is_taken_by_us(case: Case) -> bool:
    return case.applied is not None and case.applied.state in ("withdrawn", "deleted")


def _row_moved(case: Case) -> bool:
    """Whether the row has changed since it was last equal, and what the hub has of it has not: a change that never arrived."""
    proof = case.proof
    if proof is None or case.held is None or case.word is None:
        return False
    is_word_alone = len(case.said) == 1  # then the golden record itself may hold it
    return proof.local != case.held.local and proof.contribution == case.word.digest and not (is_word_alone and proof.golden != case.golden_digest)


def _is_as_written(case: Case, row: Held, entitled: Entitled) -> bool:
    """Whether what we sent last is what it is entitled to, and the row is as it stood after that."""
    applied, sent, golden = case.applied, case.sent, case.golden
    if applied is None or sent is None or golden is None or row.edited is None or applied.state != "applied":
        return False
    return sent[0] == "s" and applied.version[1] == sent[1] and sent[2] == due(golden, entitled.terms, entitled.held).digest
