"""Layouts: numpy's own concatenation is the oracle, and nothing that does not fit gets through."""

import hashlib
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocol.canonical import to_canonical
from protocol.errors import InputError, IntegrityError
from protocol.tensors import FloatVector, Layout, check_vector, weights_digest

LAYOUT = Layout((("a", (2, 3)), ("b", ()), ("c", (1, 1, 2))))
shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)
layouts = st.dictionaries(st.text(min_size=1), shapes, min_size=1, max_size=5).map(
    lambda entries: Layout(tuple(entries.items()))
)


@given(layouts, st.data())
def test_joining_is_concatenation_and_splitting_its_inverse(layout: Layout, data: Any) -> None:
    finite = st.floats(allow_nan=False, allow_infinity=False)
    arrays = {
        name: data.draw(hnp.arrays(np.float64, shape, elements=finite))
        for name, shape in layout.entries
    }
    vector_P = layout.join(dict(reversed(arrays.items())))
    expected = np.concatenate([arrays[name].ravel() for name, _ in layout.entries])
    assert vector_P.tobytes() == expected.tobytes()
    assert layout.size == expected.size
    parts = layout.split(vector_P)
    assert list(parts) == [name for name, _ in layout.entries]
    for name, array in arrays.items():
        assert parts[name].shape == array.shape
        assert parts[name].tobytes() == array.tobytes()


def test_parts_are_views_and_a_joined_vector_is_a_copy() -> None:
    vector_P = np.zeros(9)
    LAYOUT.split(vector_P)["b"][...] = 5.0
    assert vector_P[6] == 5.0
    arrays = LAYOUT.split(vector_P)
    joined_P = LAYOUT.join(arrays)
    joined_P[:] = 1.0
    assert vector_P.sum() == 5.0


def test_arrays_of_any_order_and_safe_type_are_joined_by_rows() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    arrays: dict[str, Any] = {"a": array, "b": np.int64(6), "c": np.arange(7, 9).reshape(1, 1, 2)}
    assert LAYOUT.join(arrays).tolist() == list(range(9))


def test_the_digest_names_names_shapes_and_order() -> None:
    spelt = to_canonical({"entries": [["a", [2, 3]], ["b", []], ["c", [1, 1, 2]]]})
    assert LAYOUT.digest == hashlib.sha256(spelt).hexdigest()
    others = (
        Layout((("a", (3, 2)), *LAYOUT.entries[1:])),
        Layout((("x", (2, 3)), *LAYOUT.entries[1:])),
        Layout(LAYOUT.entries[::-1]),
        Layout((("a", (6,)), *LAYOUT.entries[1:])),
    )
    assert len({LAYOUT.digest, *(other.digest for other in others)}) == 5
    assert {other.size for other in others} == {LAYOUT.size}


@pytest.mark.parametrize(
    "entries",
    [
        (),
        (("", (1,)),),
        (("a", (1,)), ("a", (2,))),
        (("a", (0,)),),
        (("a", (2, -1)),),
    ],
)
def test_layouts_that_are_refused(entries: Any) -> None:
    with pytest.raises(InputError, match="of a layout"):
        Layout(entries)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b": None}, "missing or unknown arrays: b$"),
        ({"x": np.zeros(1), "y": np.zeros(1)}, "missing or unknown arrays: x, y$"),
        ({"a": np.zeros((3, 2))}, r"array 'a'; .*shape \(2, 3\); found float64 of shape \(3, 2\)"),
        ({"b": np.zeros(1)}, r"array 'b'; .*shape \(\); found float64 of shape \(1,\)"),
        ({"b": np.array(1j)}, "array 'b'; expected real numbers .*found complex128"),
        ({"b": np.array("1")}, "array 'b'; expected real numbers"),
        ({"b": np.array(np.nan)}, "not finite"),
        ({"b": np.array(-np.inf)}, "not finite"),
    ],
)
def test_arrays_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    arrays = {**LAYOUT.split(np.zeros(9)), **changes}
    with pytest.raises(IntegrityError, match=message):
        LAYOUT.join({name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    "vector_P",
    [
        np.zeros(8),
        np.zeros(10),
        np.zeros((9, 1)),
        np.zeros(9, dtype=np.float32),
        np.zeros(9, dtype=np.int64),
        np.array([0.0] * 8 + [np.nan]),
        np.array([np.inf] + [0.0] * 8),
    ],
)
def test_vectors_that_do_not_fit(vector_P: Any) -> None:
    with pytest.raises(IntegrityError, match="vector"):
        LAYOUT.split(vector_P)
    with pytest.raises(IntegrityError, match="vector"):
        check_vector(vector_P, 9)


@given(hnp.arrays(np.float64, 5, elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_a_digest_is_over_little_endian_bytes(vector_P: FloatVector) -> None:
    packed = struct.pack("<5d", *vector_P)
    assert weights_digest(vector_P) == hashlib.sha256(packed).hexdigest()
    assert weights_digest(np.repeat(vector_P, 2)[::2]) == weights_digest(vector_P)


def test_a_digest_tells_the_zeros_apart_and_refuses_nan() -> None:
    assert weights_digest(np.zeros(1)) != weights_digest(-np.zeros(1))
    for bad in (np.array([np.nan]), np.zeros((1, 1)), np.zeros(1, np.float32)):
        with pytest.raises(IntegrityError, match="vector"):
            weights_digest(bad)  # type: ignore[arg-type]


def test_a_vector_that_cannot_be_written_to_is_split_once() -> None:
    layout, (one, other) = Layout(LAYOUT.entries), (np.arange(9.0), np.arange(9.0) + 1)
    other.flags.writeable = False
    for _ in range(2):
        parts = layout.split(other)
        assert [parts[name].ravel()[0] for name in parts] == [1, 7, 8]
        parts.clear()
    assert layout.split(one)["a"].base is one
    one[0] = np.nan
    with pytest.raises(IntegrityError):
        layout.split(one)
    assert layout == LAYOUT
