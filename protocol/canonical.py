"""One spelling per document: the bytes that are signed, hashed and sent.

The spelling is JSON in UTF-8 without spaces, with keys sorted by code point. JSON numbers are
integers only. A float is the text ``f:`` and its hexadecimal form, which is exact; bytes are ``b:``
and base64url (RFC 4648, section 5); a text that would be mistaken for one of these starts with
``s:``. Reading refuses every other spelling, so one document has one digest.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import Any, NoReturn, cast

from protocol.errors import InputError

MAX_DEPTH = 64
MAX_BITS = 4096
_MARKS = ("f:", "b:", "s:")


def to_canonical(obj: object) -> bytes:
    """Spell a document: dataclass, mapping, list, tuple, str, bool, int, float, None or bytes.

    Raises:
        InputError: A value has no spelling (NaN, infinity, another type, a key that is no text,
            more than `MAX_BITS` or `MAX_DEPTH`); the message names its place, never its value.

    >>> to_canonical({"b": 1.5, "a": (True, None, b"key", "f:x")})
    b'{"a":[true,null,"b:a2V5","s:f:x"],"b":"f:0x1.8000000000000p+0"}'
    """
    try:
        tree = _spell(obj, 0)
    except _UnspellableError as error:
        raise InputError(
            f"document{error.place}: {error.problem}", expected=error.expected, found=error.found
        ) from None
    text = json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


def from_canonical(data: bytes) -> Any:
    """Read a document: dict, list, str, int, float, bool, None and bytes.

    Raises:
        InputError: The bytes are not the one spelling of a document.

    >>> from_canonical(b'{"a":"f:0x1.8000000000000p+0"}')
    {'a': 1.5}
    """
    try:
        tree = json.loads(data.decode(), parse_float=_refuse_number, parse_constant=_refuse_number)
        document = _read(tree)
        same = to_canonical(document) == data
    except (ValueError, OverflowError, RecursionError):
        # No cause: the decoder's message would quote the bytes.
        raise InputError("not canonical bytes", expected="canonical JSON in UTF-8") from None
    if not same:
        raise InputError("not canonical bytes", expected="the one spelling of this document")
    return document


class _UnspellableError(Exception):
    """A value without a spelling; its place grows on the way out, since most values have one."""

    def __init__(self, problem: str, expected: str, found: str | None = None) -> None:
        super().__init__(problem)
        self.place = ""
        self.problem, self.expected, self.found = problem, expected, found


def _spell(obj: object, depth: int) -> Any:
    """The JSON tree of a value."""
    if depth > MAX_DEPTH:
        raise _UnspellableError("too deep", expected=f"at most {MAX_DEPTH} levels")
    spell = _SPELLINGS.get(type(obj)) or _spelling(obj)
    return spell(obj, depth)


def _spelling(obj: object) -> Callable[[Any, int], Any]:
    """How a value is spelt whose type only derives from one that has a spelling."""
    for kind, spell in _SPELLINGS.items():
        if isinstance(obj, kind):
            return spell
    if isinstance(obj, Mapping):
        return _spell_mapping
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return _spell_dataclass
    raise _UnspellableError(
        "no canonical spelling",
        expected="a dataclass, mapping, list, text, number, bytes or null",
        found=type(obj).__name__,
    )


def _spell_mapping(obj: Mapping[Any, object], depth: int) -> dict[str, Any]:
    tree = {}
    for key, value in obj.items():
        try:
            tree[_key(key)] = _spell(value, depth + 1)
        except _UnspellableError as error:
            if isinstance(key, str):
                error.place = f".{key}{error.place}"
            raise
    return tree


def _spell_dataclass(obj: Any, depth: int) -> dict[str, Any]:
    names = _names(cast("Hashable", type(obj)))
    return _spell_mapping({name: getattr(obj, name) for name in names}, depth)


@cache
def _names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


def _spell_items(items: Sequence[object], depth: int) -> list[Any]:
    tree = []
    for item in items:
        try:
            tree.append(_spell(item, depth + 1))
        except _UnspellableError as error:
            error.place = f"[{len(tree)}]{error.place}"
            raise
    return tree


def _spell_text(text: str, _: int) -> str:
    _check_unicode(text)
    return f"s:{text}" if text.startswith(_MARKS) else str(text)


def _spell_integer(number: int, _: int) -> int:
    if number.bit_length() > MAX_BITS:
        raise _UnspellableError("too large", expected=f"at most {MAX_BITS} bits")
    return int(number)


def _spell_float(number: float, _: int) -> str:
    if not math.isfinite(number):
        raise _UnspellableError("not a finite number", expected="a finite number")
    return "f:" + float.hex(number)


def _spell_bytes(data: bytes, _: int) -> str:
    return "b:" + base64.urlsafe_b64encode(data).decode()


def _spell_same(obj: bool | None, _: int) -> bool | None:  # noqa: FBT001 - a value of a document
    return obj


_SPELLINGS: dict[type, Callable[[Any, int], Any]] = {
    # Before integers, of which they are a kind.
    bool: _spell_same,
    type(None): _spell_same,
    str: _spell_text,
    int: _spell_integer,
    bytes: _spell_bytes,
    float: _spell_float,
    dict: _spell_mapping,
    list: _spell_items,
    tuple: _spell_items,
}


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise _UnspellableError("a key is no text", expected="text", found=type(key).__name__)
    _check_unicode(key)
    return str(key)


def _check_unicode(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _UnspellableError("not valid Unicode", expected="no lone surrogates") from None


def _read(tree: Any) -> Any:
    """The document of a JSON tree; any laxness here is caught by spelling it again."""
    if isinstance(tree, dict):
        return {key: _read(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_read(item) for item in tree]
    if isinstance(tree, str) and tree.startswith(_MARKS):
        return _read_marked(tree[:2], tree[2:])
    return tree


def _read_marked(mark: str, text: str) -> str | float | bytes:
    if mark == "f:":
        return float.fromhex(text)
    return base64.urlsafe_b64decode(text) if mark == "b:" else text


def _refuse_number(_: str) -> NoReturn:
    raise ValueError
