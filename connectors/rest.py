"""The door to JSON services: an object goes out, an object comes back, or it is not known what became of the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson

from connectors.http import HttpDoor, UnknownOutcome

_SERVER_ERRORS = 500


@dataclass(frozen=True, slots=True)
class Reply:
    """A JSON object and the HTTP status it came with."""

    status: int
    document: dict[str, Any]


class RestDoor:
    """Requests to one JSON service."""

    def __init__(self, door: HttpDoor) -> None:
        self._door = door

    def call(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None = None,
        *,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a JSON object, a form or plain bytes; raises what `HttpDoor.send` raises, and `UnknownOutcome` for anything but an object.

        A server error (HTTP 500 and more) says nothing about what was processed before it, whatever its body says.
        """
        body, kind = b"", None
        if document is not None:
            body, kind = orjson.dumps(document), "application/json; charset=utf-8"
        elif form is not None:
            body, kind = urlencode(form).encode(), "application/x-www-form-urlencoded"
        elif content is not None:
            body, kind = content, "application/octet-stream"
        sent = {"accept": "application/json", **({"content-type": kind} if kind else {}), **(headers or {})}
        answer = self._door.send(method, path, headers=sent, content=body)
        if answer.status >= _SERVER_ERRORS:
            raise UnknownOutcome(f"the service failed (HTTP {answer.status})")
        return Reply(answer.status, _object(answer.status, answer.body))

    def close(self) -> None:
        """Drop all connections."""
        self._door.close()


def _object(status: int, body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise UnknownOutcome(f"an answer that is no JSON object (HTTP {status}, {len(body):,} bytes)")
    return found
