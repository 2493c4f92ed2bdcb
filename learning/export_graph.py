"""From a hospital's values to predictions as one graph: what preprocessing does, in torch.

Exported models take values as hospitals know them, so nobody scales by hand and no model meets
features that were made otherwise. Numbers and arrays go in as they are, NaN where there is none;
categories and flags, which a graph cannot read as text, as numbers that the signature explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from learning.artefact import Model
from learning.numeric import ABSURD
from learning.readouts import whole
from learning.schema import Column, Schema, as_text
from learning.task import Table
from protocol.errors import InputError

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Tensorial:
    """An input or output of an exported model.

    Args:
        name: Its name.
        datatype: As the Open Inference Protocol spells it.
        shape: Sizes behind the first axis, which is the row.
        meaning: One line for people.
        columns: What the columns of an output are, or which category each number stands for.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    meaning: str
    columns: tuple[str, ...] = ()


def signature_in(schema: Schema) -> tuple[Tensorial, ...]:
    """The inputs of an exported model, one a column.

    Raises:
        InputError: A column is neither number, category, flag nor array.
    """
    return tuple(map(_described, schema.columns))


def _described(column: Column) -> Tensorial:
    name = column.name
    if column.kind in {"number", "array"}:
        low, high = column.bounds
        unit = f" {column.unit}" if column.unit else ""
        told = f"As measured, from {low:g} to {high:g}{unit}; NaN where there is none"
        return Tensorial(name=name, datatype="FP64", shape=column.shape or (1,), meaning=told)
    if column.kind == "category":
        told = "Place of the category in this list, from 0; -1 where it is missing or another"
        labels = column.labels
        return Tensorial(name=name, datatype="INT64", shape=(1,), meaning=told, columns=labels)
    if column.kind == "flag":
        told = "1 for yes, 0 for no, -1 where it is missing"
        return Tensorial(name=name, datatype="INT64", shape=(1,), meaning=told)
    raise InputError(
        f"column {name!r} of kind {column.kind!r} cannot be exported",
        expected="numbers, categories, flags and arrays",
        remedy="serve the model with `fedward serve`",
    )


def signature_out(model: Model, datatype: str) -> Tensorial:
    """The output of an exported model: what the task predicts, N x C.

    It has the name of the served output that is the same numbers, else `predictions`; one more `_`
    where a column has that name, since in a graph they would be one.
    """
    task = model.task
    columns = model.predict(np.zeros((1, task.schema.num_features))).shape[1]
    named = [one for one in task.outputs if one.kind == "number" and len(one.columns) == columns]
    told = f"What the task {model.card.task.name!r} predicts, see its page in the documentation"
    made = Tensorial(name="predictions", datatype=datatype, shape=(columns,), meaning=told)
    if named:
        one = named[0]
        made = replace(made, name=one.name, meaning=one.meaning, columns=one.columns)
    while made.name in {column.name for column in task.schema.columns}:
        made = replace(made, name=f"{made.name}_")
    return made


class Graph(nn.Module):
    """Values of all columns, in the schema's order, to predictions.

    Args:
        model: The finished model.
        precision: Of the network; values are scaled in double precision in any case.
        prepared: Whether features come in instead of values.

    Raises:
        InputError: A column cannot be exported, or the task has no function in torch.
    """

    def __init__(
        self, model: Model, precision: torch.dtype = torch.float64, *, prepared: bool = False
    ) -> None:
        super().__init__()
        self._columns = model.task.schema.columns
        self._prepared = prepared
        self._precision = precision
        signature_in(model.task.schema)
        self.whole = whole(model).to(precision)

    def forward(self, *values: Tensor) -> Tensor:
        """Predictions N x C."""
        if self._prepared:
            features_NF = values[0]
        else:
            blocks = map(_features, self._columns, values)
            features_NF = torch.cat(list(blocks), dim=1)
        predicted_NC: Tensor = self.whole(features_NF.to(self._precision))
        return predicted_NC


def _features(column: Column, value: Tensor) -> Tensor:
    """Features N x K of a column in double precision, as `learning.preprocess` makes them."""
    if column.kind == "category":
        feature_NK, absent_N1 = _category(column, value)
    elif column.kind == "flag":
        absent_N1 = (value < 0) | (value > 1)
        neutral = torch.tensor(int(column.neutral or 0))
        feature_NK = torch.where(absent_N1, neutral, value)
    else:
        feature_NK, absent_N1 = _numbers(column, value.flatten(1))
    blocks = [feature_NK, absent_N1] if column.may_be_missing else [feature_NK]
    return torch.cat([block.to(torch.float64) for block in blocks], dim=1)


def _numbers(column: Column, value_NS: Tensor) -> tuple[Tensor, Tensor]:
    low, high = column.bounds
    neutral = column.middle if column.neutral is None else float(column.neutral)
    unreadable_NS = torch.isnan(value_NS) | (torch.abs(value_NS) >= ABSURD)
    value_NS = torch.where(unreadable_NS, torch.tensor(neutral, dtype=torch.float64), value_NS)
    scaled_NS = (value_NS.clamp(low, high) - column.middle) / column.width
    return scaled_NS, unreadable_NS.all(dim=1, keepdim=True)


def _category(column: Column, code_N1: Tensor) -> tuple[Tensor, Tensor]:
    labels = column.labels
    absent_N1 = (code_N1 < 0) | (code_N1 >= len(labels))
    if column.neutral is not None:
        neutral = torch.tensor(labels.index(as_text(column.neutral)))
        code_N1 = torch.where(absent_N1, neutral, code_N1)
    return code_N1 == torch.arange(len(labels)), absent_N1


def sample(schema: Schema, rows: int, rng: np.random.Generator) -> Arrays:
    """Invented values of every column: within the bounds, a little beyond them, and missing ones.

    Args:
        schema: The columns.
        rows: N.
        rng: Where they are drawn from; no patient is.
    """
    return {column.name: _drawn(column, rows, rng) for column in schema.columns}


def _drawn(column: Column, rows: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    if column.kind in {"category", "flag"}:
        return rng.integers(-1, len(column.labels) or 2, size=(rows, 1))
    low, high = column.bounds
    value = low + (high - low) * (1.1 * rng.random((rows, *(column.shape or (1,)))) - 0.05)
    value[rng.random(value.shape) < 0.05] = np.nan
    return value


def table_of(schema: Schema, arrays: Arrays) -> Table:
    """The same values as a hospital's table has them."""
    return {column.name: _cells(column, arrays[column.name]) for column in schema.columns}


def _cells(column: Column, value: npt.NDArray[Any]) -> Any:
    if column.kind == "array":
        return value
    if column.kind == "number":
        return value[:, 0]
    texts: Sequence[str] = column.labels or ("0", "1")
    return [texts[code] if code >= 0 else None for code in value[:, 0].tolist()]
