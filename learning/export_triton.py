"""The configuration of a model in a repository of NVIDIA Triton Inference Server.

Source: Triton Inference Server, "Model Configuration" and "Model Repository".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from learning.export_graph import Tensorial

MOST_ROWS = 4096
_TYPES = {"FP64": "TYPE_FP64", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}


def config(
    name: str, inputs: Sequence[Tensorial], output: Tensorial, told: Mapping[str, str]
) -> str:
    """The text of `config.pbtxt`.

    Args:
        name: The model's name, and its folder's.
        inputs: Its inputs.
        output: Its output.
        told: Parameters that whoever asks for the configuration reads.

    >>> output = Tensorial(name="p", datatype="FP32", shape=(2,), meaning="")
    >>> print(config("sepsis", [], output, {}).splitlines()[0])
    name: "sepsis"
    """
    lines = [
        f"name: {_text(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {MOST_ROWS}",
        *(f"input {_tensor(one)}" for one in inputs),
        f"output {_tensor(output)}",
        "dynamic_batching {}",
        *(
            f"parameters {{ key: {_text(key)} value: {{ string_value: {_text(value)} }} }}"
            for key, value in told.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _tensor(one: Tensorial) -> str:
    dims = ", ".join(map(str, one.shape))
    return f"{{ name: {_text(one.name)} data_type: {_TYPES[one.datatype]} dims: [ {dims} ] }}"


def _text(value: str) -> str:
    """A string of protobuf's text format, whose escapes JSON's are but for those of letters."""
    return json.dumps(value, ensure_ascii=False)
