"""Closing days, and proving the chain whenever a certificate has been published."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import date
from typing import Any, Protocol

from connectors.kafka import Ends
from connectors.postgres import connect
from lienthong import hub_schema
from lienthong.certificates import chain
from lienthong.certificates.close import Closing
from lienthong.certificates.keys import KEY_NAME, Signer
from lienthong.certificates.publish import TOPIC
from lienthong.certificates.publish import publish as publish_certificates
from lienthong.certificates.verify import verify
from lienthong.errors import TransientError
from lienthong.flows import FoundWrong, changes, flow, settings
from lienthong.hub import named
from lienthong.vault import secret

logger = logging.getLogger(__name__)

WAIT_SECONDS = 120.0
NOT_COMPARED = "not_compared"


class Message(Protocol):
    """A message of the certificates' topic, as a watcher has it."""

    def offset(self) -> int:
        """Its place in the topic."""


@flow
def close(system: str, day: str | None, *, wait_seconds: float = WAIT_SECONDS) -> dict[str, int]:
    """Close one day of a system, or all that are not closed; raises `FoundWrong` when one stays open for what was found."""
    configured = settings()
    signer = Signer(secret(KEY_NAME))
    with named():
        hub_schema.install(configured.hub.dsn)
    with Closing(configured, signer, wait_seconds=wait_seconds, told=changes(logger, "closing:")) as closing:
        closed = closing.run([system], None if day is None else date.fromisoformat(day))
    newest = {(d["system"], d["entity"], d["day"]): d for d in (s.document() for s in [*closed.standing, *closed.issued])}
    reasons = Counter(reason["code"] for d in newest.values() if d["state"] == "open" for reason in d["reasons"])
    logger.info("%s: %s certificates issued, %s as before, open for %s", system, len(closed.issued), len(closed.standing), dict(reasons) or "nothing")
    if closed.failed:
        raise TransientError(f"{system} could not be compared, so its days stay open: {closed.failed[system]}")
    if reasons.keys() - {NOT_COMPARED}:
        said = ", ".join(f"{n} for {code}" for code, n in sorted(reasons.items()))
        raise FoundWrong(f"{system}: certificates stay open, {said}: lienthong certificate list --open --system {system}")
    return {"issued": len(closed.issued), "standing": len(closed.standing)}


@flow
def publish() -> int:
    """Publish the certificates that are not on their topic yet."""
    configured = settings()
    with named():
        connection = connect(configured.hub.dsn, application_name="lienthong certificate")
        try:
            published = publish_certificates(configured, connection)
        finally:
            connection.close()
    logger.info("%s certificates published", published)
    return published


@flow
def verify_chain() -> dict[str, Any]:
    """Check the whole chain as an outsider would, with the public key alone; raises `FoundWrong` naming the first entry that is wrong."""
    configured = settings()
    signer = Signer(secret(KEY_NAME))
    with named():
        connection = connect(configured.hub.dsn, application_name="lienthong certificate")
        try:
            lines = ((f"entry {n}", signed.line()) for n, signed in enumerate(chain.export(connection, 1, None), start=1))
            found = verify(lines, signer.public_keys())
        finally:
            connection.close()
    if found.bad is not None:
        raise FoundWrong(f"{found.bad.place}: {found.bad.certificate or 'not a certificate'}: {found.bad.what}")
    logger.info("%s certificates, numbers %s to %s: all right", found.certificates, found.first, found.last)
    return {"certificates": found.certificates, "last_hash": found.last_hash}


_ends: dict[str, int] = {}


def bell(message: Message) -> dict[str, int] | None:
    """What a watcher passes on of a message: where the last one stands, and nothing it says; None of those before the last.

    Many arrive together when days are closed: one of them rings.
    """
    following = message.offset() + 1
    if following >= _ends.get(TOPIC, 0):
        ends = Ends(settings().kafka.brokers)
        try:
            _ends[TOPIC] = ends.of(TOPIC).get(0, 0)
        finally:
            ends.close()
    return {"offset": message.offset()} if following >= _ends[TOPIC] else None
