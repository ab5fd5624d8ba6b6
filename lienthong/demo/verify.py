"""The demo's own judgement: reads every system with plain SQL and lists each place where the wrong thing stands.

It knows nothing of the hub, of topics, or of the service's tables, so it cannot repeat their mistakes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lienthong.demo.holdings import Fields, Holdings, read
from lienthong.demo.truth import (
    CHILD_KEYS,
    CHILD_TARGETS,
    DOSSIER_GROUPS,
    GROUPS,
    JUSTICE,
    ONE_STOP,
    PORTAL,
    Root,
    Truth,
    truth_of,
)
from lienthong.simulate.city import Write

EXAMPLES_MAX = 5
PROCEDURE_TARGETS = (ONE_STOP, "ward-tan-dinh", "ward-sai-gon")
JOURNAL = "ward-binh-thoi"  # no history table: its product's own journal says which steps there were


@dataclass(slots=True, kw_only=True)
class Row:
    """One line of the verdict: what a system must hold of an entity, and how much of it is right.

    `refused` are rows of this system that may stand nowhere else, `disputed` those whose identifiers collide; neither
    is expected anywhere. `overstepped` are fields its clerks changed without owning them and that still differ.
    """

    system: str
    entity: str
    expected: int = 0
    equal: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    refused: int = 0
    disputed: int = 0
    overstepped: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether everything that must be there is, and nothing else."""
        return self.equal == self.expected and not (self.missing or self.extra or self.different)

    def note(self, text: str) -> None:
        """Keep an example; no values, and of citizens only the last digits."""
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(text)


class Verdict:
    """The lines of a verification by (system, entity)."""

    def __init__(self, tolerated: Iterable[Write] = ()) -> None:
        self._rows: dict[tuple[str, str], Row] = {}
        self._tolerated = {(w.system, w.entity, w.code, name) for w in tolerated for name in w.values or ()}

    def at(self, system: str, entity: str) -> Row:
        """The line of one system and entity."""
        return self._rows.setdefault((system, entity), Row(system=system, entity=entity))

    def lines(self) -> list[Row]:
        """All lines, in order."""
        return [self._rows[key] for key in sorted(self._rows)]

    def compare(self, system: str, entity: str, code: str, names: Iterable[str], expected: Fields, actual: Fields) -> None:
        """Count one record that is there, field by field."""
        wrong = [n for n in names if n in actual and n in expected and not _same(system, entity, n, expected[n], actual[n])]
        oversteps = [name for name in wrong if (system, entity, code, name) in self._tolerated]
        row = self.at(system, entity)
        row.expected += 1
        row.overstepped += len(oversteps)
        if len(wrong) == len(oversteps):
            row.equal += 1
        else:
            row.different += 1
            row.note(f"{shown(entity, code)}: {', '.join(name for name in wrong if name not in oversteps)}")

    def missing(self, system: str, entity: str, code: str) -> None:
        """Count a record that should be there and is not."""
        row = self.at(system, entity)
        row.expected += 1
        row.missing += 1
        row.note(f"{shown(entity, code)}: missing")

    def extra(self, system: str, entity: str, code: str) -> None:
        """Count a record that should not be there."""
        row = self.at(system, entity)
        row.extra += 1
        row.note(f"{shown(entity, code)}: extra")


def shown(entity: str, code: str) -> str:
    """A record's name fit to be shown: of a citizen only the last four digits."""
    return f"…{code[-4:]}" if entity == "citizen" else code


def _same(system: str, entity: str, name: str, expected: Any, actual: Any) -> bool:
    if system == "ward-tan-dinh" and (entity, name) == ("citizen", "full_name"):  # its trigger writes capitals
        return bool(str(expected).upper() == actual)
    return bool(expected == actual)


def verify(dsns: Mapping[str, str], *, tolerated: Iterable[Write] = ()) -> list[Row]:
    """Compare all systems with what their contracts entitle them to.

    `tolerated` are edits by non-owners (from `simulate.live`): where they still stand, they are counted apart.
    """
    return judge(read(dsns), tolerated=tolerated)


