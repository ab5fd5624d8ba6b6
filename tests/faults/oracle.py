"""The judge of every fault: compares all sources with all targets by its own SQL. It shares no code with the service.

Triggers of its own write down, in the transaction itself, what each application wrote (and what the service wrote), so a rolled-back
change leaves nothing here and a change that was committed while its client lost the reply is known all the same. From these words alone
it works out what must stand where.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from tests.faults.words import SYSTEMS, TABLES, Fields, Held, Key, Words, dossier_table, hear, hear_child, true_roots, unified

OURS = "lienthong"  # how the service's connections are named
EXAMPLES_MAX = 12

_WITNESS = """
CREATE SCHEMA IF NOT EXISTS witness;
CREATE TABLE IF NOT EXISTS witness.wrote (
  id bigserial PRIMARY KEY, tbl text NOT NULL, op "char" NOT NULL, now jsonb, before jsonb,
  app text NOT NULL DEFAULT current_setting('application_name'));
CREATE TABLE IF NOT EXISTS witness.backwards (entity text, record bigint, was bigint, became bigint);
CREATE OR REPLACE FUNCTION witness.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN
  INSERT INTO witness.wrote (tbl, op, now, before) VALUES (TG_TABLE_NAME, left(TG_OP, 1)::"char",
    CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END, CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END);
  RETURN NULL; END$$;
CREATE OR REPLACE FUNCTION witness.note_backwards() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN
  IF (NEW.epoch, NEW.version) < (OLD.epoch, OLD.version) THEN
    INSERT INTO witness.backwards VALUES (NEW.entity, NEW.record, OLD.version, NEW.version);
  END IF;
  RETURN NULL; END$$;
"""
_TRIGGER = 'CREATE OR REPLACE TRIGGER zz_witness AFTER INSERT OR UPDATE OR DELETE ON "{}" FOR EACH ROW EXECUTE FUNCTION witness.note()'
_BACKWARDS = """
CREATE OR REPLACE TRIGGER zz_witness AFTER UPDATE ON lienthong.applied FOR EACH ROW EXECUTE FUNCTION witness.note_backwards()
"""


@dataclass(slots=True)
class Verdict:
    """What was found; `lost` and `duplicated` are records, and `right` says that there is nothing of any kind."""

    expected: int = 0
    missing: int = 0
    stale: int = 0
    extra: int = 0
    doubled: int = 0
    overwritten: int = 0
    backwards: int = 0
    parked: Counter[str] = field(default_factory=Counter)  # where and why, since the mark
    examples: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Records that are not where they must be, or whose newest committed words are not."""
        return self.missing + self.stale + self.overwritten

    @property
    def duplicated(self) -> int:
        """Rows or steps that stand twice, came back, or went backwards."""
        return self.extra + self.doubled + self.backwards

    @property
    def right(self) -> bool:
        """Whether every system holds exactly what it must."""
        return not (self.lost or self.duplicated)

    def add(self, kind: str, text: str) -> None:
        """Count one finding; the text names no value."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{kind}: {text}")


class Oracle:
    """Watches the systems of the faults' city."""

    def __init__(self, dsns: Mapping[str, str], hub_dsn: str) -> None:
        self.dsns, self.hub_dsn = dict(dsns), hub_dsn
        self.through: dict[str, Any] = {}  # DSN -> a cursor to look through instead: an open transaction's state can be judged
        self._marks: dict[str, int] = dict.fromkeys(SYSTEMS, 0)
        self.parked_before: Counter[str] = Counter()

    @contextmanager
    def _look(self, dsn: str) -> Iterator[Any]:
        """What refers to each other is seen at one instant."""
        if dsn in self.through:
            yield self.through[dsn]
            return
        with closing(psycopg2.connect(dsn, application_name="oracle", connect_timeout=5)) as connection:
            connection.set_session(isolation_level="REPEATABLE READ")
            with connection, connection.cursor() as cursor:
                yield cursor

    def install(self) -> None:
        """Put the witnesses in place."""
        for system, dsn in self.dsns.items():
            with self._look(dsn) as cursor:
                cursor.execute(_WITNESS)
                for table in TABLES[system]:
                    cursor.execute(_TRIGGER.format(table))
                cursor.execute(_BACKWARDS)

    def mark(self) -> None:
        """From here on records are at risk."""
        for system, dsn in self.dsns.items():
            with self._look(dsn) as cursor:
                cursor.execute("SELECT coalesce(max(id), 0) FROM witness.wrote")
                self._marks[system] = _one(cursor)
        self.parked_before = self.parked()

    def at_risk(self) -> int:
        """How many different rows the applications have written since the mark."""
        total = 0
        for system, dsn in self.dsns.items():
            with self._look(dsn) as cursor:
                cursor.execute(
                    """SELECT count(DISTINCT (tbl, coalesce(now, before) ->> 'id')) FROM witness.wrote
                       WHERE id > %s AND app NOT LIKE %s""",
                    [self._marks[system], OURS + "%"],
                )
                total += _one(cursor)
        return total

    def service_writes(self) -> int:
        """How many rows the service has written since the mark."""
        total = 0
        for system, dsn in self.dsns.items():
            with self._look(dsn) as cursor:
                cursor.execute("SELECT count(*) FROM witness.wrote WHERE id > %s AND app LIKE %s", [self._marks[system], OURS + "%"])
                total += _one(cursor)
        return total

    def judge(self) -> Verdict:
        """Compare everything with everything."""
        verdict = Verdict()
        words = {system: self._words(system) for system in SYSTEMS}
        held = {system: self._held(system) for system in SYSTEMS}
        alive = dict(true_roots(words))
        for key, (fields, receivers) in alive.items():
            for system in SYSTEMS:
                _judge_root(verdict, system, key, fields, held[system].roots.get(key), expected=system in receivers)
            if key[0] == "dossier":
                _judge_children(verdict, key[1], words, held, receivers)
        for system in SYSTEMS:
            for key in held[system].doubles:
                verdict.add("doubled", f"{system} {_shown(key)} stands twice")
            for key in held[system].roots.keys() - alive.keys():
                verdict.add("extra", f"{system} {_shown(key)} should not be there")
            if system != "ward-b":
                _judge_inserts(verdict, system, words[system])
        verdict.parked = self.parked() - self.parked_before
        self._backwards(verdict)
        return verdict

    def _backwards(self, verdict: Verdict) -> None:
        for system, dsn in self.dsns.items():
            with self._look(dsn) as cursor:
                cursor.execute("SELECT entity, record FROM witness.backwards WHERE became <> 0")
                for entity, record in cursor.fetchall():
                    verdict.add("backwards", f"{system} {entity} {record} was set back to an older version")

    def parked(self) -> Counter[str]:
        """What is parked anywhere, by place and reason."""
        found: Counter[str] = Counter()
        with self._look(self.hub_dsn) as cursor:
            cursor.execute("SELECT system || ' ' || entity || ' ' || reason FROM hub.parked WHERE state = 'open'")
            found.update(reason for (reason,) in cursor.fetchall())
        for system, dsn in self.dsns.items():
            with self._look(dsn) as cursor:
                cursor.execute("SELECT coalesce(entity, '?') || ' ' || reason FROM lienthong.parked WHERE state = 'parked'")
                found.update(f"at {system} {reason}" for (reason,) in cursor.fetchall())
        return found

    # ------------------------------------------------------------ what was said
    def _words(self, system: str) -> Words:
        words, codes = Words(), {}
        with self._look(self.dsns[system]) as cursor:
            cursor.execute("SELECT tbl, op::text, now, before, app FROM witness.wrote ORDER BY id")
            lines = cursor.fetchall()
        root, key_column = dossier_table(system)
        for table, op, now, before, app in lines:
            row = now or before
            if table == root:
                codes[row["id"]] = row[key_column]
            entity, leads, names = TABLES[system][table]
            ours = app.startswith(OURS)
            if entity in ("dossier", "citizen"):
                if not ours:
                    hear(words, system, (entity, row[leads]), op, names, now, before)
                continue
            code = codes.get(row[leads])
            if code is not None:
                hear_child(words, code, entity, op, unified(row, names), ours=ours)
        return words

    # ------------------------------------------------------------ what stands there
    def _held(self, system: str) -> Held:
        held = Held()
        root, _ = dossier_table(system)
        codes: dict[int, str] = {}
        with self._look(self.dsns[system]) as cursor:
            for table in sorted(TABLES[system], key=lambda name: name != root):
                entity, leads, names = TABLES[system][table]
                cursor.execute(f'SELECT to_jsonb(t) FROM "{table}" t ORDER BY id')  # noqa: S608 - a table of our own
                for (row,) in cursor.fetchall():
                    if table == root:
                        codes[row["id"]] = row[leads]
                    held.take(entity, row[leads] if entity in ("dossier", "citizen") else codes[row[leads]], unified(row, names))
        return held


