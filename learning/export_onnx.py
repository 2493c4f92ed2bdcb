"""ONNX: written by torch, described and checked by onnx, run by onnxruntime, which knows no torch.

The extra `export` installs onnx and onnxruntime. torch's exporter over TorchScript needs nothing
more; the newer one needs onnxscript and writes the same operations for these graphs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learning.export_graph import Arrays, Graph, Tensorial
from learning.task import FloatArray
from protocol.errors import InputError, IntegrityError

OPSET = 17
_ROWS = 2
_DTYPES = {"FP64": torch.float64, "INT64": torch.int64}


def require() -> None:
    """Check that the extra is installed.

    Raises:
        InputError: It is not.
    """
    try:
        import onnx  # noqa: F401, PLC0415 - an optional extra
        import onnxruntime  # noqa: F401, PLC0415
    except ImportError as error:
        raise InputError(
            f"this format needs {error.name}", remedy="pip install 'fedward[export]'"
        ) from None


def write(
    graph: Graph,
    inputs: Sequence[Tensorial],
    output: Tensorial,
    path: Path,
    told: Mapping[str, str],
) -> None:
    """Write a graph as ONNX whose first axis, the rows, has any size.

    Args:
        graph: What to write.
        inputs: Its inputs, in order.
        output: Its output.
        path: The file.
        told: Metadata for the file itself.

    Raises:
        InputError: The graph has an operation that ONNX lacks.
    """
    import onnx  # noqa: PLC0415 - an optional extra

    names = [f"in_{place}" for place in range(len(inputs))]
    values = tuple(torch.zeros((_ROWS, *one.shape), dtype=_DTYPES[one.datatype]) for one in inputs)
    with warnings.catch_warnings():
        # torch announces the end of this exporter; the pinned torch has it.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                graph,
                values,
                path,
                input_names=names,
                output_names=["out"],
                dynamic_axes={name: {0: "rows"} for name in [*names, "out"]},
                opset_version=OPSET,
                dynamo=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise InputError(
                "the model has an operation that ONNX lacks",
                found=str(error).splitlines()[0],
                remedy="export it with --format torch",
            ) from None
    model = onnx.load(path)
    _rename(model.graph, dict(zip([*names, "out"], [*inputs, output], strict=True)))
    onnx.helper.set_model_props(model, dict(told))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _rename(graph: Any, names: Mapping[str, Tensorial]) -> None:
    """Give inputs and output their names, which torch's exporter would not take as they are."""
    for value in (*graph.input, *graph.output):
        value.doc_string = names[value.name].meaning
        value.name = names[value.name].name
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names[name].name if name in names else name for name in side]


def quantise(source: Path, target: Path) -> None:
    """Write the model with weights of 8 bits; activations are scaled anew for each request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.quantization import (  # noqa: PLC0415 - an optional extra
            QuantType,
            quant_pre_process,
            quantize_dynamic,
        )

        # Its inference of symbolic shapes is for models whose shapes are not known from the start.
        quant_pre_process(source, target, skip_symbolic_shape=True)
        quantize_dynamic(target, target, weight_type=QuantType.QInt8)


def runner(path: Path) -> Callable[[Arrays], FloatArray]:
    """Predictions of the model in a file, in double precision, by onnxruntime on one core."""
    import onnxruntime  # noqa: PLC0415 - an optional extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(arrays: Arrays) -> FloatArray:
        try:
            (found,) = session.run(None, dict(arrays))
        except Exception as error:  # noqa: BLE001 - onnxruntime has a class for every cause
            raise IntegrityError(
                "the exported model does not run",
                found=type(error).__name__,
                remedy="export it with --format torch",
            ) from None
        return np.asarray(found, dtype=np.float64)

    return run
