"""Local keys: the key columns' texts as one text, and back."""

from __future__ import annotations

from collections.abc import Sequence


def join_key(parts: Sequence[str]) -> str:
    """The local key of key column texts."""
    if len(parts) == 1:
        return parts[0]
    return "|".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in parts)


def split_key(key: str, count: int) -> tuple[str, ...]:
    """The key column texts of a local key."""
    if count == 1:
        return (key,)
    parts, current, escaped = [], [], False
    for character in key:
        if escaped or character not in "\\|":
            current.append(character)
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            parts.append("".join(current))
            current = []
    parts.append("".join(current))
    return tuple(parts)


def root_of(key: str, count: int) -> str:
    """The local key of the root, by the local key of an element of its document (`root|element`) or by its own; `count` columns name a root."""
    if count == 1:
        return key.rpartition("|")[0] or key
    return join_key(split_key(key, count)[:count])


def former_key(key: str | None, epoch: int) -> str:
    """The local key under which the hub keeps what a source said under it in an earlier epoch, before another record got it."""
    return f"{key} (epoch {epoch})"


def is_former(key: str) -> bool:
    """Whether it is such a key: its source has no row under it."""
    return key.endswith(")") and " (epoch " in key
