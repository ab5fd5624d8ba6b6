"""Loading a system by key ranges: each range is a task of its own, done once whoever does it and however often."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import schemas
from lienthong import run
from lienthong.errors import ConfigError
from lienthong.flows import FoundWrong, flow, settings
from lienthong.load import Loader
from lienthong.load_chunks import RangeSize
from lienthong.settings import Settings
from lienthong.vault import Vault

logger = logging.getLogger(__name__)

RANGES_MAX = 300  # of an entity: a scheduler keeps a row for each


@flow
def plan(
    system: str, *, entities: Sequence[str], low: str | None, high: str | None, anew: bool, dry_run: bool, rows: int | None = None
) -> list[dict[str, Any]]:
    """The key ranges to load, parents before children; those that an interrupted load has left, unless `anew`. A dry run returns none.

    `rows`: how many a range has, unless that made too many ranges.
    """
    configured = settings()
    if system not in configured.systems:
        raise ConfigError(f"no system {system}: there are {', '.join(configured.with_database())}")
    if low is not None or high is not None:
        _check_range(configured, system, entities)
    run.prepare(configured)
    with _loader(configured, system) as loader:
        loader.reach()
        chunks = loader.plan(entities=entities, low=low, high=high, anew=anew, dry_run=dry_run, size=RangeSize(rows, RANGES_MAX))
    for entity in dict.fromkeys(chunk.entity for chunk in chunks):
        of_entity = [chunk.rows for chunk in chunks if chunk.entity == entity]
        logger.info("%s %s: %s rows in %s key ranges%s", system, entity, sum(of_entity), len(of_entity), " would be read" if dry_run else "")
    return [] if dry_run else [{"entity": c.entity, "number": c.number, "plan": c.plan, "rows": c.rows} for c in chunks]


@flow
def load(system: str, entity: str, number: int, plan: int, rows: int) -> int:
    """Read one key range and publish it, again where it was read before; returns how many records and refusals it sent."""
    with _loader(settings(), system) as loader:
        records = loader.load_chunk(entity, number, plan)
    logger.info("%s %s, range %s: %s records sent of %s rows planned", system, entity, number, records, rows)
    return records


@flow
def finish(system: str, counts: Sequence[int], *, is_part: bool) -> dict[str, Any]:
    """Say that a system is loaded: from then on it is sent what others know. A part of it ends without that."""
    configured = settings()
    if not is_part:
        with _loader(configured, system) as loader:
            if not loader.complete(sum(counts)):
                raise FoundWrong(f"{system}: some key ranges are not loaded; run the failed ones again, or begin again without `anew`")
    logger.info("%s: %s records sent; refused ones: lienthong parked list --system %s", system, sum(counts), system)
    return {"system": system, "records": sum(counts)}


def _check_range(configured: Settings, system: str, entities: Sequence[str]) -> None:
    """A key range is shown and kept by the scheduler: it must not be a person's data."""
    if len(entities) != 1:
        raise ConfigError("give exactly one entity together with a key range")
    mapping = configured.profile_of(system).entities.get(entities[0])
    if mapping is None:
        raise ConfigError(f"{system} has no {entities[0]}")
    fields = [name for name, spec in mapping.fields.items() if spec.column in mapping.key]
    personal = [name for name in fields if schemas.field(entities[0], name).pii != "public"]
    if personal:
        raise ConfigError(f"{entities[0]} of {system} is keyed by {', '.join(personal)}, which is personal data: load the whole entity")


@contextmanager
def _loader(configured: Settings, system: str) -> Iterator[Loader]:
    loader = Loader(configured, system, Vault.from_environment())
    try:
        yield loader
    finally:
        loader.close()
