"""The graph does to values what preprocessing does, whatever they are."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from learning.export_graph import Graph, sample, signature_in, signature_out, table_of
from protocol.errors import InputError
from protocol.jobs import Named
from tests.learning.test_readouts import model_of

SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": "age", "kind": "number", "low": 0, "high": 120, "centre": 60},
        {
            "name": "crp",
            "kind": "number",
            "low": 0,
            "high": 500,
            "neutral": 5,
            "may_be_missing": True,
        },
        {"name": "ward", "kind": "category", "categories": ["a", "b", 3]},
        {
            "name": "unit",
            "kind": "category",
            "categories": ["icu", "none"],
            "neutral": "none",
            "may_be_missing": True,
        },
        {"name": "smoker", "kind": "flag", "neutral": 1, "may_be_missing": True},
        {"name": "drinker", "kind": "flag"},
        {"name": "scan", "kind": "array", "shape": [3, 4], "low": 0, "high": 255},
        {
            "name": "pulse",
            "kind": "array",
            "shape": [4],
            "low": 0,
            "high": 200,
            "neutral": 70,
            "may_be_missing": True,
        },
    ],
    "label": {"name": "ill", "classes": ["no", "yes"]},
}
MODEL = model_of(Named(name="diagnosis", options={"model": "mlp", "hidden": [5]}), SCHEMA)
SCHEMA_OF = MODEL.task.schema


def predicted(graph: Graph, arrays: Any) -> Any:
    return graph(*map(torch.from_numpy, arrays.values())).numpy()


def test_any_values_are_predicted_as_the_node_does() -> None:
    arrays = sample(SCHEMA_OF, 300, np.random.default_rng(0))
    own = MODEL.predict(MODEL.task.features(table_of(SCHEMA_OF, arrays))[0])
    np.testing.assert_allclose(predicted(Graph(MODEL), arrays), own, atol=1e-12)
    assert len(np.unique(own[:, 1])) > 200


def test_values_that_are_none_and_codes_of_nothing() -> None:
    arrays = dict(sample(SCHEMA_OF, 8, np.random.default_rng(0)))
    for name in ("age", "crp", "scan", "pulse"):
        flat = arrays[name].reshape(8, -1)
        flat[:, 0] = [np.nan, np.inf, -np.inf, 1e30, -1e300, 1e29, -1e29, 0]
    arrays["pulse"][0] = np.nan
    table = table_of(SCHEMA_OF, arrays)
    own = MODEL.predict(MODEL.task.features(table)[0])
    for name in ("ward", "unit", "smoker", "drinker"):
        # Codes beyond the last mean no more than -1 does.
        arrays[name] = np.where(arrays[name] < 0, 7, arrays[name])
    np.testing.assert_allclose(predicted(Graph(MODEL), arrays), own, atol=1e-12)


def test_features_may_come_in_instead() -> None:
    x_NF = np.random.default_rng(0).normal(size=(5, SCHEMA_OF.num_features))
    graph = Graph(MODEL, torch.float32, prepared=True)
    found = graph(torch.from_numpy(x_NF))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), MODEL.predict(x_NF), atol=1e-5)


def test_the_signature_says_what_each_number_means() -> None:
    told = {one.name: one for one in signature_in(SCHEMA_OF)}
    assert list(told) == [column.name for column in SCHEMA_OF.columns]
    assert (told["age"].datatype, told["age"].shape) == ("FP64", (1,))
    assert told["scan"].shape == (3, 4)
    assert (told["ward"].datatype, told["ward"].columns) == ("INT64", ("a", "b", "3"))
    assert "-1" in told["smoker"].meaning
    output = signature_out(MODEL, "FP32")
    assert (output.name, output.shape, output.columns) == ("probabilities", (2,), ("no", "yes"))


def test_an_output_never_has_the_name_of_a_column() -> None:
    schema = copy.deepcopy(SCHEMA)
    schema["columns"][0]["name"] = "probabilities"
    model = model_of(Named(name="diagnosis", options={}), schema)
    assert signature_out(model, "FP32").name == "probabilities_"


def test_a_kind_of_column_that_no_graph_reads_is_refused() -> None:
    column: Any = type("Column", (), {"name": "note", "kind": "story"})()
    schema: Any = type("Schema", (), {"columns": (column,)})()
    with pytest.raises(InputError, match="cannot be exported"):
        signature_in(schema)
