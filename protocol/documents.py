"""YAML files, read strictly: the core schema of YAML 1.2, and nothing that builds objects.

YAML 1.1, which PyYAML speaks by default, reads ``no`` as false, ``1:30`` as 90 and ``010`` as 8.
Here a plain scalar is null, true or false, a decimal, octal (``0o``) or hexadecimal integer, a
number, or else a text. Anchors, tags of one's own and repeated keys are refused, and every mapping
remembers the lines of its keys, so that later checks can point at them.

Source: YAML 1.2.2, section 10.3 (core schema).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yaml import MarkedYAMLError, Node, YAMLError
from yaml.composer import Composer
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from protocol.errors import InputError

_TAG = "tag:yaml.org,2002:"


class Document(dict[str, Any]):
    """A mapping of a file, with the place where each of its keys stands.

    Args:
        items: What it holds; copies (`dataclasses.asdict`) come without places.
        file: The file's path, as messages show it.
        line: Line of the mapping, from 1; 0 where there is no file.
    """

    __slots__ = ("file", "line", "lines")

    def __init__(
        self, items: Iterable[tuple[str, Any]] = (), *, file: str = "", line: int = 0
    ) -> None:
        super().__init__(items)
        self.file = file
        self.line = line
        self.lines: dict[str, int] = {}


@dataclass(frozen=True)
class Place:
    """Where a value stands: key path, and file and line (0 where there is no file)."""

    path: str
    file: str
    line: int

    def __str__(self) -> str:
        path = self.path or "document"
        return f"{self.file}:{self.line}: {path}" if self.line else path

    def key(self, mapping: Mapping[str, Any], key: object) -> Place:
        """The place of one key of a mapping that stands here."""
        path = f"{self.path}.{key}" if self.path else str(key)
        if isinstance(mapping, Document):
            return Place(path, mapping.file, mapping.lines.get(str(key), mapping.line))
        return Place(path, self.file, self.line)

    def item(self, index: int) -> Place:
        """The place of one item of a list that stands here."""
        return Place(f"{self.path}[{index}]", self.file, self.line)

    def within(self, value: object) -> Place:
        """The same place, on the line where the value itself begins."""
        if isinstance(value, Document):
            return Place(self.path, value.file, value.line)
        return self


class _Composer(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's loader without its constructor: it makes nodes, never objects."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, AliasEvent) or event.anchor is not None:
            raise MarkedYAMLError(
                problem="anchors and aliases are not read; write the value out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Composer.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a file that holds one mapping.

    Returns:
        A `Document`; mappings inside it are documents too.

    Raises:
        InputError: The file cannot be read, is not UTF-8, has bad syntax, repeats a key, uses an
            anchor or a tag, or holds no mapping; the message has file, line and key path.
    """
    text = _read_text(path)
    try:
        node = _Composer(text).get_single_node()
        if not isinstance(node, MappingNode) or node.tag != _TAG + "map":
            raise InputError(f"{path}:1: not a mapping", expected="keys and values")
        return _mapping(node, str(path), "")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"{path}:{mark.line + 1 if mark else 1}: {error.problem}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{path}:{line}: a character that YAML does not allow") from None
    except (YAMLError, RecursionError):
        raise InputError(f"{path}:1: nested too deeply") from None


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read", found=error.strerror) from None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8", remedy="save the file as UTF-8") from None


def _mapping(node: MappingNode, file: str, path: str) -> Document:
    document = Document(file=file, line=node.start_mark.line + 1)
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        place = f"{file}:{line}: {path or 'key'}"
        if not isinstance(key_node, ScalarNode) or key_node.tag != _TAG + "str":
            raise InputError(f"{place}: a key is no text", remedy="put it in quotes")
        key = key_node.value
        if key in document:
            raise InputError(f"{place}: repeated key {key!r}", found=f"line {document.lines[key]}")
        document.lines[key] = line
        document[key] = _value(value_node, file, f"{path}.{key}" if path else key)
    return document


def _value(node: Node, file: str, path: str) -> Any:
    place = f"{file}:{node.start_mark.line + 1}: {path}"
    if node.tag == _TAG + "map" and isinstance(node, MappingNode):
        return _mapping(node, file, path)
    if node.tag == _TAG + "seq" and isinstance(node, SequenceNode):
        return [_value(item, file, f"{path}[{index}]") for index, item in enumerate(node.value)]
    if isinstance(node, ScalarNode):
        return _scalar(node, place)
    raise InputError(f"{place}: unknown tag", found=node.tag, remedy="leave the tag out")


def _scalar(node: ScalarNode, place: str) -> str | int | float | bool | None:
    text: str = node.value
    try:
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
            case "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise InputError(f"{place}: not a number that can be read") from None
    raise InputError(f"{place}: unknown tag", found=node.tag, remedy="leave the tag out")
