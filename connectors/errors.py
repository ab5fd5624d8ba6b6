"""Every error of the product, cut by what the caller does about it.

LienThongError
 ├─ TransientError          wait and retry: a dependency is down or busy
 ├─ RecordError             park this record with its reason, the rest goes on
 ├─ FatalError              stop this line and call a person
 │   └─ FencedError         somebody else writes here, or the source went back in time
 └─ ConfigError             the configuration is wrong; nothing was started
"""

from __future__ import annotations


class LienThongError(Exception):
    """Something in the service failed; see the code and what to do."""

    code = "LT-000"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class TransientError(LienThongError):
    """A dependency is down or busy; the work is retried and nothing was lost."""

    code = "LT-DEP-001"


class FatalError(LienThongError):
    """This line cannot go on by itself; a person has to look."""

    code = "LT-LINE-001"


class FencedError(FatalError):
    """Another process holds this line, or its source went back in time."""

    code = "LT-LINE-002"


class ConfigError(LienThongError):
    """The configuration is wrong; nothing was started."""

    code = "LT-CFG-001"


class RecordError(LienThongError):
    """One record does not fit; it is parked with its reason and the rest goes on.

    `reason` is one of a closed list of words (metric label); the message never holds the value itself.
    """

    code = "LT-REC-001"

    def __init__(self, reason: str, field: str | None, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
