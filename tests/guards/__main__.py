"""`python -m tests.guards [--only TEXT]`: what `make guards` runs. Prints one line for each rule switched off; writes build/guards.json."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tests.guards.table import MUTATIONS
from tests.guards.trial import Mutation, Tried, attempt, copy_of_the_product, run_tests

REPORT = Path("build/guards.json")
SAYS_CHARACTERS = 160
AT_ONCE = 2


def main() -> int:
    """0: every rule that was switched off was noticed by every test named for it; 1: not so."""
    parser = argparse.ArgumentParser(prog="python -m tests.guards", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rules whose name holds this")
    given = parser.parse_args()
    chosen = [mutation for mutation in MUTATIONS if given.only in mutation.name]
    with copy_of_the_product() as source:  # what was green is what is mutated, whatever is edited meanwhile
        red = red_with_every_rule_on(source, chosen)
        if red:
            return 1
        with ThreadPoolExecutor(AT_ONCE) as pool:
            tried = [told(one) for one in pool.map(partial(attempt, source=source), chosen)]
    write(tried)
    missed = sum(not one.is_caught for one in tried)
    say(f"{len(tried)} rules switched off, {missed} not noticed; {REPORT}")
    return 1 if missed else 0


def red_with_every_rule_on(source: Path, chosen: Sequence[Mutation]) -> int:
    """How many of the same tests are not green on the product as it is."""
    tests = sorted({test for mutation in chosen for test in mutation.caught_by})
    red = {test: ended for test, ended in run_tests(source, tests).items() if ended.how != "passed"}
    for test, ended in red.items():
        say(f"{ended.how} with every rule on: {test}: {ended.says[:SAYS_CHARACTERS]}")
    return len(red)


def told(tried: Tried) -> Tried:
    """Print what became of a mutation."""
    say(f"{'caught' if tried.is_caught else 'NOT CAUGHT'}  {tried.mutation.name} ({tried.mutation.protocol}; {tried.seconds:.0f} s)")
    for test, ended in tried.ended.items():
        say(f"    {'by' if ended.how == 'failed' else ended.how} {test.removeprefix('tests/integration/')}: {ended.says[:SAYS_CHARACTERS]}")
    return tried


def write(tried: Sequence[Tried]) -> None:
    """The same as a file."""
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps([_row(one) for one in tried], ensure_ascii=False, indent=1) + "\n", "utf-8")


def _row(tried: Tried) -> dict[str, object]:
    mutation: Mutation = tried.mutation
    return {
        "guard": mutation.guard, "place": mutation.place, "protocol": mutation.protocol, "files": [edit.file for edit in mutation.edits],
        "caught": tried.is_caught, "by": {test: asdict(ended) for test, ended in tried.ended.items()}, "seconds": round(tried.seconds, 1),
    }  # fmt: skip


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
