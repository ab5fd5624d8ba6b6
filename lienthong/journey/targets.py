"""What targets and sources say when they are asked: which versions they remember to have applied, what they have parked, which dossiers they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from connectors.postgres import Cursor, connect, rows, transaction
from lienthong.errors import LienThongError
from lienthong.journey.handover import Handover
from lienthong.settings import Settings

AT_ONCE = 8
CONNECT_SECONDS = 3
SLICE = 10_000

_APPLIED = "SELECT record, version, state FROM lienthong.applied WHERE entity = 'dossier' AND record = ANY(%s)"
_PARKED = """
SELECT DISTINCT ON (record) record, reason FROM lienthong.parked
WHERE state IN ('parked', 'replay') AND entity = 'dossier' AND record = ANY(%s) ORDER BY record, id DESC
"""
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Memory:
    """What a target remembers of some dossiers: version and state of what it applied last, and why it has parked something."""

    applied: Mapping[int, tuple[int, str]]
    parked: Mapping[int, str]


def ask_each(systems: Sequence[str], ask: Callable[[str], Answer]) -> tuple[dict[str, Answer], list[str]]:
    """The answers of some systems, asked at the same time, and who did not answer."""
    answers: dict[str, Answer] = {}
    silent: list[str] = []

    def one(system: str) -> None:
        try:
            answers[system] = ask(system)
        except LienThongError:
            silent.append(system)

    if systems:
        with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(systems)), thread_name_prefix="journey") as pool:
            list(pool.map(one, systems))
    return answers, sorted(silent)


def memories(settings: Settings, wanted: Mapping[str, Sequence[int]]) -> tuple[dict[str, Memory], list[str]]:
    """What each target remembers of the dossiers given for it; and who could not be asked."""

    def ask(system: str) -> Memory:
        connection = connect(settings.dsn_of(system), application_name="lienthong lost", connect_timeout_seconds=CONNECT_SECONDS)
        try:
            with transaction(connection) as cursor:
                return _memory(cursor, wanted[system])
        finally:
            connection.close()

    return ask_each(sorted(wanted), ask)


def _memory(cursor: Cursor, records: Sequence[int]) -> Memory:
    applied: dict[int, tuple[int, str]] = {}
    parked: dict[int, str] = {}
    for start in range(0, len(records), SLICE):
        some = list(records[start : start + SLICE])
        applied |= {record: (version, state) for record, version, state in rows(cursor, _APPLIED, [some])}
        parked |= dict(rows(cursor, _PARKED, [some]))
    return Memory(applied, parked)


def recalled(one: Handover, memory: Memory | None) -> Handover:
    """What is known of a dossier at a system, with what the system remembers itself."""
    if memory is None:
        return one
    version, _ = memory.applied.get(one.record, (None, ""))
    if version is not None and version >= (one.acknowledged or 0):
        one = replace(one, acknowledged=version)
    return replace(one, parked=memory.parked.get(one.record))
