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
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

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
    tree = _spell(obj, "document", 0)
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


def _spell(obj: object, place: str, depth: int) -> Any:
    """The JSON tree of a value; `place` is its path, for messages."""
    if depth > MAX_DEPTH:
        raise InputError(f"{place}: too deep", expected=f"at most {MAX_DEPTH} levels")
    if isinstance(obj, Mapping):
        return {
            _key(key, place): _spell(value, f"{place}.{key}", depth + 1)
            for key, value in obj.items()
        }
    if isinstance(obj, list | tuple):
        return _spell_items(obj, place, depth)
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {
            field.name: _spell(getattr(obj, field.name), f"{place}.{field.name}", depth + 1)
            for field in dataclasses.fields(obj)
        }
    return _spell_scalar(obj, place)


def _spell_items(items: Sequence[object], place: str, depth: int) -> list[Any]:
    return [_spell(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(items)]


def _spell_scalar(obj: object, place: str) -> str | int | bool | None:
    if obj is None or isinstance(obj, bool):
        return obj
    if isinstance(obj, str):
        _check_unicode(obj, place)
        return f"s:{obj}" if obj.startswith(_MARKS) else str(obj)
    if isinstance(obj, int):
        if obj.bit_length() > MAX_BITS:
            raise InputError(f"{place}: too large", expected=f"at most {MAX_BITS} bits")
        return int(obj)
    if isinstance(obj, bytes):
        return "b:" + base64.urlsafe_b64encode(obj).decode()
    if isinstance(obj, float):
        if not math.isfinite(obj):
            raise InputError(f"{place}: not a finite number", expected="a finite number")
        return "f:" + float.hex(obj)
    raise InputError(
        f"{place}: no canonical spelling",
        expected="a dataclass, mapping, list, text, number, bytes or null",
        found=type(obj).__name__,
    )


def _key(key: object, place: str) -> str:
    if not isinstance(key, str):
        raise InputError(f"{place}: a key is no text", expected="text", found=type(key).__name__)
    _check_unicode(key, place)
    return str(key)


def _check_unicode(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{place}: not valid Unicode", expected="no lone surrogates") from None


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
