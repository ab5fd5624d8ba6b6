"""Who is logged in, kept in the hub, so that a log-out is one and several servers know the same; and the limit of tries."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from connectors.postgres import Cursor, one, rows
from lienthong.web import accounts
from lienthong.web.accounts import Account

IDLE_MINUTES = 30
LONGEST_HOURS = 12
HANDSHAKE_MINUTES = 10
EVENTS_KEPT_DAYS = 365

TRIES_WINDOW_MINUTES = 15
TRIES_OF_BOTH = 5
TRIES_OF_ADDRESS = 20
TRIES_OF_NAME = 50
"""From one address for one name; from one address; for one name from anywhere. The last is high, so that nobody is locked out by others easily."""

_FIND = """
UPDATE hub.web_session SET seen_at = clock_timestamp() WHERE token = %(token)s
  AND seen_at > clock_timestamp() - %(idle)s * INTERVAL '1 minute' AND created_at > clock_timestamp() - %(longest)s * INTERVAL '1 hour'
RETURNING name, origin, role, agencies, form
"""
_FAILED = """
SELECT count(*) FILTER (WHERE name = %(name)s AND address = %(address)s AND at > coalesce(
    (SELECT max(at) FROM hub.web_event WHERE name = %(name)s AND address = %(address)s AND what = 'in'), '-infinity')),
  count(*) FILTER (WHERE address = %(address)s), count(*) FILTER (WHERE name = %(name)s)
FROM hub.web_event WHERE (name = %(name)s OR address = %(address)s) AND what = 'refused'
  AND at > clock_timestamp() - %(window)s * INTERVAL '1 minute'
"""


@dataclass(frozen=True, slots=True)
class Session:
    """One person's log-in."""

    account: Account
    origin: str
    form: str


def digest(token: str) -> bytes:
    """What the hub keeps of a token: who reads the table can log in as nobody."""
    return sha256(token.encode()).digest()


def begin(cursor: Cursor, account: Account, origin: str) -> str:
    """Log somebody in; returns the token for the browser. Old sessions and events are cleared away."""
    token = secrets.token_urlsafe(32)
    cursor.execute("DELETE FROM hub.web_session WHERE created_at < clock_timestamp() - %s * INTERVAL '1 hour'", [LONGEST_HOURS])
    cursor.execute("DELETE FROM hub.web_event WHERE at < clock_timestamp() - %s * INTERVAL '1 day'", [EVENTS_KEPT_DAYS])
    cursor.execute(
        "INSERT INTO hub.web_session (token, name, origin, role, agencies, form) VALUES (%s, %s, %s, %s, %s, %s)",
        [digest(token), account.name, origin, account.role, list(account.agencies), secrets.token_urlsafe(24)],
    )
    return token


def find(cursor: Cursor, token: str | None) -> Session | None:
    """The session of a token, unless it was idle or lasted too long."""
    if not token:
        return None
    found = one(cursor, _FIND, {"token": digest(token), "idle": IDLE_MINUTES, "longest": LONGEST_HOURS})
    if found is None:
        return None
    name, origin, role, agencies, form = found
    return Session(Account(name, role, tuple(agencies)), origin, form)


def end(cursor: Cursor, token: str | None) -> None:
    """Log out."""
    if token:
        cursor.execute("DELETE FROM hub.web_session WHERE token = %s", [digest(token)])


# ------------------------------------------------------------------ tries
def note(cursor: Cursor, name: str, address: str, what: str) -> int:
    """Record a log-in, a refused one, or a log-out; returns the number of the entry."""
    found = one(cursor, "INSERT INTO hub.web_event (name, address, what) VALUES (%s, %s, %s) RETURNING id", [name, address, what])
    assert found is not None
    return int(found[0])


def went_well(cursor: Cursor, entry: int) -> None:
    """A try is recorded as refused before the password is looked at, so that many at once are counted too; this one was right."""
    cursor.execute("UPDATE hub.web_event SET what = 'in' WHERE id = %s", [entry])


def shown_name(cursor: Cursor, name: str) -> str:
    """The name for the record: people type passwords into the field of the name, so what is no account stands there as a hash."""
    return name if accounts.is_known(cursor, name) else "?" + sha256(name.encode()).hexdigest()[:12]


def is_over_limit(cursor: Cursor, name: str, address: str) -> bool:
    """Whether too many tries of this name, or from this address, were refused of late."""
    found = one(cursor, _FAILED, {"name": name, "address": address, "window": TRIES_WINDOW_MINUTES})
    return found is not None and any(n >= most for n, most in zip(found, (TRIES_OF_BOTH, TRIES_OF_ADDRESS, TRIES_OF_NAME), strict=True))


# ------------------------------------------------------------------ on the way to a provider and back
def keep_handshake(cursor: Cursor, content: dict[str, Any]) -> str:
    """Remember something for ten minutes; returns the token for the browser."""
    token = secrets.token_urlsafe(32)
    cursor.execute("DELETE FROM hub.web_handshake WHERE at < clock_timestamp() - %s * INTERVAL '1 minute'", [HANDSHAKE_MINUTES])
    cursor.execute("INSERT INTO hub.web_handshake (token, content) VALUES (%s, %s)", [digest(token), orjson.dumps(content).decode()])
    return token


def take_handshake(cursor: Cursor, token: str | None) -> dict[str, Any] | None:
    """What was remembered, once."""
    if not token:
        return None
    found = rows(
        cursor,
        "DELETE FROM hub.web_handshake WHERE token = %s RETURNING content, at > clock_timestamp() - %s * INTERVAL '1 minute'",
        [digest(token), HANDSHAKE_MINUTES],
    )
    return dict(found[0][0]) if found and found[0][1] else None
