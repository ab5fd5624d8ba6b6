"""What a restored source has forgotten: records it does not hold any more, and fields that went back to an earlier value (R4)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from connectors.kafka import Ends
from connectors.postgres import Connection, one, rows, transaction
from lienthong import frames
from lienthong.place import merged_up_to
from lienthong.settings import Settings

ALIVE_SECONDS = 10
WAIT_SECONDS = 600.0
POLL_SECONDS = 0.25
LISTED_MAX = 1000

_RECORDS = """
SELECT c.entity, c.local_key, c.record, ARRAY(SELECT e.system FROM hub.entitled e WHERE e.record = c.record AND e.state = 's' AND e.system <> c.system
  ORDER BY 1)
FROM hub.contribution c JOIN hub.capture_state s USING (system) JOIN hub.record r USING (record)
WHERE c.system = %(system)s AND c.op = 's' AND c.epoch < s.epoch AND NOT r.deleted
  AND NOT EXISTS (SELECT FROM hub.record p WHERE p.record = r.parent AND p.deleted)
  AND NOT EXISTS (SELECT FROM hub.contribution n WHERE n.record = c.record AND n.system = c.system AND n.op = 's' AND n.epoch = s.epoch)
  AND NOT EXISTS (SELECT FROM hub.parked k WHERE (k.system, k.entity, k.local_key, k.version) = (c.system, c.entity, c.local_key, c.version)
                  AND k.state = 'kept')
ORDER BY c.entity, c.local_key
"""
_FIELDS = """
SELECT r.entity, c.local_key, h.record, d.fields
FROM (SELECT DISTINCT ON (record) record, version, before FROM hub.history
      WHERE system = %(system)s AND at >= (SELECT epoch_at FROM hub.source_mark WHERE system = %(system)s) ORDER BY record, version) h
JOIN hub.record r USING (record)
JOIN LATERAL (SELECT min(local_key) AS local_key FROM hub.contribution WHERE record = h.record AND system = %(system)s) c ON true
JOIN LATERAL (SELECT array_agg(key ORDER BY key) AS fields FROM (SELECT jsonb_object_keys(h.before) UNION SELECT jsonb_object_keys(r.body)) k (key)
              WHERE h.before -> key IS DISTINCT FROM r.body -> key AND EXISTS (
                SELECT FROM hub.history e WHERE e.record = h.record AND e.version < h.version
                AND e.before -> key IS NOT DISTINCT FROM r.body -> key)) d ON d.fields IS NOT NULL
ORDER BY r.entity, c.local_key
"""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What is missing: records by (entity, local key, record, who holds them); and by (entity, local key, record, names) fields whose value is an
    earlier one again. Never a value.
    """

    records: list[tuple[str, str, int, list[str]]]
    fields: list[tuple[str, str, int, list[str]]]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "records": [{"entity": e, "local_key": k, "record": r, "held_by": h} for e, k, r, h in self.records],
            "fields": [{"entity": e, "local_key": k, "record": r, "fields": f} for e, k, r, f in self.fields],
        }


def forgotten(connection: Connection, system: str) -> Forgotten:
    """What a system's newest life does not know and its earlier one did; complete when the merge has passed the end of its load."""
    with transaction(connection) as cursor:
        return Forgotten(rows(cursor, _RECORDS, {"system": system}), rows(cursor, _FIELDS, {"system": system}))


def wait_merged(settings: Settings, connection: Connection) -> bool:
    """Wait until the merge has taken everything that was sent up to now; false when it does not run, or takes very long."""
    ends = Ends(settings.kafka.brokers)
    try:
        until, sent = time.monotonic() + WAIT_SECONDS, ends.of(frames.TOPIC)
    finally:
        ends.close()
    while not merged_up_to(connection, sent):
        if time.monotonic() > until or not _merge_lives(connection):
            return False
        time.sleep(POLL_SECONDS)
    return True


def _merge_lives(connection: Connection) -> bool:
    with transaction(connection) as cursor:
        found = one(
            cursor, "SELECT 1 FROM hub.line WHERE stage = 'merge' AND beat > clock_timestamp() - %s * INTERVAL '1 second' LIMIT 1", [ALIVE_SECONDS]
        )
    return found is not None
