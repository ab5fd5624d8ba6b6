"""`python -m tests.faults [--seed S] [--only 1,2,5] [--chaos MINUTES]`: what `make faults` and `make chaos` run."""

from __future__ import annotations

import argparse
import secrets
import sys

from tests.faults.all import FAULTS
from tests.faults.chaos import chaos
from tests.faults.suite import run_all, say


def main() -> int:
    """0: everything was right; 1: something was not."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeat what a run with this seed did")
    parser.add_argument("--only", default="", help="numbers of the matrix, separated by commas")
    parser.add_argument("--chaos", type=float, metavar="MINUTES", help="mix faults at random for so long")
    given = parser.parse_args()
    if given.chaos is not None:
        return 0 if chaos(given.chaos, given.seed) else 1
    wanted = [int(number) for number in given.only.split(",") if number] or sorted(FAULTS)
    rows = run_all([FAULTS[number] for number in wanted], given.seed)
    wrong = [row for row in rows if not row.right]
    say(f"{len(rows)} faults, {len(wrong)} wrong; build/faults.json")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
