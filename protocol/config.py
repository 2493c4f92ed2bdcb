"""The one door between what a person writes or a peer sends and the frozen values the code uses.

A mapping becomes a frozen dataclass or an error that names the file, the line and the key's path.
Nothing behind this door checks types again. Values are never quoted in messages, because a
mapping may hold a password or a key.
"""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from protocol.canonical import from_canonical, to_canonical
from protocol.documents import Document, load_yaml
from protocol.errors import InputError

__all__ = ["Document", "decode", "load_yaml", "parse", "read"]

T = TypeVar("T")


def read(cls: type[T], path: Path) -> T:
    """Build a frozen dataclass from a YAML file.

    Raises:
        InputError: As `load_yaml` and `parse` do, with file, line and key path.
    """
    return parse(cls, load_yaml(path), "")


def decode(cls: type[T], data: bytes, where: str) -> T:
    """Build a frozen dataclass from canonical bytes, so that encoding it gives the same bytes.

    A default that was left out, or an integer for a float, is refused: otherwise two byte strings
    with two digests would mean the same document.

    Raises:
        InputError: The bytes are not canonical or not exactly this document.
    """
    document = parse(cls, from_canonical(data), where)
    if to_canonical(document) != data:
        raise InputError(f"{where}: not in full form", expected="every key, floats as floats")
    return document