def judge(holdings: Holdings, *, tolerated: Iterable[Write] = ()) -> list[Row]:
    """The verdict about holdings that have been read."""
    truth = truth_of(holdings)
    verdict = Verdict(tolerated)
    for code, root in truth.dossiers.items():
        _judge_dossier(verdict, code, root)
    for code, root in truth.citizens.items():
        _judge_citizen(verdict, code, root)
    for entity in CHILD_KEYS:
        _judge_children(verdict, holdings, truth, entity)
    _judge_procedures(verdict, holdings)
    _count_the_rest(verdict, holdings, truth)
    return verdict.lines()


# ------------------------------------------------------------------ roots
def _judge_dossier(verdict: Verdict, code: str, root: Root) -> None:
    for system in root.entitled - set(root.held):
        verdict.missing(system, "dossier", code)
    for system, actual in root.held.items():
        if system not in root.entitled:
            if system not in root.born:
                verdict.extra(system, "dossier", code)
            continue
        expected = dict(root.fields)
        if system == JUSTICE and system not in root.born:  # its contract masks phones to their last four digits
            expected["applicant_phone"], actual = None, {**actual, "applicant_phone": _unmasked(root.fields, actual)}
        verdict.compare(system, "dossier", code, [n for g in DOSSIER_GROUPS for n in GROUPS[g]], expected, actual)


def _unmasked(fields: Fields, actual: Fields) -> str | None:
    """None when a masked phone is what it should be."""
    true, masked = fields["applicant_phone"], actual["applicant_phone"]
    if true is None or masked is None:
        return None if masked is None else str(masked)
    return None if masked != true and masked[-4:] == true[-4:] else str(masked)


def _judge_citizen(verdict: Verdict, code: str, root: Root) -> None:
    for system in root.entitled - set(root.held):
        verdict.missing(system, "citizen", code)
    names = [name for group in ("identity", "residence", "contact") for name in GROUPS[group]]
    for system in root.entitled & set(root.held):
        verdict.compare(system, "citizen", code, names, root.fields, root.held[system])


def _judge_procedures(verdict: Verdict, holdings: Holdings) -> None:
    catalogue = {row["procedure_code"]: row for row in holdings[PORTAL]["procedure"]}
    for system in PROCEDURE_TARGETS:
        held = {row["procedure_code"]: row for row in holdings[system]["procedure"]}
        _compare_sets(verdict, system, "procedure", catalogue, held, GROUPS["procedure"])


def _compare_sets(
    verdict: Verdict, system: str, entity: str, expected: Mapping[Any, Fields], held: Mapping[Any, Fields], names: Iterable[str]
) -> None:
    for key in expected.keys() - held.keys():
        verdict.missing(system, entity, _key_text(key))
    for key in held.keys() - expected.keys():
        verdict.extra(system, entity, _key_text(key))
    for key in expected.keys() & held.keys():
        verdict.compare(system, entity, _key_text(key), names, expected[key], held[key])


def _key_text(key: Any) -> str:
    return key if isinstance(key, str) else " ".join(str(part) for part in key)


# ------------------------------------------------------------------ children
def _judge_children(verdict: Verdict, holdings: Holdings, truth: Truth, entity: str) -> None:
    journal = _journal(holdings) if entity == "dossier_event" else {}
    held = {system: _by_dossier(verdict, holdings[system].get(entity, ()), truth, (system, entity), journal) for system in CHILD_TARGETS[entity]}
    for code, root in truth.dossiers.items():
        sources = [PORTAL] if entity == "evaluation" else [s for s in (*root.born, root.processing) if s in root.held]
        expected: dict[tuple[Any, ...], Fields] = {}
        for system in sources:
            for key, row in held.get(system, {}).get(code, {}).items():
                if not (code in journal and _is_bare(row)):
                    expected.setdefault(key, row)
        for system in CHILD_TARGETS[entity]:
            if system in root.entitled and system in root.held:
                there = held[system].get(code, {})
                if code in journal:
                    there = _without_journal(verdict, system, code, expected, there, journal[code])
                _compare_sets(verdict, system, entity, expected, there, GROUPS[entity])


