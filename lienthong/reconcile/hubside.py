"""The hub's side of a comparison: what it knows of a system's records, what it was proved equal to before, and what changed since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from connectors.postgres import Cursor, DataRefused, copy_rows, errors_translated, one, rows, sql, streamed
from lienthong.authority import Said
from lienthong.contracts import Terms
from lienthong.entitled import Golden, read_golden
from lienthong.hub_statements import array
from lienthong.settings import Scope

_UNITS = ("processing_unit", "residence_unit", "unit_code")
_AGENCIES = ("processing_agency_code", "receiving_agency_code", "agency_code")
_CONTRIBUTION = "hash_record_extended(ROW(c.record, c.op, c.delivered, c.mask, hashtextextended(c.body::text, 0), c.parent_key), 0)"
_PARENT = ", ".join(f"p.body->>'{name}'" for name in (*_UNITS, *_AGENCIES, "procedure_code"))
_GOLDEN = f"""hash_record_extended(ROW(r.parent, r.merged_into, r.deleted, r.sole, hashtextextended(r.body::text, 0), r.who, p.merged_into, p.deleted,
  {_PARENT}), 0)"""
# The record's text is made once, for its digest and for us; its parent is found by its key, where a join would read all records for each slice.
_RECORDS = f"""
SELECT r.record, r.entity, r.parent, r.merged_into, r.deleted, r.sole, r.body, r.who::text, {_GOLDEN}
FROM (SELECT record, entity, parent, merged_into, deleted, sole, body::text AS body, who FROM hub.record
      WHERE record = ANY(%(records)s::bigint[]) OFFSET 0) r
LEFT JOIN LATERAL (SELECT * FROM hub.record WHERE record = r.parent OFFSET 0) p ON true
"""  # noqa: S608 - names of our own
_WORDS = f"""
SELECT c.record, c.system, c.local_key, c.version, c.op::text, c.delivered, c.parent_key, c.epoch,
       CASE WHEN c.op = 's' THEN c.body::text END, CASE WHEN c.system = %(system)s THEN {_CONTRIBUTION} END
FROM hub.contribution c WHERE c.record = ANY(%(records)s::bigint[]) AND c.op <> 'p'
"""  # noqa: S608 - names of our own
# Most systems that are only written to have never said anything: then not one key is looked up.
_OWN = """
SELECT local_key, record FROM hub.contribution WHERE EXISTS (SELECT FROM hub.contribution WHERE system = %(system)s AND entity = %(entity)s)
AND system = %(system)s AND entity = %(entity)s AND local_key = ANY(%(keys)s::text[]) AND op <> 'p'
"""
_GONE = "({0}.deleted OR {0}.body IS NULL OR {0}.body = '{{{{}}}}')"

_KNOWN = f"""
SELECT coalesce(c.local_key, m.local_key) AS local_key, coalesce(c.record, m.record) AS record, c.digest AS now, c.at,
       m.contribution, m.golden, m.local_key IS NOT NULL AS proved
FROM (SELECT local_key, record, at, {_CONTRIBUTION} AS digest FROM hub.contribution c
      WHERE system = %(system)s AND entity = %(entity)s AND op <> 'p') c
FULL JOIN (SELECT local_key, record, contribution, golden FROM hub.proof WHERE system = %(system)s AND entity = %(entity)s) m USING (local_key)
"""  # noqa: S608 - names of our own
_CHANGED = f"""
SELECT k.local_key, coalesce(k.record, r.record) FROM (SELECT * FROM hub.record WHERE entity = %(entity)s) r
LEFT JOIN hub.record p ON p.record = r.parent
FULL JOIN ({_KNOWN}) k ON k.record = r.record
WHERE CASE WHEN k.local_key IS NULL THEN {{entitled}}
      ELSE NOT k.proved OR k.now IS DISTINCT FROM k.contribution OR {_GOLDEN} IS DISTINCT FROM k.golden END
