"""What a reading yields: packed contributions and notes, in frames, each for the partition of its root record (design §3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

import schemas
from lienthong import frames
from lienthong.frames import FrameBuilder, Header, Kind

REFUSED_AT_ONCE = 50
SET_BYTES_MAX = frames.ENTRY_BYTES_MAX // 2  # of the keys in one note


@dataclass(slots=True)
class Output:
    """What a reading yields: per partition the packed contributions of each mask, and notes.

    With `send`, frames go there as they fill, so that a reading of any size takes little memory; else they are kept in `frames`.
    """

    partitions: int
    system: str
    epoch: int
    version: int
    at: int
    send: Callable[[int, bytes], None] | None = None
    builders: dict[tuple[str, int, int], FrameBuilder] = field(default_factory=dict)
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    refused: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)
    sets: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)
    set_parts: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)
    records: int = 0

    def add(self, entity: str, root: str, mask: int, packed: bytes) -> None:
        """Put one contribution into the frame of its partition."""
        partition = frames.partition_of(self.system, root, self.partitions)
        key = (entity, partition, mask)
        builder = self.builders.get(key)
        if builder is None:
            builder = self.builders[key] = FrameBuilder(Header(self.system, entity, "records", self.epoch, self.version, mask, self.at))
        done = builder.add(packed)
        if done is not None:
            self.emit(partition, done)
        self.records += 1

    def emit(self, partition: int, frame: bytes) -> None:
        """A frame is complete."""
        if self.send is None:
            self.frames.append((partition, frame))
        else:
            self.send(partition, frame)

    def refuse(self, entity: str, root: str, content: dict[str, Any]) -> None:
        """Put one refusal; they hold whole rows, so only a few are kept before they go."""
        place = (entity, frames.partition_of(self.system, root, self.partitions))
        kept = self.refused.setdefault(place, [])
        kept.append(content)
        self.records += 1
        if len(kept) >= REFUSED_AT_ONCE:
            self._close_notes("refused", *place, self.refused.pop(place))

    def note_set(self, entity: str, root: str, keys: Sequence[str]) -> None:
        """Name all children of a root; a list that no message carries goes in parts, each of which says for itself who is gone."""
        content = {"root": root, "keys": list(keys)}
        place = (entity, frames.partition_of(self.system, root, self.partitions))
        if len(orjson.dumps(content)) <= SET_BYTES_MAX:
            self.sets.setdefault(place, []).append(content)
        else:
            self.set_parts.setdefault(place, []).extend(_parts(root, keys))

    def close(self) -> list[tuple[int, bytes]]:
        """All frames that were kept: parents before children, contributions before sets."""
        order = {entity: place for place, entity in enumerate(schemas.ENTITIES)}
        for (_, partition, _), builder in sorted(self.builders.items(), key=lambda kv: order[kv[0][0]]):
            done = builder.close()
            if done is not None:
                self.emit(partition, done)
        for (entity, partition), contents in self.refused.items():
            self._close_notes("refused", entity, partition, contents)
        for (entity, partition), contents in self.sets.items():
            self._close_notes("set", entity, partition, contents)
        for (entity, partition), contents in self.set_parts.items():
            self._close_notes("set_part", entity, partition, contents)
        self.builders, self.refused, self.sets, self.set_parts = {}, {}, {}, {}
        return self.frames

    def _close_notes(self, kind: Kind, entity: str, partition: int, contents: Sequence[dict[str, Any]]) -> None:
        header = Header(self.system, entity, kind, self.epoch, self.version, 0, self.at)
        for frame in frames.note_frame(header, contents):
            self.emit(partition, frame)


def _parts(root: str, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The children between two keys, `above` < key <= `through`, in the order of code points; None is open."""
    part: list[str] = []
    above, size = None, 0
    for key in sorted(keys):
        if size > SET_BYTES_MAX:
            yield {"root": root, "keys": part, "above": above, "through": part[-1]}
            above, part, size = part[-1], [], 0
        part.append(key)
        size += len(orjson.dumps(key)) + 1
    yield {"root": root, "keys": part, "above": above, "through": None}
