"""The demo's own judgement of steps that were made from a status column: counted by the ward's journal, whatever their times are."""

from __future__ import annotations

from typing import Any

import pytest

from lienthong.demo.holdings import Holdings
from lienthong.demo.truth import GROUPS, ONE_STOP, PORTAL
from lienthong.demo.verify import JOURNAL, Row, judge

CODE = "H29.27232-261116-0001"
FILED, NOW = 1_763_254_800, 1_763_900_000  # 2025-11-16; when the clerk works: the time of a commit, in whole seconds
DOSSIER = dict.fromkeys([name for group in ("routing", "intake", "processing", "result", "payment") for name in GROUPS[group]]) | {
    "local_code": CODE, "procedure_code": "1.001", "submitted_at": FILED, "applicant_name": "A", "status": 4, "status_at": FILED + 3,
    "receiving_agency_code": "H29.27232", "processing_agency_code": "H29.27232", "processing_unit_code": "27232",
}  # fmt: skip
LINES = ((1, FILED), (4, FILED + 1), (5, FILED + 2), (4, FILED + 3))  # the clerk asks for a paper and has it within a second


def step(status: int, at: int, **named: Any) -> dict[str, Any]:
    return {"code": CODE, "status": status, "occurred_at": at, "handler_name": None, "agency_code": None, "note": None, **named}


def steps_of(*steps: dict[str, Any]) -> dict[str, Row]:
    """The judgement of the steps at the portal and at the one-stop, which hold these."""
    holdings: Holdings = {
        system: {"dossier": [dict(DOSSIER)], "citizen": [], "procedure": [], "dossier_event": [dict(one) for one in steps]}
        for system in (PORTAL, ONE_STOP)
    }
    holdings[JOURNAL] = {"dossier": [dict(DOSSIER)], "citizen": [], "journal": [step(*line) for line in LINES]}
    empty: dict[str, list[dict[str, Any]]] = {"dossier": [], "citizen": [], "procedure": []}
    for other in ("dept-justice", "ward-tan-dinh", "ward-sai-gon"):
        holdings[other] = dict(empty)
    return {row.system: row for row in judge(holdings) if row.entity == "dossier_event"}


RIGHT = (step(1, NOW), step(4, NOW), step(5, NOW), step(4, NOW))


def test_two_steps_to_one_status_in_one_second_are_two() -> None:
    found = steps_of(*RIGHT)
    assert set(found) == {PORTAL, ONE_STOP}
    assert all(row.right and row.expected == 3 for row in found.values()), found  # the first line may be the row's arrival


@pytest.mark.parametrize(
    ("held", "missing", "extra"),
    [(RIGHT[:3], 1, 0), ((*RIGHT, step(4, NOW)), 0, 1), ((*RIGHT[:3], step(9, NOW)), 1, 1), ((*RIGHT, step(4, NOW, note="x")), 0, 1)],
    ids=["one too few", "one too many", "another", "one that no column made"],
)
def test_a_step_too_many_or_too_few_is_still_seen(held: tuple[dict[str, Any], ...], missing: int, extra: int) -> None:
    for row in steps_of(*held).values():
        assert (row.missing, row.extra) == (missing, extra), row
