"""What the tasks of a scheduler call: one function for each task.

Arguments and results are plain values, because a scheduler stores and shows them: names, counts and ids, never a local key or a person's data.
Errors keep the service's own cut: `TransientError` is tried again, anything else waits for a person.
"""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from lienthong import logs
from lienthong.cli.shared import chosen, settings_of
from lienthong.errors import LienThongError
from lienthong.settings import Settings
from lienthong.system_names import config_folder

P = ParamSpec("P")
T = TypeVar("T")


class FoundWrong(LienThongError):
    """A task has found something wrong: its log says what, and which command shows it; nothing was lost."""

    code = "LT-FLOW-001"


class Defect(LienThongError):
    """A task met a defect of ours; its log names the place in the code, without any record's values."""

    code = "LT-FLOW-002"


def flow(function: Callable[P, T]) -> Callable[P, T]:
    """Make a task's function safe to run where its log is kept and shown: libraries are silent, unforeseen errors lose their words."""

    @functools.wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        logs.silence_libraries()
        try:
            return function(*args, **kwargs)
        except LienThongError:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost frame of ours: the words of an unforeseen error may quote a record
            frames = traceback.extract_tb(error.__traceback__)
            places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in reversed(frames[-6:]))
            raise Defect(f"{type(error).__name__} at {places}") from None

    return told


@functools.cache
def settings() -> Settings:
    """The checked configuration that the environment names; read once, because a task is a process of its own."""
    return settings_of(config_folder())


@flow
def systems(named: str | None = None) -> list[str]:
    """The named system, or all that have a database."""
    return chosen(settings(), [named] if named else None)


def changes(logger: logging.Logger, words: str) -> Callable[[str], None]:
    """A teller of progress that logs what it is told when that is something new; `words` come before it."""
    said: list[str] = []

    def told(what: str) -> None:
        if said[-1:] != [what]:
            said.append(what)
            logger.info("%s %s", words, what)

    return told
