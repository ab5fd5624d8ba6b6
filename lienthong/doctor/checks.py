"""The checks of the doctor, in the order in which their findings are to be mended: what stands first explains what comes after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lienthong.doctor import Finding, Report, Said, days
from lienthong.doctor import lines as at_lines
from lienthong.doctor import servers as at_servers
from lienthong.doctor.look import Look, Needs
from lienthong.errors import ConfigError, LienThongError
from lienthong.problems import ConfigProblems

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One problem that operators have; `needs` says without what nothing can be said of it."""

    id: str
    why: str
    look: Callable[[Look], Iterable[Said]]
    needs: Needs = "tables"


CONFIGURATION = "configuration"
_WHY_CONFIGURATION = "no command starts with a wrong configuration or a variable that is missing; what runs goes on as it was started"

CHECKS: tuple[Check, ...] = (
    Check(
        id="login",
        why="nothing of that server is read or written until it lets us in",
        look=at_servers.login,
        needs="nothing",
    ),
    Check(
        id="unreachable",
        why="everything that needs it waits; nothing is lost, but sources keep their log meanwhile",
        look=at_servers.unreachable,
        needs="nothing",
    ),
    Check(
        id="topics",
        why="a topic that lets go of messages too early, or has another number of partitions, loses or mixes up changes",
        look=at_servers.topics,
        needs="nothing",
    ),
    Check(
        id="installation",
        why="without our schema, rights, triggers or publication there, changes go unseen or cannot be written",
        look=at_servers.installation,
        needs="nothing",
    ),
    Check(
        id="hub_schema",
        why="programs of this release ask the hub for tables or columns that it does not have yet",
        look=at_servers.hub_schema_of,
        needs="hub",
    ),
    Check(
        id="slot",
        why="the source keeps its log for us until its disk is full, or gives the slot up and changes are missed",
        look=at_servers.slot,
    ),
    Check(
        id="space",
        why="a full disk stops every line of its server, and a slot that is given up costs a load of the whole system",
        look=at_servers.space,
    ),
    Check(
        id="clock",
        why="lag, deadlines and days are measured by these clocks: what is in time seems late, and the other way round",
        look=at_servers.clock,
    ),
    Check(
        id="role",
        why="nothing goes through that stage; what comes in waits",
        look=at_lines.role,
    ),
    Check(
        id="lease",
        why="a line has one process at a time; the other does nothing, and may be on a machine that is meant to be off",
        look=at_lines.lease,
    ),
    Check(
        id="stopped",
        why="the line stands until a person has acted; the other lines go on",
        look=at_lines.stopped,
    ),
    Check(
        id="load",
        why="nothing is delivered to a system before its own records are known, or they would be inserted a second time",
        look=at_lines.load,
    ),
    Check(
        id="parked",
        why="many at once have one cause, and each waits for a person: its changes have not arrived",
        look=at_lines.parked,
    ),
    Check(
        id="certificate",
        why="for these days nobody has proved that everything arrived; what is wrong in them is found the later",
        look=days.certificate,
    ),
    Check(
        id="portal",
        why="progress of dossiers does not reach the national portal; messages wait in order and none is lost",
        look=at_lines.portal,
    ),
)

IDS = (CONFIGURATION, *(check.id for check in CHECKS))


def of_configuration(error: ConfigError) -> Report:
    """The report where the configuration itself is wrong: nothing else can be looked at."""
    wrong = _wrong(error) if isinstance(error, ConfigProblems) else [Said("configuration", str(error), "lienthong check --offline")]
    findings = tuple(Finding.of(CONFIGURATION, _WHY_CONFIGURATION, said) for said in wrong)
    return Report(findings=findings, looked_at=(CONFIGURATION,), not_looked_at=IDS[1:])


def _wrong(error: ConfigProblems) -> Iterator[Said]:
    for problem in error.problems:
        place = f"{problem.file}:{problem.line}:{problem.column}" if problem.line else problem.file
        found = f"{problem.path}: {problem.message}" if problem.path else problem.message
        if problem.hint.startswith("export "):
            command, _, rest = problem.hint.partition(" before")
            yield Said(place, found, command, f"before{rest}")
        else:
            yield Said(place, found, "lienthong check --offline", problem.hint)


def examine(look: Look) -> Report:
    """Make every check; one that cannot be made, because the hub does not answer for example, is named as left out."""
    findings: list[Finding] = []
    looked_at: list[str] = [CONFIGURATION]
    left_out: list[str] = []
    for check in CHECKS:
        try:
            found = [*check.look(look)] if look.has(check.needs) else None
        except LienThongError as error:
            logger.warning(str(error), extra={"action": "doctor_left_out", "check": check.id, "code": error.code})
            found = None
        (left_out if found is None else looked_at).append(check.id)
        findings += [Finding.of(check.id, check.why, said) for said in found or ()]
    return Report(findings=tuple(findings), looked_at=tuple(looked_at), not_looked_at=tuple(left_out))
