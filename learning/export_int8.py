"""What weights of 8 bits change, said of values drawn from the schema, or of held-out records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from learning import export_onnx
from learning.artefact import Model
from learning.export_graph import Arrays, Graph, Tensorial, sample, signature_out
from learning.readouts import answer, scale_of
from learning.task import FloatArray, Records

ROWS = 1024
DRAWN = f"{ROWS} rows drawn from the schema's bounds; no patient is among them"
HELD_OUT = (
    "held-out patients of this hospital, counted exactly and outside of any budget: this file must "
    "not leave the hospital"
)
_Run = Callable[[Arrays], FloatArray]


@dataclass(frozen=True, kw_only=True)
class Change:
    """The same requests with single precision and with 8 bits.

    Args:
        of: What was asked for.
        rows: Rows of all requests.
        largest: Largest difference between predictions; of forecasts a share of the label's bounds.
        mean: Mean absolute difference.
        same_answer: Share of rows whose answer is in the same column and, of classes, on the same
            side of one half.
        bytes_single: Size in single precision.
        bytes_int8: Size with 8 bits.
        measure: Name of the task's measure, where held-out records were given.
        measure_single: It in single precision.
        measure_int8: It with 8 bits.
    """

    of: str = DRAWN
    rows: int = ROWS
    largest: float
    mean: float
    same_answer: float
    bytes_single: int
    bytes_int8: int
    measure: str | None = None
    measure_single: float | None = None
    measure_int8: float | None = None


def change(model: Model, single: _Run, int8: _Run, files: tuple[Path, Path]) -> Change:
    """What 8 bits change on rows drawn from the schema.

    Args:
        model: The finished model.
        single: It in single precision.
        int8: It with 8 bits.
        files: Both files.
    """
    arrays = sample(model.task.schema, ROWS, np.random.Generator(np.random.PCG64(1)))
    found = _differences(model, single(arrays), int8(arrays))
    sizes = [path.stat().st_size for path in files]
    return Change(**found, bytes_single=sizes[0], bytes_int8=sizes[1])


def held_out_change(model: Model, drawn: Change, folder: Path, records: Records) -> Change:
    """The same of held-out records, with the task's measure; records are features already.

    Raises:
        InputError: The records do not determine the measure.
    """
    told = "features"
    shape = (model.task.schema.num_features,)
    inputs = (Tensorial(name=told, datatype="FP64", shape=shape, meaning=told),)
    paths = folder / "features.onnx", folder / "features.int8.onnx"
    graph = Graph(model, torch.float32, prepared=True)
    export_onnx.write(graph, inputs, signature_out(model, "FP32"), paths[0], {})
    export_onnx.quantise(*paths)
    single_NC, int8_NC = (export_onnx.runner(path)({told: records.x_NF}) for path in paths)
    for path in paths:
        path.unlink()
    task = model.task
    return replace(
        drawn,
        **_differences(model, single_NC, int8_NC),
        of=HELD_OUT,
        rows=len(records),
        measure=task.measure.name,
        measure_single=task.score(single_NC, records.y_N),
        measure_int8=task.score(int8_NC, records.y_N),
    )


def _differences(model: Model, single_NC: FloatArray, int8_NC: FloatArray) -> dict[str, Any]:
    apart_NC = np.abs(single_NC - int8_NC) / scale_of(model.task)
    same_N = answer(model.task, single_NC) == answer(model.task, int8_NC)
    if model.task.schema.label.classes:
        same_N &= _sides(single_NC, int8_NC, answer(model.task, single_NC))
    return {
        "largest": float(apart_NC.max()),
        "mean": float(apart_NC.mean()),
        "same_answer": float(same_N.mean()),
    }


def _sides(
    single_NC: FloatArray, int8_NC: FloatArray, column_N: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether the answer is on the same side of one half."""
    row_N = np.arange(len(column_N))
    same_N: npt.NDArray[np.bool_] = (single_NC[row_N, column_N] >= 0.5) == (
        int8_NC[row_N, column_N] >= 0.5
    )
    return same_N