def _by_dossier(
    verdict: Verdict, rows: Iterable[Fields], truth: Truth, place: tuple[str, str], journal: Mapping[str, list[Fields]]
) -> dict[str, dict[tuple[Any, ...], Fields]]:
    """A system's children by dossier and natural key; a second one under the same key is one too many.

    Not so steps made from a status column: their time is that of a change, several changes may be of one second, and the journal counts them.
    """
    system, entity = place
    out: dict[str, dict[tuple[Any, ...], Fields]] = defaultdict(dict)
    for number, row in enumerate(rows):
        if row["code"] not in truth.dossiers:
            continue
        key = (row["code"], *(row[name] for name in CHILD_KEYS[entity]))
        if row["code"] in journal and _is_bare(row):
            key = (*key, number)
        if key in out[row["code"]]:
            verdict.extra(system, entity, _key_text(key))
        out[row["code"]][key] = row
    return out


def _journal(holdings: Holdings) -> dict[str, list[Fields]]:
    """The steps of the ward without a history table, from its product's own journal."""
    out: dict[str, list[Fields]] = defaultdict(list)
    for row in holdings[JOURNAL].get("journal", ()):
        out[row["code"]].append(row)
    return out


def _without_journal(
    verdict: Verdict, system: str, code: str, expected: Mapping[Any, Fields], there: dict[Any, Fields], steps: list[Fields]
) -> dict[Any, Fields]:
    """Check the steps that were made from a status column, whose times are those of the change, and take them away.

    The journal's first line is the row's arrival, which may be a step or our own delivery; lines another system's
    history holds are deliveries. Every other line must be a step, and no step may be without a line.
    """
    known = {(key[1], key[2]) for key in expected}
    lines = [step for step in steps if (step["status"], step["occurred_at"]) not in known]
    allowed = Counter(step["status"] for step in lines)
    needed = Counter(step["status"] for step in lines if step is not steps[0])
    count = Counter(row["status"] for key, row in there.items() if _is_bare(row) and key not in expected)
    for status in needed:
        row = verdict.at(system, "dossier_event")
        row.expected += needed[status]
        row.equal += min(needed[status], count[status])
        for _ in range(needed[status] - count[status]):
            row.missing += 1
            row.note(f"{code} step {status}: missing")
    for status in count:
        for _ in range(count[status] - allowed[status]):
            verdict.extra(system, "dossier_event", f"{code} step {status}")
    return {key: row for key, row in there.items() if key in expected or not _is_bare(row)}


def _is_bare(event: Fields) -> bool:
    """Whether a step was made from a status column, where nobody is named."""
    return all(event[name] is None for name in GROUPS["dossier_event"])


# ------------------------------------------------------------------ what takes no part
def _count_the_rest(verdict: Verdict, holdings: Holdings, truth: Truth) -> None:
    for (system, entity), count in truth.refused.items():
        verdict.at(system, entity).refused += count
    for system, entity, code in truth.orphans:
        verdict.extra(system, entity, code)
    for (system, entity), count in truth.doubled.items():
        for _ in range(count):
            verdict.extra(system, entity, "held twice")
    for system, entities in holdings.items():
        for entity, name in (("dossier", "national_code"), ("citizen", "personal_number")):
            disputed = truth.disputed[entity]
            verdict.at(system, entity).disputed += sum(row[name] in disputed for row in entities[entity])


def unkept(dsns: Mapping[str, str], writes: Iterable[Write]) -> list[str]:
    """Owners' edits that their own system no longer holds: lost, unless the same field was written again later."""
    holdings = read(dsns)
    last: dict[tuple[str, str, str, str], Any] = {}
    gone: set[tuple[str, str, str]] = set()
    for write in writes:
        if write.values is None:
            gone.add((write.system, write.entity, write.code))
        elif write.owner:
            for name, value in write.values.items():
                last[write.system, write.entity, write.code, name] = value
    held = {(s, e, _name(e, row)): row for s, es in holdings.items() for e in ("dossier", "citizen") for row in es[e]}
    lost = [f"{s} {shown(e, c)}: {name}" for (s, e, c, name), value in last.items()
            if (s, e, c) not in gone and _seconds(value) != held.get((s, e, c), {}).get(name)]  # fmt: skip
    return lost + [f"{s} {shown(e, c)}: deleted and back" for s, e, c in gone if (s, e, c) in held]


def _name(entity: str, row: Fields) -> str:
    return str(row["national_code"] or row["local_code"]) if entity == "dossier" else str(row["personal_number"])


def _seconds(value: Any) -> Any:
    return int(value.timestamp()) if hasattr(value, "timestamp") else value


__all__ = ["Row", "Verdict", "judge", "unkept", "verify"]