"""  # noqa: S608 - names of our own
_SINCE = f"""
SELECT k.local_key, coalesce(k.record, r.record) FROM (SELECT * FROM hub.record WHERE entity = %(entity)s) r
LEFT JOIN hub.record p ON p.record = r.parent
FULL JOIN ({_KNOWN}) k ON k.record = r.record
WHERE (k.local_key IS NOT NULL OR {{entitled}}) AND (r.updated_at >= %(since)s OR k.at >= extract(epoch FROM %(since)s) * 1000000)
"""  # noqa: S608 - names of our own
_KEPT = """
SELECT p.local_key FROM hub.parked p JOIN hub.contribution c USING (system, entity, local_key, version)
WHERE p.system = %(system)s AND p.entity = %(entity)s AND p.local_key = ANY(%(keys)s) AND p.state = 'kept' AND c.op = 's'
"""
_PROOF = ("system", "entity", "local_key", "record", "bucket", "local", "contribution", "golden", "digest")


@dataclass(frozen=True, slots=True)
class Word:
    """What the hub has as a system's own word about one of its records."""

    record: int
    exists: bool
    delivered: bool
    values: dict[str, Any]
    parent: str | None
    digest: int
    is_past: bool = False  # of an earlier life of the system, which says it in this one under another key


@dataclass(frozen=True, slots=True)
class Proof:
    """The digests with which a record was last found equal."""

    record: int | None
    local: int | None
    contribution: int | None
    golden: int | None


@dataclass(slots=True)
class Known:
    """What the hub knows about some records, all seen at one instant."""

    words: dict[str, Word] = field(default_factory=dict)  # by local key
    proofs: dict[str, Proof] = field(default_factory=dict)  # by local key
    golden: dict[int, Golden] = field(default_factory=dict)
    digests: dict[int, int] = field(default_factory=dict)  # of golden records
    parents: dict[int, Golden] = field(default_factory=dict)
    parent_keys: dict[int, str] = field(default_factory=dict)
    said: dict[int, list[Said]] = field(default_factory=dict)
    sent: dict[int, tuple[str, int, bytes | None]] = field(default_factory=dict)  # state, version and digest of what was sent
    refused: set[str] = field(default_factory=set)  # local keys with an open parked entry
    kept: set[str] = field(default_factory=set)  # local keys without a row, of what a person decided to keep


