"""Canonical digests: one for a unified record, whatever the layout it came from, and one for a set of records that can be added up.

A record's digest is BLAKE2b, 128 bits, of its entity, its identity and its unified values: JSON with sorted names, a field without
a value left out. A set's digest is the sum of its records' digests modulo 2^128 together with their number: sums do not depend on
order, parts of a set can be added, and unlike exclusive-or a record that is there twice does not vanish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

BITS = 128
_MODULUS = 1 << BITS


def canonical(entity: str, values: Mapping[str, Any]) -> bytes:
    """The one form of a unified record as bytes: equal for equal values, in whatever layout they were held."""
    return orjson.dumps([entity, {name: value for name, value in values.items() if value is not None}], option=orjson.OPT_SORT_KEYS)


def record_digest(entity: str, record: int | str, values: Mapping[str, Any]) -> int:
    """The digest of one record: `record` is what both sides call it by (the hub's id, or a local key)."""
    named = b"%b\0%b" % (str(record).encode(), canonical(entity, values))  # neither part can hold the byte between them
    return int.from_bytes(blake2b(named, digest_size=BITS // 8).digest(), "big")


@dataclass(slots=True)
class SetDigest:
    """The digest of a set of records, built one by one or from parts."""

    count: int = 0
    total: int = 0

    def add(self, digest: int) -> None:
        """Put a record into the set."""
        self.count += 1
        self.total = (self.total + digest) % _MODULUS

    def remove(self, digest: int) -> None:
        """Take a record out of the set again."""
        self.count -= 1
        self.total = (self.total - digest) % _MODULUS

    def __add__(self, other: SetDigest) -> SetDigest:
        return SetDigest(self.count + other.count, (self.total + other.total) % _MODULUS)

    def hex(self) -> str:
        """As text: the number of records, then 32 hexadecimal digits."""
        return f"{self.count}:{self.total:032x}"


def digest_of(digests: Iterable[int]) -> SetDigest:
    """The digest of a set given by its records' digests."""
    found = SetDigest()
    for digest in digests:
        found.add(digest)
    return found
