"""Canonical bytes: exact, unique, and strict in both directions."""

import dataclasses
import json
import math
import sys
from collections import OrderedDict
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import MAX_BITS, MAX_DEPTH, from_canonical, to_canonical
from protocol.errors import InputError

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.sampled_from(["f:", "b:", "s:", "s:s:", "f:0x1p+0", "b:AA=="])
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float
    items: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner


def same(left: Any, right: Any) -> bool:
    """Equality that tells 1 from 1.0 from True, and 0.0 from -0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left.hex() == float(right).hex()
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@given(documents)
def test_reading_returns_what_was_spelt_with_its_types(document: Any) -> None:
    assert same(from_canonical(to_canonical(document)), document)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers()))
def test_keys_are_sorted_and_nothing_is_spaced(document: dict[str, int]) -> None:
    data = to_canonical(document)
    assert list(json.loads(data)) == sorted(document)
    assert to_canonical(dict(reversed(document.items()))) == data
    assert data == json.dumps(json.loads(data), ensure_ascii=False, separators=(",", ":")).encode()


def test_published_form() -> None:
    """RFC 4648 section 5 for bytes, IEEE 754 hexadecimal for floats."""
    document = {"z": b"\xfb\xff", "a": 0.1, "m": "s:x", "é": -0.0, "n": [True, None, 3]}
    assert to_canonical(document) == (
        '{"a":"f:0x1.999999999999ap-4","m":"s:s:x","n":[true,null,3],"z":"b:-_8=",'
        '"é":"f:-0x0.0p+0"}'.encode()
    )


def test_dataclasses_are_mappings_and_tuples_are_lists() -> None:
    value = Outer("x", Inner(1.5, (1, {"k": (b"",)})))
    plain = {"name": "x", "inner": {"rate": 1.5, "items": [1, {"k": [b""]}]}}
    assert to_canonical(value) == to_canonical(plain)
    assert from_canonical(to_canonical(value)) == plain


def test_every_kind_of_mapping_is_one() -> None:
    value = MappingProxyType({"b": 1, "a": OrderedDict(c=2)})
    assert to_canonical(value) == b'{"a":{"c":2},"b":1}'


def test_enumerations_are_their_values() -> None:
    colour = StrEnum("colour", {"RED": "f:red"})
    number = IntEnum("number", {"TWO": 2})
    assert to_canonical([*colour, *number]) == b'["s:f:red",2]'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_with_their_place(value: float) -> None:
    with pytest.raises(InputError, match=r"document\.inner\.items\[1\]: not a finite number"):
        to_canonical(Outer("x", Inner(1.0, (0, value))))


@pytest.mark.parametrize("value", [object(), {1, 2}, Outer, 1j, bytearray(b"x")])
def test_other_types_are_refused_without_their_value(value: object) -> None:
    with pytest.raises(InputError, match="no canonical spelling") as caught:
        to_canonical({"secret": value})
    assert repr(value) not in str(caught.value)


def test_keys_must_be_text() -> None:
    with pytest.raises(InputError, match=r"document\.a: a key is no text.*found int"):
        to_canonical({"a": {1: 2}})


@pytest.mark.parametrize("document", ["\ud800", {"\udfff": 1}])
def test_lone_surrogates_are_refused(document: object) -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        to_canonical(document)
    with pytest.raises(InputError, match="not valid Unicode"):
        from_canonical(json.dumps(document).encode())


def test_depth_is_limited_in_both_directions() -> None:
    document: Any = 1
    for _ in range(MAX_DEPTH):
        document = [document]
    assert from_canonical(to_canonical(document)) == document
    with pytest.raises(InputError, match="too deep"):
        to_canonical([document])
    for depth in (MAX_DEPTH + 1, sys.getrecursionlimit() * 100):
        with pytest.raises(InputError):
            from_canonical(b"[" * depth + b"1" + b"]" * depth)


def test_integers_are_limited() -> None:
    assert from_canonical(to_canonical(2**MAX_BITS - 1)) == 2**MAX_BITS - 1
    with pytest.raises(InputError, match="too large"):
        to_canonical(-(2**MAX_BITS))
    with pytest.raises(InputError):
        from_canonical(b"9" * 5000)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"{",
        b"1.5",
        b"1e3",
        b"NaN",
        b"-Infinity",
        b"-0",
        b" 1",
        b"1\n",
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b'"\\u0041"',
        b'"\\/"',
        b'"f:1.5"',
        b'"f:nan"',
        b'"f:0x1p+99999"',
        b'"f:0X1.8000000000000P+0"',
        b'"f:x"',
        b'"b:AB=="',
        b'"b:AA"',
        b'"b:A A=="',
        b'"b:+/8="',
        '"b:é"'.encode(),
        b'"s:plain"',
        b"\xef\xbb\xbf1",
    ],
)
def test_every_other_spelling_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        from_canonical(data)


@given(st.binary(max_size=40) | documents.map(lambda x: json.dumps(x, default=str).encode()))
def test_whatever_is_accepted_is_the_spelling_of_what_was_read(data: bytes) -> None:
    try:
        document = from_canonical(data)
    except InputError:
        return
    assert to_canonical(document) == data
