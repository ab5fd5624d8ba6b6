"""The files of the tests that failed last, for a run of them by themselves: `python -m tests.again`.

Whole files: many tell a story, of which one test alone says nothing. Prints nothing, which means all of them, when one is not known.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FAILED = Path(".pytest_cache/v/cache/lastfailed")


def files(failed: Path = FAILED) -> list[str]:
    """Where the tests that failed last are, each file once."""
    found = sorted({name.partition("::")[0] for name in json.loads(failed.read_text("utf-8"))})
    return found if all(Path(name).is_file() for name in found) else []


if __name__ == "__main__":
    sys.stdout.write(" ".join(files()))