class HubSide:
    """One system and entity as the hub sees them."""

    def __init__(self, system: str, entity: str, terms: Sequence[Terms]) -> None:
        self.system, self.entity, self.terms = system, entity, terms
        self._place = {"system": system, "entity": entity}

    # ------------------------------------------------------------ what must be looked at
    def sums(self, cursor: Cursor) -> dict[int, tuple[int, int]]:
        """Bucket -> number of proved rows and sum of their digests."""
        statement = "SELECT bucket, count(local), sum(local) FROM hub.proof WHERE system = %(system)s AND entity = %(entity)s GROUP BY 1"
        return {bucket: (count, int(total or 0)) for bucket, count, total in rows(cursor, statement, self._place) if count}

    def proved(self, cursor: Cursor, buckets: Iterable[int]) -> dict[str, int]:
        """Key and digest of the rows that were proved equal in some buckets."""
        statement = """SELECT local_key, local FROM hub.proof
                       WHERE system = %(system)s AND entity = %(entity)s AND local IS NOT NULL AND bucket = ANY(%(buckets)s)"""
        return dict(rows(cursor, statement, {**self._place, "buckets": list(buckets)}))

    def changed(self, cursor: Cursor, since: datetime | None) -> Iterator[tuple[str | None, int | None]]:
        """Local key and record of everything in the hub that is not as it was when last proved equal; with `since`, of all that changed then."""
        cursor.execute("SET LOCAL work_mem = '256MB'; SET LOCAL jit = off")
        entitled = entitled_condition(self.terms).as_string(cursor).replace("%", "%%")
        statement = (_CHANGED if since is None else _SINCE).format(entitled=entitled)
        return streamed(cursor, statement, {**self._place, "since": since})

    # ------------------------------------------------------------ what the hub knows
    def keys_of(self, cursor: Cursor, keys: Sequence[str], records: Sequence[int]) -> dict[str, int | None]:
        """The local keys among these, and under these records, with the record each belongs to."""
        found = rows(
            cursor,
            """SELECT local_key, record FROM hub.proof WHERE system = %(system)s AND entity = %(entity)s AND local_key = ANY(%(keys)s)
               UNION ALL SELECT local_key, record FROM hub.contribution
               WHERE system = %(system)s AND entity = %(entity)s AND op <> 'p' AND local_key = ANY(%(keys)s)
               UNION ALL SELECT local_key, record FROM hub.contribution
               WHERE record = ANY(%(records)s) AND system = %(system)s AND entity = %(entity)s AND op <> 'p'""",
            {**self._place, "keys": list(keys), "records": list(records)},
        )
        return dict(found)

    def know(self, cursor: Cursor, keys: Sequence[str], records: Sequence[int]) -> Known:
        """Everything the hub knows about some local keys and records, in the cursor's snapshot."""
        wanted = list(records)
        known = self.seen(cursor, wanted)
        for record, state, version, digest in rows(
            cursor, "SELECT record, state::text, version, hash FROM hub.entitled WHERE system = %s AND record = ANY(%s)", [self.system, wanted]
        ):
            known.sent[record] = (state, version, bytes(digest) if digest else None)
        for key, *proof in rows(
            cursor,
            """SELECT local_key, record, local, contribution, golden FROM hub.proof
               WHERE system = %(system)s AND entity = %(entity)s AND local_key = ANY(%(keys)s)""",
            {**self._place, "keys": list(keys)},
        ):
            known.proofs[key] = Proof(*proof)
        known.refused = {
            key
            for (key,) in rows(
                cursor,
                """SELECT local_key FROM hub.parked WHERE system = %(system)s AND entity = %(entity)s AND local_key = ANY(%(keys)s)
                   AND state = 'open'""",
                {**self._place, "keys": list(keys)},
            )
        }
        known.kept = {key for (key,) in rows(cursor, _KEPT, {**self._place, "keys": list(keys)})}
        return known

    def own_records(self, cursor: Cursor, keys: Sequence[str]) -> dict[str, int]:
        """The records that the system's own words under some local keys belong to."""
        return dict(rows(cursor, _OWN, {**self._place, "keys": array(keys, "text")}))

    def seen(self, cursor: Cursor, records: Sequence[int]) -> Known:
        """Some golden records with their parents, and what all systems say about them: enough to tell whether something is equal."""
        known = Known()
        given = {"system": self.system, "records": array(records, "bigint")}
        for record, entity, parent, merged, deleted, sole, body, who, digest in rows(cursor, _RECORDS, given):
            values, holders = orjson.loads(body) if body else {}, (orjson.loads(who) or {}) if who else {}
            known.golden[record] = Golden(record, entity, parent, merged, deleted, sole, values, holders)
            known.digests[record] = digest
        known.parents = read_golden(cursor, sorted({g.parent for g in known.golden.values() if g.parent is not None}))
        known.parent_keys = self._parent_keys(cursor, list(known.parents)) if known.parents else {}
        self._words(known, rows(cursor, _WORDS, given))
        return known

    def _words(self, known: Known, found: Sequence[tuple[Any, ...]]) -> None:
        lives: dict[int, int] = {}  # record -> the newest epoch in which the system says that it exists
        for record, system, _, _, op, _, _, epoch, _, _ in found:
            if system == self.system and op == "s":
                lives[record] = max(epoch, lives.get(record, 0))
        golden = known.golden
        for record, system, key, version, op, delivered, parent, epoch, body, digest in found:
            is_there = op == "s"
            if body:
                values = orjson.loads(body)
            else:  # the golden record is its word as it stands
                values = golden[record].values if is_there and record in golden else {}
            known.said.setdefault(record, []).append(Said(system, version, values, is_there, delivered))
            if system == self.system:
                known.words[key] = Word(record, is_there, delivered, values, parent, digest, epoch < lives.get(record, 0))

    def _parent_keys(self, cursor: Cursor, parents: Sequence[int]) -> dict[int, str]:
        statement = "SELECT record, local_key FROM hub.contribution WHERE record = ANY(%s) AND system = %s AND op <> 'd' ORDER BY version"
        return dict(rows(cursor, statement, [list(parents), self.system]))

    # ------------------------------------------------------------ remembering
    def prove(self, cursor: Cursor, proofs: Sequence[Sequence[Any]], *, is_first: bool = False) -> None:
        """Remember what was found equal: (local key, record, bucket, local, contribution, golden, digest) of each.

        `is_first`: probably none of them is remembered yet. A proof that a crash of the server takes is only made once more.
        """
        if not proofs:
            return
        cursor.execute("SET LOCAL synchronous_commit = off")
        made = sorted([(self.system, self.entity, *proof) for proof in proofs])
        if is_first and self._are_new(cursor, made):
            return
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS b_proof (LIKE hub.proof INCLUDING DEFAULTS) ON COMMIT DELETE ROWS")
        copy_rows(cursor, "b_proof", _PROOF, made)
        names, new = ", ".join(_PROOF), ", ".join(f"{name} = excluded.{name}" for name in (*_PROOF[3:], "proved_at"))
        cursor.execute(
            f"""INSERT INTO hub.proof ({names}) SELECT {names} FROM b_proof ORDER BY local_key
                ON CONFLICT (system, entity, local_key) DO UPDATE SET {new}"""  # noqa: S608 - names of our own
        )

    def _are_new(self, cursor: Cursor, made: Sequence[Sequence[Any]]) -> bool:
        """Put proofs where there are none; false, and nothing is put, when there is one."""
        cursor.execute("SAVEPOINT proofs")
        try:
            with errors_translated():
                copy_rows(cursor, "hub.proof", _PROOF, made)
        except DataRefused:
            cursor.execute("ROLLBACK TO SAVEPOINT proofs")
            return False
        return True

    def is_new(self, cursor: Cursor) -> bool:
        """Whether nothing was proved yet."""
        statement = "SELECT 1 FROM hub.proof WHERE system = %(system)s AND entity = %(entity)s LIMIT 1"
        return one(cursor, statement, self._place) is None

    def digest(self, cursor: Cursor, but: Sequence[str]) -> tuple[int, int]:
        """Number and sum of the digests of all that is proved to be held as it should be, but for some local keys."""
        statement = """SELECT count(digest), coalesce(sum(digest), 0) FROM hub.proof
                       WHERE system = %(system)s AND entity = %(entity)s AND NOT local_key = ANY(%(but)s)"""
        ((count, total),) = rows(cursor, statement, {**self._place, "but": list(but)})
        return count, int(total)


