"""Parked records through the normal path again, within a budget."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from lienthong.errors import TransientError
from lienthong.flows import FoundWrong, flow, settings
from lienthong.parked import Wanted
from lienthong.parked_desk import Desk
from lienthong.parked_replay import Order, Replayer, in_order, meaning
from lienthong.vault import Vault

logger = logging.getLogger(__name__)

KINDS = ("refused", "held", "damaged", "apply")  # links and ghosts are decided one by one


@flow
def replay(which: Mapping[str, Any], *, budget: int, why: str, officer: str, dry_run: bool) -> dict[str, int]:
    """Replay what is parked and fits, in the order received for each key; raises `FoundWrong` when something of it stays parked.

    `which`: kind (one of `KINDS`), system, entity and reason (or None), older_than_minutes.
    """
    age = which["older_than_minutes"] * 60.0
    wanted = Wanted(**{name: which[name] for name in ("kind", "system", "entity", "reason")}, older_seconds=age, limit=budget)
    desk = Desk(settings(), Vault.from_environment(), officer)
    try:
        found = desk.find(wanted)
        away = sorted({record["system"] for record in found if record["id"] is None})
        records = in_order([record for record in found if record["id"] is not None])[:budget]
        order = Order(budget=budget, why=why)
        logger.info("%s parked records chosen, the budget is %s", len(records), budget)
        if dry_run:
            said = Counter(f"{record['system']} {record['entity']} {record['reason']}: would {meaning(record, order)}" for record in records)
            for words, n in sorted(said.items()):
                logger.info("%s × %s", n, words)
            return {"chosen": len(records), "replayed": 0}
        outcomes = _replay(desk, records, order)
    finally:
        desk.close()
    wrong = len(records) - outcomes["fine"]
    if away:
        raise TransientError(f"{', '.join(away)} cannot be reached, so what is parked there is left; {outcomes['fine']} others were replayed")
    if wrong:
        raise FoundWrong(f"{wrong} of {len(records)} stay parked: lienthong parked list")
    return {"chosen": len(records), "replayed": outcomes["fine"]}


def _replay(desk: Desk, records: list[dict[str, Any]], order: Order) -> Counter[str]:
    outcomes: Counter[str] = Counter(fine=0)
    replayer = Replayer(desk)
    try:
        for result in replayer.run(records, order):
            outcomes["fine"] += result.fine
            logger.info("%s %s %s: %s", result.record["ref"], result.record["system"], result.record["entity"], result.outcome)
    finally:
        replayer.close()
    return outcomes
