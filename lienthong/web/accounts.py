"""Local accounts of the web page: names, roles, agencies, and passwords kept as Argon2id hashes. The only importer of argon2."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from connectors.postgres import Connection, Cursor, one, rows, transaction
from lienthong.errors import ConfigError

ROLES = ("viewer", "operator", "auditor")
"""Who looks; who acts besides; who sees besides what others looked at."""

PASSWORD_MIN_CHARACTERS = 12
PASSWORD_MAX_CHARACTERS = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASHER = PasswordHasher()  # Argon2id with the second recommendation of RFC 9106 §4: 64 MiB, three passes

_TURNS = BoundedSemaphore(2)  # each costs 64 MiB and a processor: a flood of tries must not take the machine


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may log in; without agencies the whole city is to be seen."""

    name: str
    role: str
    agencies: tuple[str, ...] = ()


def made_password() -> str:
    """A password nobody can guess, for an account whose owner changes it."""
    return secrets.token_urlsafe(15)


def add(hub: Connection, account: Account, password: str) -> None:
    """Make an account; raises `ConfigError` for one that exists, a name or role that is none, and a weak password."""
    if not _NAME.fullmatch(account.name):
        raise ConfigError("a name has up to 64 letters, digits and . _ @ -, and begins with a letter or digit")
    if account.role not in ROLES:
        raise ConfigError(f"no role {account.role}: there are {', '.join(ROLES)}")
    stored = _hashed(password)
    with transaction(hub) as cursor:
        made = rows(
            cursor,
            "INSERT INTO hub.web_user (name, password, role, agencies) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING name",
            [account.name, stored, account.role, list(account.agencies)],
        )
    if not made:
        raise ConfigError(f"there is an account {account.name} already: `lienthong web user password` changes its password")


def remove(hub: Connection, name: str) -> None:
    """End an account and its sessions; raises `ConfigError` where there is none."""
    with transaction(hub) as cursor:
        gone = rows(cursor, "DELETE FROM hub.web_user WHERE name = %s RETURNING name", [name])
        _end_sessions(cursor, name)
    _must_be(gone, name)


def change_password(hub: Connection, name: str, password: str) -> None:
    """Give an account another password and end its sessions; raises `ConfigError` where there is none."""
    with transaction(hub) as cursor:
        changed = rows(
            cursor,
            "UPDATE hub.web_user SET password = %s, changed_at = clock_timestamp() WHERE name = %s RETURNING name",
            [_hashed(password), name],
        )
        _end_sessions(cursor, name)
    _must_be(changed, name)


def listing(hub: Connection) -> list[Account]:
    """All accounts by name."""
    with transaction(hub) as cursor:
        found = rows(cursor, "SELECT name, role, agencies FROM hub.web_user ORDER BY name")
    return [Account(name, role, tuple(agencies)) for name, role, agencies in found]


def is_known(cursor: Cursor, name: str) -> bool:
    """Whether there is such an account."""
    return one(cursor, "SELECT 1 FROM hub.web_user WHERE name = %s", [name]) is not None


def verified(cursor: Cursor, name: str, password: str) -> Account | None:
    """The account, when the password is its own; takes as long for a name that is none."""
    found = one(cursor, "SELECT password, role, agencies FROM hub.web_user WHERE name = %s", [name])
    if not _is_right(found[0] if found else _nobodys(), password[:PASSWORD_MAX_CHARACTERS]) or found is None:
        return None
    if _HASHER.check_needs_rehash(found[0]):
        cursor.execute("UPDATE hub.web_user SET password = %s WHERE name = %s", [_HASHER.hash(password), name])
    return Account(name, found[1], tuple(found[2]))


def _is_right(stored: str, password: str) -> bool:
    try:
        with _TURNS:
            return _HASHER.verify(stored, password)
    except (Argon2Error, InvalidHashError):
        return False


@cache
def _nobodys() -> str:
    return _HASHER.hash(secrets.token_urlsafe(16))


def _hashed(password: str) -> str:
    if not PASSWORD_MIN_CHARACTERS <= len(password) <= PASSWORD_MAX_CHARACTERS:
        raise ConfigError(f"a password has at least {PASSWORD_MIN_CHARACTERS} characters and at most {PASSWORD_MAX_CHARACTERS}")
    return _HASHER.hash(password)


def _end_sessions(cursor: Cursor, name: str) -> None:
    cursor.execute("DELETE FROM hub.web_session WHERE name = %s AND origin = 'local'", [name])


def _must_be(found: Sequence[object], name: str) -> None:
    if not found:
        raise ConfigError(f"there is no account {name}: `lienthong web user list` shows all")