def _judge_root(verdict: Verdict, system: str, key: Key, fields: Fields, there: Fields | None, *, expected: bool) -> None:
    if not expected:
        if there is not None:
            verdict.add("extra", f"{system} {_shown(key)} is not entitled to it")
        return
    verdict.expected += 1
    if there is None:
        verdict.add("missing", f"{system} {_shown(key)}")
        return
    wrong = [name for name, value in fields.items() if there[name] != value]
    if wrong:
        verdict.add("stale", f"{system} {_shown(key)}: {', '.join(wrong)}")


def _judge_children(verdict: Verdict, code: str, words: Mapping[str, Words], held: Mapping[str, Held], receivers: set[str]) -> None:
    steps: Counter[tuple[Any, ...]] = Counter()
    fees: dict[str, Any] = {}
    for system in SYSTEMS:
        steps += words[system].steps.get(code, Counter())
        fees |= words[system].fees.get(code, {})
    for system in receivers:
        if system != "ward-b":
            _compare(verdict, f"{system} step of {code}", steps, _timeless(held[system].steps[code], steps))
        _compare(verdict, f"{system} fee of {code}", Counter(fees.items()), held[system].fees[code])


def _judge_inserts(verdict: Verdict, system: str, words: Words) -> None:
    for step, times in words.given.items():
        if times > 1:
            verdict.add("doubled", f"{system} step of {step[0]} was inserted {times} times")


def _timeless(there: Counter[tuple[Any, ...]], expected: Counter[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    """A step made from a status column has the moment of the change, which its source does not tell."""
    out: Counter[tuple[Any, ...]] = Counter()
    for step, count in there.items():
        out[step if step in expected or step[2] is not None else (step[0], None, None)] += count
    return out


def _compare(verdict: Verdict, what: str, expected: Counter[Any], there: Counter[Any]) -> None:
    verdict.expected += expected.total()
    for key in expected.keys() | there.keys():
        for _ in range(expected[key] - there[key]):
            verdict.add("missing", f"{what} ({key[0]})")
        for _ in range(there[key] - expected[key]):
            verdict.add("doubled", f"{what} ({key[0]})")


def _shown(key: Key) -> str:
    return f"citizen …{key[1][-4:]}" if key[0] == "citizen" else f"{key[0]} {key[1]}"


def _one(cursor: Any) -> Any:
    return cursor.fetchone()[0]
