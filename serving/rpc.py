"""The Open Inference Protocol over gRPC: one thin translator, nothing is decided here.

The stubs are those of tritonclient: two copies of one .proto cannot live in one process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2

from protocol.errors import FedwardError
from serving.dataplane import EXTENSIONS, Caller, DataPlane
from serving.payloads import LARGE, Request
from serving.refusal import Kind, Refusal
from serving.rpc_messages import from_reply, to_request

log = logging.getLogger("fedward.serving")
STATUS = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    Kind.UNKNOWN: grpc.StatusCode.NOT_FOUND,
    Kind.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.TOO_MANY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
)


class Inference:
    """The service's methods; what is not here is answered with UNIMPLEMENTED.

    Args:
        plane: What answers.
    """

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def ServerLive(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Whether the process answers."""
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Whether every model can be asked."""
        return service_pb2.ServerReadyResponse(ready=self._plane.ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether a model can be asked."""

        async def answer() -> Any:
            ready = self._plane.model_ready(_caller(context), request.name, request.version)
            return service_pb2.ModelReadyResponse(ready=ready)

        return await _answered(context, answer)

    async def ServerMetadata(self, _request: Any, context: Any) -> Any:  # noqa: N802
        """Name and version of the server."""

        async def answer() -> Any:
            self._plane.admit(_caller(context), "read")
            return service_pb2.ServerMetadataResponse(
                name="fedward", version=installed("fedward"), extensions=EXTENSIONS
            )

        return await _answered(context, answer)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """A model's versions and tensors."""

        async def answer() -> Any:
            told = self._plane.describe(_caller(context), request.name, request.version)
            metadata = service_pb2.ModelMetadataResponse.TensorMetadata
            sides = {
                side: [
                    metadata(name=name, datatype=datatype, shape=shape)
                    for name, datatype, shape in getattr(told, side)
                ]
                for side in ("inputs", "outputs")
            }
            return service_pb2.ModelMetadataResponse(
                name=told.name, versions=told.versions, platform="fedward", **sides
            )

        return await _answered(context, answer)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Predictions."""

        async def answer() -> Any:
            plane, name = self._plane, request.model_name
            with plane.metered(name, "grpc"):
                left_s = context.time_remaining()
                async with plane.entered(_caller(context), "predict", name, left_s) as model:
                    return from_reply(await plane.infer(model, await _request_of(request)))

        return await _answered(context, answer)


async def _request_of(message: Any) -> Request:
    """What a message says; a large one is read in a thread."""
    if message.ByteSize() > LARGE:
        return await asyncio.to_thread(to_request, message)
    return to_request(message)


def handler_of(plane: DataPlane) -> grpc.GenericRpcHandler:
    """The service, which answers bytes that are no message as a wrong request, too.

    The generated one answers them with INTERNAL, as if the server were at fault.
    """
    service = Inference(plane)
    methods = {
        name: grpc.unary_unary_rpc_method_handler(
            _reading(getattr(service, name)),
            request_deserializer=_reader(getattr(service_pb2, f"{name}Request")),
            response_serializer=_written,
        )
        for name in _METHODS
    }
    return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)


def _written(message: Any) -> bytes:
    if isinstance(message, bytes):
        return message
    data: bytes = message.SerializeToString()
    return data


def _reader(kind: Any) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return kind.FromString(data)
        except DecodeError:
            return None

    return read


def _reading(method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: Any) -> Any:
        if request is None:
            status = grpc.StatusCode.INVALID_ARGUMENT
            return await context.abort(status, "the bytes are no message of this method")
        return await method(request, context)

    return answer


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """gRPC's own health protocol, for probes: the whole server under the empty name.

    Source: gRPC Health Checking Protocol.
    """

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether the server, or one model by its name, can be asked."""
        plane, model, states = self._plane, request.service, health_pb2.HealthCheckResponse

        async def answer() -> Any:
            ready = plane.model_ready(_caller(context), model) if model else plane.ready
            if model and model not in plane.catalogue.names:
                raise Refusal(Kind.UNKNOWN, "no such model")
            return states(status=states.SERVING if ready else states.NOT_SERVING)

        return await _answered(context, answer)


def _caller(context: Any) -> Caller:
    metadata = context.invocation_metadata() or ()
    told = next((value for name, value in metadata if name == "authorization"), "")
    # "ipv4:127.0.0.1:5000": every connection has its own port, which is no other client.
    peer = context.peer().rpartition(":")[0]
    return Caller(authorization=str(told), peer=peer)


async def _answered(context: Any, answer: Callable[[], Awaitable[Any]]) -> Any:
    """Every error as a status and one line; what nobody foresaw may quote a value, so is unsaid."""
    try:
        return await answer()
    except Refusal as refusal:
        status, problem = STATUS[refusal.kind], str(refusal)
    except FedwardError as error:
        log.error("%s", error)  # noqa: TRY400 - the message is the whole story
        status, problem = grpc.StatusCode.INTERNAL, "the server cannot answer; its log says why"
    except Exception as error:  # noqa: BLE001
        log.error("%s, a defect", type(error).__name__)  # noqa: TRY400 - see above
        status, problem = grpc.StatusCode.INTERNAL, f"{type(error).__name__}, a defect"
    return await context.abort(status, problem)
