"""Certificates on their topic, in the order of the chain; anybody may read them there."""

from __future__ import annotations

from connectors.kafka import Admin, Producer
from connectors.postgres import Connection, rows, transaction
from lienthong.certificates.form import Signed
from lienthong.settings import Settings

TOPIC = "lienthong.certificates"
TYPE = b"lienthong.certificate.1"


def publish(settings: Settings, hub: Connection) -> int:
    """Send what has not been sent; returns how many. After a crash in between the same certificates are sent again."""
    with transaction(hub) as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('lienthong.certificate publish'))")
        found = rows(
            cursor,
            """SELECT number, system, entity, day::text, body, key, signature FROM hub.certificate
               WHERE NOT is_published ORDER BY number""",
        )
        if not found:
            return 0
        _ensure_topic(settings)
        producer = Producer(settings.kafka.brokers, client_id="lienthong-certificate")
        try:
            for number, system, entity, day, body, key, signature in found:
                headers = [("ce_specversion", b"1.0"), ("ce_type", TYPE), ("ce_id", str(number).encode()), ("ce_source", system.encode())]
                value = Signed(body, key, bytes(signature)).line()
                producer.send(TOPIC, value, key=f"{system}:{entity}:{day}".encode(), partition=0, headers=headers)
            producer.flush()
        finally:
            producer.close()
        cursor.execute("UPDATE hub.certificate SET is_published = true WHERE number = ANY(%s)", [[row[0] for row in found]])
    return len(found)


def _ensure_topic(settings: Settings) -> None:
    """One partition, kept for ever, not compacted: a chain with a gap proves nothing."""
    kept = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    if settings.kafka.replication > 2:
        kept["min.insync.replicas"] = "2"
    admin = Admin(settings.kafka.brokers)
    try:
        admin.ensure({TOPIC: 1}, replication=settings.kafka.replication, settings=kept)
    finally:
        admin.close()