def parse(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Build a frozen dataclass from a mapping, strictly.

    Fields may be dataclasses, `tuple`, `Mapping`, `Literal`, unions, `Path`, `Any` and scalars. An
    integer and a text such as "1e-5" may stand for a float; true and false are no integers.

    Args:
        cls: The dataclass.
        mapping: Keys and values; a `Document` lends its lines to messages.
        where: Path of the mapping itself, such as "job"; may be empty.

    Raises:
        InputError: An unknown or missing key, a wrong type, a number that is not finite, or what
            the dataclass itself refuses; the message has the full path, such as
            "job.training.rounds".

    >>> @dataclass(frozen=True)
    ... class Point:
    ...     x: float
    >>> parse(Point, {"x": 1}, "point")
    Point(x=1.0)
    """
    return _build(cls, mapping, _Place(where, "", 0))


@dataclass(frozen=True)
class _Place:
    """Where a value stands: key path, and file and line (0 where there is no file)."""

    path: str
    file: str
    line: int

    def __str__(self) -> str:
        path = self.path or "document"
        return f"{self.file}:{self.line}: {path}" if self.line else path

    def key(self, mapping: Mapping[str, Any], key: object) -> _Place:
        path = f"{self.path}.{key}" if self.path else str(key)
        if isinstance(mapping, Document):
            return _Place(path, mapping.file, mapping.lines.get(str(key), mapping.line))
        return _Place(path, self.file, self.line)

    def item(self, index: int) -> _Place:
        return _Place(f"{self.path}[{index}]", self.file, self.line)

    def within(self, value: object) -> _Place:
        if isinstance(value, Document):
            return _Place(self.path, value.file, value.line)
        return self

    def wrong(self, expected: str, value: object) -> InputError:
        return InputError(f"{self}: wrong type", expected=expected, found=_kind(value))


def _build(cls: type[T], value: object, place: _Place) -> T:
    """A dataclass from a mapping; every error carries its place."""
    if not isinstance(value, Mapping):
        raise place.wrong("a mapping of keys", value)
    place = place.within(value)
    known = _fields(cls)
    _check_keys(value, known, place)
    kwargs = {
        key: _convert(known[key][1], item, place.key(value, key)) for key, item in value.items()
    }
    try:
        return cls(**kwargs)
    except InputError as error:
        raise error.at(str(place)) from None


@cache
def _fields(cls: Any) -> dict[str, tuple[Field[Any], Any]]:
    """Name -> (field, resolved annotation) of what the dataclass is built from."""
    if not is_dataclass(cls):
        raise TypeError(f"{cls.__name__} is no dataclass")
    hints = get_type_hints(cls)
    return {field.name: (field, hints[field.name]) for field in fields(cls) if field.init}


def _check_keys(
    mapping: Mapping[str, Any], known: Mapping[str, tuple[Field[Any], Any]], place: _Place
) -> None:
    """Refuse unknown keys, with a suggestion, and missing ones."""
    for key in mapping:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            raise InputError(
                f"{place.key(mapping, key)}: unknown key",
                expected=f"one of {', '.join(known)}" if known else "no key",
                remedy=f"did you mean {close[0]!r}?" if close else None,
            )
    missing = [
        name
        for name, (field, _) in known.items()
        if name not in mapping and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise InputError(f"{place}: missing {', '.join(repr(name) for name in missing)}")


def _convert(annotation: Any, value: object, place: _Place) -> Any:
    """One value as its annotation asks."""
    origin = get_origin(annotation)
    if annotation is Any:
        return value
    if annotation in _SCALARS:
        return _SCALARS[annotation](value, place)
    if origin in _GENERICS:
        return _GENERICS[origin](get_args(annotation), value, place)
    if is_dataclass(annotation) and isinstance(annotation, type):
        return _build(annotation, value, place)
    raise TypeError(f"{place}: annotation {annotation!r} is not supported")


def _tuple(args: tuple[Any, ...], value: object, place: _Place) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise place.wrong("a list", value)
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise InputError(
            f"{place}: wrong length", expected=f"{len(args)} items", found=str(len(value))
        )
    pairs = enumerate(zip(args, value, strict=True))
    return tuple(_convert(arg, item, place.item(index)) for index, (arg, item) in pairs)


def _map(args: tuple[Any, ...], value: object, place: _Place) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise place.wrong("a mapping of keys", value)
    if args[1] is Any and isinstance(value, dict):
        return value
    for key in value:
        if not isinstance(key, str):
            raise place.wrong("text as key", key)
    return {key: _convert(args[1], item, place.key(value, key)) for key, item in value.items()}


def _literal(args: tuple[Any, ...], value: object, place: _Place) -> Any:
    for choice in args:
        if type(choice) is type(value) and choice == value:
            return choice
    close = difflib.get_close_matches(str(value), [str(choice) for choice in args], n=1)
    raise InputError(
        f"{place}: no such choice",
        expected=f"one of {', '.join(str(choice) for choice in args)}",
        remedy=f"did you mean {close[0]!r}?" if close else None,
    )


def _union(args: tuple[Any, ...], value: object, place: _Place) -> Any:
    """The member whose type the value has already, else the first that takes it."""
    if value is None and types.NoneType in args:
        return None
    members = [arg for arg in args if arg is not types.NoneType]
    if len(members) == 1:
        return _convert(members[0], value, place)
    members.sort(key=lambda member: type(value) is not member)
    for member in members:
        try:
            return _convert(member, value, place)
        except InputError:
            continue
    names = (_NAMES.get(get_origin(member) or member, "a mapping of keys") for member in members)
    raise place.wrong(" or ".join(dict.fromkeys(names)), value)


def _float(value: object, place: _Place) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise place.wrong("a number", value)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise place.wrong("a number", value) from None
    if not math.isfinite(number):
        raise InputError(f"{place}: not a finite number", expected="a finite number")
    return number


def _exactly(kind: type) -> Callable[[object, _Place], Any]:
    def take(value: object, place: _Place) -> Any:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise place.wrong(_NAMES[kind], value)
        return value

    return take


def _path(value: object, place: _Place) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise place.wrong("a path", value)
    return Path(value)


def _kind(value: object) -> str:
    return _NAMES.get(type(value), type(value).__name__)


_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    bytes: "bytes",
    Path: "a path",
    types.NoneType: "nothing",
    list: "a list",
    tuple: "a list",
    dict: "a mapping of keys",
    Document: "a mapping of keys",
    Mapping: "a mapping of keys",
}
_SCALARS: dict[Any, Callable[[object, _Place], Any]] = {
    bool: _exactly(bool),
    int: _exactly(int),
    str: _exactly(str),
    bytes: _exactly(bytes),
    float: _float,
    Path: _path,
}
_GENERICS: dict[Any, Callable[[tuple[Any, ...], object, _Place], Any]] = {
    tuple: _tuple,
    Mapping: _map,
    dict: _map,
    Literal: _literal,
    Union: _union,
    types.UnionType: _union,
}
