"""The keys of certificates: one secret Ed25519 key signs, its public key is given to whoever verifies."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lienthong.errors import ConfigError

KEY_NAME = "LIENTHONG_CERTIFICATE_KEY"
_HOW = "make one with `lienthong certificate key`, and keep it: with another key a new chain of trust begins"

PublicKeys = dict[str, Ed25519PublicKey]


def new_key() -> str:
    """A fresh secret key as text: 32 bytes in base64."""
    return base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()


class Signer:
    """Signs bodies with the secret key; raises `ConfigError` when there is none or it is not one."""

    def __init__(self, key: str | None) -> None:
        if not key:
            raise ConfigError(f"certificates are signed with the key in {KEY_NAME}, which is not set: {_HOW}")
        try:
            self._key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(key.strip(), validate=True))
        except (ValueError, binascii.Error):
            raise ConfigError(f"{KEY_NAME} is not a secret Ed25519 key (32 bytes in base64): {_HOW}") from None
        self.name = name_of(self._key.public_key())

    def sign(self, body: str) -> bytes:
        """The signature over a body in UTF-8: 64 bytes."""
        return self._key.sign(body.encode())

    def public_keys(self) -> PublicKeys:
        """The public key, by name: what its own certificates are verified with."""
        return {self.name: self._key.public_key()}

    def public_pem(self) -> str:
        """The public key as PEM, for whoever verifies."""
        made = self._key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return made.decode()


def name_of(key: Ed25519PublicKey) -> str:
    """What a public key is called: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return sha256(key.public_bytes_raw()).hexdigest()[:16]


def public_keys(files: Iterable[Path]) -> PublicKeys:
    """Public keys from PEM files, by name; raises `ConfigError`."""
    found: PublicKeys = {}
    for file in files:
        try:
            key = serialization.load_pem_public_key(file.read_bytes())
        except OSError as error:
            raise ConfigError(f"the public key {file} cannot be read: {error.strerror}") from None
        except ValueError:
            raise ConfigError(f"{file} holds no public key in PEM: `lienthong certificate public-key` prints it") from None
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigError(f"{file} holds another kind of key than Ed25519")
        found[name_of(key)] = key
    return found


def is_signed(key: Ed25519PublicKey, body: str, signature: bytes) -> bool:
    """Whether the signature over a body is this key's."""
    try:
        key.verify(signature, body.encode())
    except InvalidSignature:
        return False
    return True
