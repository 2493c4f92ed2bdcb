"""Tensors from bytes and values, and what is none."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.bodies import read_request, unpack, write_reply
from serving.payloads import DTYPES, Reply, Tensor, from_raw, from_values, to_raw
from serving.refusal import Refusal


@pytest.mark.parametrize("datatype", DTYPES)
def test_raw_bytes_read_back(datatype: str) -> None:
    array = np.array([[0, 1], [1, 0]], dtype=DTYPES[datatype])
    tensor = from_raw("x", datatype, [2, 2], to_raw(Tensor("x", datatype, array)))
    assert (tensor.array == array).all()
    assert tensor.array.dtype == np.dtype(DTYPES[datatype])


@given(st.lists(st.text(), max_size=5))
@settings(max_examples=40, deadline=None)
def test_texts_read_back(texts: list[str]) -> None:
    made = from_values("x", "BYTES", [len(texts)], texts)
    assert from_raw("x", "BYTES", [len(texts)], to_raw(made)).array.tolist() == texts


@given(raw=st.binary(max_size=40), shape=st.lists(st.integers(-1, 1 << 40), max_size=3))
@settings(max_examples=80, deadline=None)
@pytest.mark.parametrize("datatype", ["FP64", "BYTES", "BF16"])
def test_any_bytes_are_a_tensor_or_refused(datatype: str, raw: bytes, shape: list[int]) -> None:
    try:
        tensor = from_raw("x", datatype, shape, raw)
    except Refusal:
        return
    assert list(tensor.array.shape) == shape


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("INT8", [1, 128]),
        ("UINT8", [1, -1]),
        ("INT64", [1, True]),
        ("INT32", [1, 1.5]),
        ("FP64", [1.0, "2"]),
        ("FP64", [1.0, 10**400]),
        ("BOOL", [True, 1]),
        ("BYTES", ["a", b"\xff"]),
        ("BYTES", ["a"]),
        ("FP32", [[1.0], 2.0]),
    ],
)
def test_values_of_another_type_are_refused(datatype: str, values: list[Any]) -> None:
    with pytest.raises(Refusal, match="'x'"):
        from_values("x", datatype, [2], values)


@pytest.mark.parametrize(
    ("shape", "values", "fits"),
    [
        ([3, 2], [[1, 2], [3, 4], [5, 6]], True),
        ([3, 2], [1, 2, 3, 4, 5, 6], True),
        ([3, 2, 1], [[1, 2], [3, 4], [5, 6]], True),
        ([2, 3, 1], [[[1], [2], [3]], [[4], [5], [6]]], True),
        ([1, 3, 2], [[1, 2, 3, 4, 5, 6]], True),
        ([6], [[1], [2], [3], [4], [5], [6]], True),
        ([3, 2], [[1, 2, 3], [4, 5, 6]], False),
        ([3, 2], [[1], [2, 3], [4, 5, 6]], False),
        ([2, 3], [[[1, 2], [3, 4], [5, 6]]], False),
    ],
)
def test_nested_lists_have_the_shape_that_they_say(
    shape: list[int], values: list[Any], fits: bool
) -> None:
    if fits:
        rows = from_values("x", "INT8", shape, values).array.reshape(-1)
        assert rows.tolist() == [1, 2, 3, 4, 5, 6]
    else:
        with pytest.raises(Refusal, match="lists of shape"):
            from_values("x", "INT8", shape, values)


def test_nothing_is_allocated_for_what_was_not_sent() -> None:
    with pytest.raises(Refusal, match="found fewer"):
        from_raw("x", "BYTES", [1 << 30], b"")


@pytest.mark.parametrize("datatype", ["FP64", "BYTES"])
def test_an_empty_axis_hides_no_sizes_beyond_all_arrays(datatype: str) -> None:
    large = [0, *[2**31 - 1] * 3]
    assert from_raw("x", datatype, [0, 2], b"").array.shape == (0, 2)
    with pytest.raises(Refusal, match="'x': shape"):
        from_raw("x", datatype, large, b"")
    with pytest.raises(Refusal, match="'x': shape"):
        from_values("x", datatype, large, [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"inputs": 1}',
        b'{"inputs": [1]}',
        b'{"inputs": [], "outputs": [{"name": 1}]}',
        b'{"inputs": [], "id": 1}',
        rb'{"inputs": [], "id": "half a letter: \ud83d"}',
        b'{"inputs": [], "parameters": {"binary_data_output": 1}}',
        b'{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [1]}]}',
        b'{"inputs": [{"name": "", "shape": [], "parameters": {"binary_data_size": 8}}]}',
    ],
)
def test_bodies_that_are_no_request(body: bytes) -> None:
    with pytest.raises(Refusal):
        read_request("", body, "")


def test_what_may_be_left_out_may_be_null() -> None:
    entry = {"name": "x", "datatype": "FP64", "shape": [1], "data": [1], "parameters": None}
    raw = {**entry, "data": None, "parameters": {"binary_data_size": 8}}
    wanted = [{"name": "p", "parameters": None}]
    for inputs, outputs, tail in (([entry], None, b""), ([raw], wanted, bytes(8))):
        document = {"id": None, "parameters": None, "inputs": inputs, "outputs": outputs}
        head = json.dumps(document).encode()
        request, binary = read_request("", head + tail, str(len(head)))
        assert (request.id, len(request.inputs)) == ("", 1)
        assert not any(binary.values())


def test_an_output_says_by_itself_whether_it_is_raw_or_as_all_are() -> None:
    outputs = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    document = {"inputs": [], "outputs": outputs, "parameters": {"binary_data_output": True}}
    _, binary = read_request("", json.dumps(document).encode(), "")
    assert binary == {"a": True, "b": False, "": True}


def test_raw_bytes_behind_the_json_must_all_be_used() -> None:
    head = json.dumps({"inputs": []}).encode()
    with pytest.raises(Refusal, match="raw tensors"):
        read_request("", head + b"x", str(len(head)))


def test_a_stream_that_goes_on_is_refused() -> None:
    assert unpack(zlib.compress(b"abc"), "deflate", 3) == b"abc"
    with pytest.raises(Refusal, match="one whole stream"):
        unpack(zlib.compress(b"abc") + b"x", "deflate", 3)
    with pytest.raises(Refusal, match="at most 2 bytes"):
        unpack(zlib.compress(b"abc"), "gzip", 2)


def test_numbers_of_a_reply_read_back_exactly() -> None:
    array = np.random.default_rng(0).random((3, 2))
    reply = Reply(
        model="m", version="1", id="", outputs=(Tensor("p", "FP64", array),), parameters={}
    )
    body, length = write_reply(reply, {})
    assert length is None
    assert np.reshape(json.loads(body)["outputs"][0]["data"], (3, 2)).tolist() == array.tolist()
    body, length = write_reply(reply, {"p": True})
    assert length is not None
    assert body[length:] == array.tobytes()
