"""The one door between what a person writes or a peer sends and the frozen values the code uses.

A mapping becomes a frozen dataclass or an error that names the file, the line and the key's path.
Nothing behind this door checks types again. Values are never quoted in messages, because a
mapping may hold a password or a key.
"""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from protocol.canonical import from_canonical, to_canonical
from protocol.documents import Document, Place, load_yaml
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
    integer and a text such as "1e-5" may stand for a float; true and false are no integers. Of a
    union of dataclasses that each have a `Literal` field `kind`, the value's kind chooses one.

    Args:
        cls: The dataclass.
        mapping: Keys and values; a `Document` lends its lines to messages.
        where: Path of the mapping itself, such as "job"; may be empty.

    Raises:
        InputError: An unknown or missing key, a wrong type, a number that is not finite, or what
            the dataclass itself refuses; the message has the full path, such as
            "job.training.rounds".

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Point:
    ...     x: float
    >>> parse(Point, {"x": 1}, "point")
    Point(x=1.0)
    """
    return _build(cls, mapping, Place(where, "", 0))


def _build(cls: type[T], value: object, place: Place) -> T:
    """A dataclass from a mapping; every error carries its place."""
    if not isinstance(value, Mapping):
        raise _wrong(place, "a mapping of keys", value)
    place = place.within(value)
    known = _fields(cast("Hashable", cls))
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
    mapping: Mapping[str, Any], known: Mapping[str, tuple[Field[Any], Any]], place: Place
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


def _convert(annotation: Any, value: object, place: Place) -> Any:
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


def _tuple(args: tuple[Any, ...], value: object, place: Place) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(place, "a list", value)
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise InputError(
            f"{place}: wrong length", expected=f"{len(args)} items", found=str(len(value))
        )
    pairs = enumerate(zip(args, value, strict=True))
    return tuple(_convert(arg, item, place.item(index)) for index, (arg, item) in pairs)


def _map(args: tuple[Any, ...], value: object, place: Place) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(place, "a mapping of keys", value)
    if args[1] is Any and isinstance(value, dict):
        return value
    for key in value:
        if not isinstance(key, str):
            raise _wrong(place, "text as key", key)
    return {key: _convert(args[1], item, place.key(value, key)) for key, item in value.items()}


def _literal(args: tuple[Any, ...], value: object, place: Place) -> Any:
    for choice in args:
        if type(choice) is type(value) and choice == value:
            return choice
    close = difflib.get_close_matches(str(value), [str(choice) for choice in args], n=1)
    raise InputError(
        f"{place}: no such choice",
        expected=f"one of {', '.join(str(choice) for choice in args)}",
        remedy=f"did you mean {close[0]!r}?" if close else None,
    )


def _union(args: tuple[Any, ...], value: object, place: Place) -> Any:
    """The member whose type the value has already, else the first that takes it."""
    if value is None and types.NoneType in args:
        return None
    members = [arg for arg in args if arg is not types.NoneType]
    if len(members) == 1:
        return _convert(members[0], value, place)
    if kinds := _kinds(tuple(members)):
        return _build(kinds[_kind(kinds, value, place)], value, place)
    members.sort(key=lambda member: type(value) is not member)
    for member in members:
        try:
            return _convert(member, value, place)
        except InputError:
            continue
    names = (_NAMES.get(get_origin(member) or member, "a mapping of keys") for member in members)
    raise _wrong(place, " or ".join(dict.fromkeys(names)), value)


@cache
def _kinds(members: tuple[Any, ...]) -> dict[str, Any]:
    """From each value of `kind` to its dataclass; nothing where one of them has no such field."""
    kinds: dict[str, Any] = {}
    for member in members:
        annotation = _fields(member)["kind"][1] if _has_kind(member) else None
        if get_origin(annotation) is not Literal:
            return {}
        kinds |= dict.fromkeys(get_args(annotation), member)
    return kinds


def _has_kind(member: Any) -> bool:
    return is_dataclass(member) and "kind" in _fields(cast("Hashable", member))


def _kind(kinds: Mapping[str, Any], value: object, place: Place) -> str:
    if not isinstance(value, Mapping):
        raise _wrong(place, "a mapping of keys", value)
    place = place.within(value)
    if "kind" not in value:
        raise InputError(f"{place}: missing 'kind'", expected=f"one of {', '.join(kinds)}")
    chosen: str = _literal(tuple(kinds), value["kind"], place.key(value, "kind"))
    return chosen


def _float(value: object, place: Place) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _wrong(place, "a number", value)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise _wrong(place, "a number", value) from None
    if not math.isfinite(number):
        raise InputError(f"{place}: not a finite number", expected="a finite number")
    return number


def _exactly(kind: type) -> Callable[[object, Place], Any]:
    def take(value: object, place: Place) -> Any:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise _wrong(place, _NAMES[kind], value)
        return value

    return take


def _path(value: object, place: Place) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise _wrong(place, "a path", value)
    return Path(value)


def _wrong(place: Place, expected: str, value: object) -> InputError:
    found = _NAMES.get(type(value), type(value).__name__)
    return InputError(f"{place}: wrong type", expected=expected, found=found)


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
_SCALARS: dict[Any, Callable[[object, Place], Any]] = {
    bool: _exactly(bool),
    int: _exactly(int),
    str: _exactly(str),
    bytes: _exactly(bytes),
    float: _float,
    Path: _path,
}
_GENERICS: dict[Any, Callable[[tuple[Any, ...], object, Place], Any]] = {
    tuple: _tuple,
    Mapping: _map,
    dict: _map,
    Literal: _literal,
    Union: _union,
    types.UnionType: _union,
}