# ------------------------------------------------------------------ scopes as SQL
def entitled_condition(terms: Sequence[Terms]) -> sql.Composable:
    """The condition on a golden record r and its parent p under which one of the terms gives it to the party."""
    if not terms:
        return sql.SQL("false")
    root, child = (sql.SQL(" OR ").join([_scope(t.scope, t.units, t.agencies, alias) for t in terms]) for alias in ("r", "p"))
    return sql.SQL(
        "r.merged_into IS NULL AND NOT "
        + _GONE.format("r")
        + " AND CASE WHEN r.parent IS NULL THEN {} ELSE p.record IS NOT NULL AND NOT "
        + _GONE.format("p")
        + " AND ({}) END"
    ).format(root, child)


def _scope(scope: Scope, units: frozenset[str], agencies: frozenset[str], alias: str) -> sql.Composable:
    """The same as `Terms.in_scope`, over the values of a golden record."""
    parts: list[sql.Composable] = []
    for wanted, own, names in ((scope.units, units, _UNITS), (scope.agencies, agencies, _AGENCIES)):
        if wanted is not None:
            codes = sorted((frozenset(wanted) | (own if "own" in wanted else frozenset())) - {""})
            parts.append(_any_in(names, codes, alias))
    if scope.procedures is not None:
        parts.append(_any_in(("procedure_code",), list(scope.procedures), alias))
    if scope.any_of:
        parts.append(sql.SQL(" OR ").join([_scope(part, units, agencies, alias) for part in scope.any_of]))
    if not parts:
        return sql.SQL("true")
    return sql.SQL("({})").format(sql.SQL(" AND ").join([sql.SQL("({})").format(part) for part in parts]))


def _any_in(names: Sequence[str], codes: Sequence[str], alias: str) -> sql.Composable:
    tests = [
        sql.SQL("coalesce({}.body->>{} = ANY({}::text[]), false)").format(sql.Identifier(alias), sql.Literal(name), sql.Literal(list(codes)))
        for name in names
    ]
    return sql.SQL(" OR ").join(tests)
