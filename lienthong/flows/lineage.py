"""What a task reads and writes, as dataset addresses: `postgres://host:port/database/schema/table` and `kafka://host:port/topic`.

The same names as OpenLineage's own for PostgreSQL and Kafka, so that graphs of other tools join. No user, no password, no record.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from connectors.postgres import address_of
from lienthong import frames
from lienthong.certificates.publish import TOPIC as CERTIFICATES
from lienthong.flows import flow, settings
from lienthong.layout import table_parts
from lienthong.route import topic_of
from lienthong.settings import Settings

Datasets = dict[str, list[str]]


@flow
def of_load(system: str, entity: str) -> Datasets:
    """Of loading one entity of a system: from its tables into the in-topic."""
    configured = settings()
    return {"inputs": _tables(configured, system, [entity]), "outputs": [_topic(configured, frames.TOPIC)]}


@flow
def of_reconcile(system: str) -> Datasets:
    """Of comparing a system: from its tables and the hub's records into the hub's list of differences."""
    configured = settings()
    read = [*_tables(configured, system, []), *_hub(configured, "record", "contribution", "entitled")]
    return {"inputs": read, "outputs": _hub(configured, "difference", "proof")}


@flow
def of_repair(systems: Sequence[str]) -> Datasets:
    """Of repairing: from the hub's list of differences into the topics on which records travel."""
    configured = settings()
    topics = [frames.TOPIC, *(topic_of(system) for system in systems if configured.contract_of(system))]
    return {"inputs": _hub(configured, "difference"), "outputs": [_topic(configured, topic) for topic in topics]}


@flow
def of_close(system: str) -> Datasets:
    """Of closing a day: from a system's tables and the hub's counters into the chain of certificates."""
    configured = settings()
    read = [*_tables(configured, system, []), *_hub(configured, "day_count", "entitled")]
    return {"inputs": read, "outputs": [*_hub(configured, "certificate"), _topic(configured, CERTIFICATES)]}


def _tables(configured: Settings, system: str, entities: Sequence[str]) -> list[str]:
    host, port, database = address_of(configured.dsn_of(system))
    found = dict.fromkeys(
        table
        for entity, mapping in configured.profile_of(system).entities.items()
        if not entities or entity in entities
        for table in (mapping.table, *(part.table for part in mapping.parts.values()))
    )
    return [f"postgres://{host}:{port}/{quote(database)}/{'/'.join(quote(part, safe='') for part in table_parts(table))}" for table in found]


def _hub(configured: Settings, *tables: str) -> list[str]:
    host, port, database = address_of(configured.hub.dsn)
    return [f"postgres://{host}:{port}/{quote(database)}/hub/{table}" for table in tables]


def _topic(configured: Settings, topic: str) -> str:
    return f"kafka://{configured.kafka.bootstrap.split(',')[0]}/{topic}"
