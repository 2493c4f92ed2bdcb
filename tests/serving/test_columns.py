"""From tensors to columns, and what is refused by the field's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learning.schema import Schema
from protocol.config import parse
from serving.columns import describe, table_of
from serving.payloads import Tensor
from serving.refusal import Kind, Refusal
from tests.serving.ward import PLAIN, ROWS, SCHEMA, TYPES

WHOLE = parse(Schema, SCHEMA, "schema")
ONE = parse(Schema, PLAIN, "schema")


def tensors(**changes: Any) -> list[Tensor]:
    return [Tensor(name, TYPES[name], changes.get(name, rows)) for name, rows in ROWS.items()]


def test_every_kind_becomes_a_column() -> None:
    table = table_of(WHOLE, tensors(), 10)
    assert list(table) == list(ROWS)
    assert list(table["ward"]) == ["a", "x", "3"]
    assert np.asarray(table["pulse"]).shape == (3, 4, 2)
    assert describe(ONE) == [("age", "FP64", (-1,))]


def test_integers_and_single_precision_are_numbers() -> None:
    for datatype, dtype in (("INT16", np.int16), ("FP32", np.float32)):
        table = table_of(ONE, [Tensor("age", datatype, np.array([7], dtype))], 10)
        assert list(table["age"]) == [7.0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"age": np.zeros((2, 1))}, "differ in their number of rows"),
        ({"age": np.zeros((3, 2))}, "input 'age': shape; expected N; found 3 x 2"),
        ({"pulse": np.zeros((3, 4))}, "input 'pulse': shape; expected N x 4 x 2; found 3 x 4"),
        ({"pulse": np.zeros((3, 0, 2))}, "input 'pulse': shape"),
    ],
)
def test_shapes(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Refusal, match=told):
        table_of(WHOLE, tensors(**changes), 10)


def test_names() -> None:
    age = Tensor("age", "FP64", np.zeros(1))
    for inputs, told in (
        ([age, age], "occurs twice"),
        ([], "missing inputs; expected 'age'"),
        ([age, Tensor("x", "FP64", np.zeros(1))], "unknown input 'x'; expected 'age'"),
        ([Tensor("age", "BYTES", np.array(["7"], dtype=object))], "input 'age': datatype"),
        ([Tensor("columns", "FP32", np.zeros((1, 1)))], "expected FP64 of shape N x 1"),
    ):
        with pytest.raises(Refusal, match=told):
            table_of(ONE, inputs, 10)
    with pytest.raises(Refusal, match="some are arrays"):
        table_of(WHOLE, [Tensor("columns", "FP64", np.zeros((1, 4)))], 10)
    assert list(table_of(ONE, [Tensor("columns", "FP64", np.ones((1, 1)))], 10)["age"]) == [1.0]


@pytest.mark.parametrize(("rows", "kind"), [(0, Kind.INVALID), (3, Kind.TOO_LARGE)])
def test_rows(rows: int, kind: Kind) -> None:
    with pytest.raises(Refusal) as caught:
        table_of(ONE, [Tensor("age", "FP64", np.zeros(rows))], 2)
    assert caught.value.kind is kind
    assert "here" in str(caught.value.at("here"))


def test_notes_are_text_and_nothing_else() -> None:
    note = {"name": "note", "kind": "text", "length": 4}
    schema = parse(Schema, {**PLAIN, "columns": [note]}, "schema")
    assert describe(schema) == [("note", "BYTES", (-1,))]
    texts = np.array(["no fever", None], dtype=object)
    assert list(table_of(schema, [Tensor("note", "BYTES", texts)], 10)["note"]) == [*texts]
    with pytest.raises(Refusal, match="input 'note': datatype; expected BYTES"):
        table_of(schema, [Tensor("note", "FP64", np.zeros(2))], 10)
