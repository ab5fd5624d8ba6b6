"""What is wrong with a configuration or a connected system, said so that a person can put it right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Literal

from lienthong.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: where, what, and what to do about it.

    Problems of a file have a line and a column (from 1); those found at a connected system have line 0 and `file` names
    the system. `code` is stable; `dependency` marks a system that could not be reached at all.
    """

    file: str
    line: int = 0
    column: int = 0
    path: str
    code: str
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"
    dependency: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        path = f"{self.path}: " if self.path else ""
        mark = "warning: " if self.severity == "warning" else ""
        return f"{place}: {path}{mark}{self.message}{f' ({self.hint})' if self.hint else ''}"

    def as_dict(self) -> dict[str, str | int | bool]:
        """The problem for `--json`."""
        return asdict(self)


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The problems without repetitions, by file and line."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line, p.column, p.path, p.code, p.message)))


class ConfigProblems(ConfigError):  # noqa: N818 - it holds many
    """The configuration is wrong; nothing was started. Every problem of every file is listed."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A hint with the nearest known word, or no hint."""
    near = get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""


def listed(words: Sequence[str]) -> str:
    """Words for a sentence, cut at a dozen."""
    shown = ", ".join(words[:12])
    return shown + (f" and {len(words) - 12} more" if len(words) > 12 else "")
