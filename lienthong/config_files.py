"""YAML files as plain values that remember the line and column of every key, and what was written in quotes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lienthong.problems import Problem

Step = str | int
Path_ = tuple[Step, ...]

NODES_MAX = 200_000
"""Aliases can make a small file large; no configuration of a city comes near this."""

SIZE_MAX_BYTES = 4 * 1024 * 1024

MERGE = "tag:yaml.org,2002:merge"


@dataclass(slots=True, kw_only=True)
class Document:
    """One file: its plain value, the position of every path in it, and the problems met while reading it."""

    file: str
    value: object = None
    places: dict[Path_, tuple[int, int]] = field(default_factory=dict)
    unquoted: set[Path_] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path_) -> tuple[int, int]:
        """Line and column (from 1) of a path; of its nearest parent where the path itself is not in the file."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def problem(self, path: Path_, code: str, message: str, hint: str = "") -> Problem:
        """A problem at a path of this file."""
        line, column = self.place(path)
        return Problem(file=self.file, line=line, column=column, path=dotted(path), code=code, message=message, hint=hint)

    def at(self, path: Path_) -> object:
        """The value at a path, or None."""
        value = self.value
        for step in path:
            value = child(value, step)
        return value


def dotted(path: Path_) -> str:
    """A path as people read it: `systems.ward-a.units[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) and not isinstance(step, bool) else f".{step}"
    return text.removeprefix(".")


def child(value: object, step: Step) -> object:
    """What is under one step of a path, or None."""
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
        return value[step]
    return None


def read_document(path: Path, label: str) -> Document:
    """Read one YAML 1.2 file; what cannot be read becomes a problem of the document, never an exception."""
    document = Document(file=label)
    try:
        text = _read_text(path)
        node = _yaml().compose(text)
        if not isinstance(node, MappingNode):
            document.problems.append(document.problem((), "CFG-EMPTY", "the file holds no mapping of keys to values"))
            return document
        document.value = _Builder(document).build(node, ())
    except FileNotFoundError:
        hint = f"looked for {path}; docs/configuration.md says what it holds"
        document.problems.append(document.problem((), "CFG-FILE", "the file does not exist", hint))
    except OSError as error:
        document.problems.append(document.problem((), "CFG-FILE", f"the file cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        document.problems.append(document.problem((), "CFG-FILE", f"the file is not UTF-8 at byte {error.start}"))
    except ValueError as error:
        document.problems.append(document.problem((), "CFG-FILE", str(error)))
    except YAMLError as error:
        document.problems.append(_syntax_problem(label, error))
    return document


def _read_text(path: Path) -> str:
    raw = path.read_bytes()
    if len(raw) > SIZE_MAX_BYTES:
        raise ValueError(f"the file is larger than {SIZE_MAX_BYTES} bytes")
    return raw.decode("utf-8-sig")


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = "1.2"
    return yaml


def _syntax_problem(label: str, error: YAMLError) -> Problem:
    mark = (error.problem_mark or error.context_mark) if isinstance(error, MarkedYAMLError) else None
    what = str(getattr(error, "problem", None) or "not valid YAML").strip()
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return Problem(file=label, line=line, column=column, path="", code="CFG-YAML", message=f"not valid YAML: {what}")


class _Builder:
    """Turns composed nodes into plain values and notes positions and quotes on the way."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.constructor = _yaml().constructor
        self.nodes = 0

    def build(self, node: Node, path: Path_) -> object:
        self.nodes += 1
        if self.nodes > NODES_MAX or len(path) > 40:
            raise ValueError("the file is too deep or too large (aliases that repeat each other?)")
        self.document.places.setdefault(path, _mark(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path_) -> dict[object, object]:
        result: dict[object, object] = {}
        own: set[object] = set()
        for key_node, value_node in _pairs(node):
            key = self._key(key_node, path)
            inside = (*path, key)
            if key in own:
                message = f"the key is given twice, first in line {self.document.places[inside][0]}"
                self._note(key_node, dotted(inside), "CFG-TWICE", message, "delete one of them")
                continue
            own.add(key)
            self.document.places[inside] = _mark(key_node)
            result[key] = self.build(value_node, inside)
        return result

    def _key(self, node: Node, path: Path_) -> Step:
        key = self._scalar(node, (*path, "?")) if isinstance(node, ScalarNode) else None
        if isinstance(key, str | int):
            return key
        self._note(node, dotted(path), "CFG-KEY", "a key must be a word or a whole number", "put it in quotes")
        return str(getattr(node, "value", "?"))

    def _note(self, node: Node, path: str, *words: str) -> None:
        (line, column), (code, message, hint) = _mark(node), words
        self.document.problems.append(Problem(file=self.document.file, line=line, column=column, path=path, code=code, message=message, hint=hint))

    def _scalar(self, node: Node, path: Path_) -> object:
        if isinstance(node, ScalarNode) and node.style is None:
            self.document.unquoted.add(path)
            if _loses_zeros(node):
                place = dotted(path).removesuffix(".?")
                message = f"{node.value} would be read as a number and lose its leading zeros"
                self._note(node, place, "CFG-QUOTE", message, "put it in quotes")
        return self.constructor.construct_object(node, deep=True)


def _loses_zeros(node: Node) -> bool:
    text = str(node.value)
    return text.isdigit() and len(text) > 1 and text.startswith("0")


def _pairs(node: MappingNode) -> Iterator[tuple[Node, Node]]:
    """The pairs of a mapping: its own first, then those merged with `<<` that it does not have itself."""
    merged: list[tuple[Node, Node]] = []
    own: set[str] = set()
    for key, value in node.value:
        if key.tag == MERGE:
            for one in value.value if isinstance(value, SequenceNode) else [value]:
                merged += _pairs(one) if isinstance(one, MappingNode) else []
        else:
            own.add(str(key.value))
            yield key, value
    for key, value in merged:
        if str(key.value) not in own:
            own.add(str(key.value))
            yield key, value


def _mark(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
