"""Messages of the Open Inference Protocol over gRPC, and what they say.

The stubs are those of tritonclient: two copies of one .proto cannot live in one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tritonclient.grpc import service_pb2

from serving.payloads import Reply, Request, Tensor, from_raw, from_values, to_raw
from serving.refusal import invalid

_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def to_request(message: Any) -> Request:
    """A request from its message, raw tensors or typed ones.

    Raises:
        Refusal: The tensors are none.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise invalid(
            "raw_input_contents", expected=f"{len(message.inputs)} tensors", found=str(len(raw))
        )
    if raw and any(one.HasField("contents") for one in message.inputs):
        raise invalid("raw_input_contents", expected="no typed contents beside raw ones")
    inputs = [
        from_raw(one.name[:256], one.datatype, list(one.shape), raw[place]) if raw else _typed(one)
        for place, one in enumerate(message.inputs)
    ]
    return Request(
        version=message.model_version,
        id=message.id,
        inputs=tuple(inputs),
        outputs=tuple(one.name for one in message.outputs),
    )


def from_reply(reply: Reply) -> bytes:
    """The message of a reply; tensors are raw, since that is what clients read.

    Messages one behind the other are one message with the fields of all, so what is the same in
    many answers is written once.

    Source: Protocol Buffers, "Encoding", section "Last One Wins".
    """
    shapes = tuple((one.name, one.datatype, one.array.shape) for one in reply.outputs)
    fixed = _fixed(reply.model, reply.version, tuple(reply.parameters.items()), shapes)
    changing = service_pb2.ModelInferResponse(
        id=reply.id, raw_output_contents=[to_raw(tensor) for tensor in reply.outputs]
    )
    data: bytes = fixed + changing.SerializeToString()
    return data


@lru_cache(maxsize=256)
def _fixed(
    model: str,
    version: str,
    parameters: tuple[tuple[str, str], ...],
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...],
) -> bytes:
    """What answers of a version have in common that have as many rows and the same outputs."""
    described = [
        service_pb2.ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape)
        for name, datatype, shape in outputs
    ]
    message = service_pb2.ModelInferResponse(
        model_name=model, model_version=version, outputs=described
    )
    for name, value in parameters:
        message.parameters[name].string_param = value
    data: bytes = message.SerializeToString()
    return data


def _typed(one: Any) -> Tensor:
    field = _CONTENTS.get(one.datatype)
    values: Sequence[Any] = list(getattr(one.contents, field)) if field else []
    return from_values(one.name[:256], one.datatype, list(one.shape), values)
