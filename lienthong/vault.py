"""Payloads of refused and parked records: encrypted with a key from the environment where one is configured."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from lienthong.errors import ConfigError

KEY_NAME = "LIENTHONG_PARKED_KEY"
_PLAIN, _SEALED = b"\x00", b"\x01"


def secret(name: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The secret in a variable, or in the file that it names as `file:/path`; raises `ConfigError` for a file that cannot be read or is empty."""
    value = environment.get(name)
    if value is None or not value.startswith("file:"):
        return value
    place = Path(value.removeprefix("file:"))
    try:
        text = place.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text:
        raise ConfigError(f"{name} names the file {place}, which cannot be read or is empty: mount it, or put the key into the variable")
    return text


class Vault:
    """Seals and opens payloads; without a key they are stored plain, behind the hub's access rights alone."""

    def __init__(self, key: str | None) -> None:
        try:
            self._fernet = Fernet(key.encode()) if key else None
            self._key = key.encode() if key else None
        except ValueError:
            raise ConfigError(f"{KEY_NAME} is not a Fernet key: make one with `lienthong config parked-key`") from None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Vault:
        """With the key in `LIENTHONG_PARKED_KEY`, or in the file that it names, if it is set."""
        return cls(secret(KEY_NAME, environment))

    def seal(self, payload: bytes) -> bytes:
        """The stored form of a payload."""
        return _SEALED + self._fernet.encrypt(payload) if self._fernet else _PLAIN + payload

    def pseudonym(self, kind: str, text: str) -> str:
        """The same name for the same text, from which only who has the key can tell it; 32 hexadecimal digits.

        Raises `ConfigError` without a key: of a number there are few enough to try them all.
        """
        if self._key is None:
            raise ConfigError(f"people are looked up under pseudonyms: set {KEY_NAME} (make one with `lienthong config parked-key`)")
        return hmac.digest(self._key, f"{kind}:{text}".encode(), "sha256").hex()[:32]

    def open(self, stored: bytes) -> bytes:
        """The payload; raises `ConfigError` when the key is missing or another one."""
        if stored[:1] == _PLAIN:
            return stored[1:]
        if self._fernet is None:
            raise ConfigError(f"this payload is encrypted: set {KEY_NAME}")
        try:
            return self._fernet.decrypt(stored[1:])
        except InvalidToken:
            raise ConfigError(f"this payload was encrypted with another {KEY_NAME}") from None
