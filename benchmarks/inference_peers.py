"""Servers that only predict, and our own: what `inference.py` sets side by side.

Each is a program of its own that gets its port as an argument. Those that are not ours run the same
layers on features that are ready: no schema, no flags, no card.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lean_clients import Client, GrpcClient, HttpClient, seconds_of
from report import own_environment
from tritonclient.grpc import service_pb2

from learning.artefact import save
from learning.card import Digests, Guarantee, ModelCard
from learning.promotion import promote
from learning.task import load_task
from protocol.jobs import Named
from protocol.signing import SigningKey
from protocol.tensors import weights_digest

COLUMNS = 30
METHOD = "/inference.GRPCInferenceService/ModelInfer"
INFER = "/v2/models/model/infer"
TASK = Named(name="diagnosis", options={"model": "mlp"})
SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": f"x{place}", "kind": "number", "low": -5, "high": 5} for place in range(COLUMNS)
    ],
    "label": {"name": "ill", "classes": ["no", "yes"]},
}
LAYERS = """
import sys
import torch
torch.set_num_threads(1)
sizes = (30, 64, 32, 16, 1)
steps = []
for inputs, outputs in zip(sizes, sizes[1:]):
    steps += [torch.nn.Linear(inputs, outputs, dtype=torch.float64), torch.nn.ReLU()]
model = torch.nn.Sequential(*steps[:-1], torch.nn.Sigmoid())
"""
APP = """
import uvicorn
from fastapi import FastAPI, Request
app = FastAPI()
@app.post("/")
async def predict(request: Request) -> list[list[float]]:
    return run(await request.json()).tolist()
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""
TORCH = """
def run(rows):
    with torch.no_grad():
        return model(torch.tensor(rows, dtype=torch.float64)).numpy()
"""
ONNX = """
import numpy as np, onnxruntime
from onnx import TensorProto, helper, numpy_helper
name, nodes, constants = "x", [], []
for place, step in enumerate(model):
    more = []
    if isinstance(step, torch.nn.Linear):
        more = [f"w{place}", f"b{place}"]
        for label, value in zip(more, (step.weight, step.bias)):
            constants.append(numpy_helper.from_array(value.detach().float().numpy(), label))
    kind = {"Linear": "Gemm", "ReLU": "Relu", "Sigmoid": "Sigmoid"}[type(step).__name__]
    options = {"transB": 1} if more else {}
    nodes.append(helper.make_node(kind, [name, *more], [f"y{place}"], **options))
    name = f"y{place}"
ends = [helper.make_tensor_value_info(one, TensorProto.FLOAT, ["n", size])
        for one, size in (("x", 30), (name, 1))]
graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
opset = [helper.make_opsetid("", 17)]
made = helper.make_model(graph, opset_imports=opset, ir_version=9)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(made.SerializeToString(), options)
def run(rows):
    return session.run(None, {"x": np.array(rows, dtype=np.float32)})[0]
"""
GRPC = """
import asyncio, grpc
import numpy as np
from concurrent import futures
from tritonclient.grpc import service_pb2 as pb
def predict(request, context=None):
    found = run(np.frombuffer(request.raw_input_contents[0]).reshape(1, -1))
    reply = pb.ModelInferResponse(model_name="model", model_version="1")
    reply.outputs.add(name="y", datatype="FP64", shape=found.shape)
    reply.raw_output_contents.append(found.astype(np.float64).tobytes())
    return reply
async def predict_async(request, context):
    return predict(request)
def made(server, method):
    read, write = pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
    handler = grpc.unary_unary_rpc_method_handler(method, read, write)
    service = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ModelInfer": handler})
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port("127.0.0.1:" + sys.argv[1])
    return server
"""
THREADS = """
server = made(grpc.server(futures.ThreadPoolExecutor(16)), predict)
server.start()
server.wait_for_termination()
"""
ASYNC = """
async def main():
    server = made(grpc.aio.server(), predict_async)
    await server.start()
    await server.wait_for_termination()
asyncio.run(main())
"""
KSERVE = """
import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
class Served(Model):
    def load(self):
        self.ready = True
    async def predict(self, payload, headers=None, response_headers=None):
        with torch.no_grad():
            found = model(torch.from_numpy(payload.inputs[0].as_numpy().astype(np.float64)))
        output = InferOutput(name="y", shape=list(found.shape), datatype="FP64")
        output.set_data_from_numpy(found.numpy(), binary_data=False)
        return InferResponse(response_id="1", model_name="model", infer_outputs=[output])
served = Served("model")
served.load()
ports = {"http_port": int(sys.argv[1]), "grpc_port": int(sys.argv[2])}
ModelServer(**ports, enable_grpc=True, workers=1).start([served])
"""
KSERVE_PACKAGES = ["kserve>=0.15,<1", "torch"]


@dataclass(frozen=True)
class Server:
    """Who answers.

    Args:
        name: For the table.
        protocol: `REST` or `gRPC`.
        ours: Whether it is measured against the others.
        connect: Makes a client.
    """

    name: str
    protocol: str
    ours: bool
    connect: Callable[[], Client]


def bare(stack: ExitStack, x_F: np.ndarray[Any, Any]) -> list[Server]:
    """The smallest applications over torch and, where it is installed, onnxruntime."""
    programs = {("FastAPI, torch", "REST"): LAYERS + TORCH + APP}
    if find_spec("onnxruntime") and find_spec("onnx"):
        programs |= {
            ("FastAPI, onnxruntime", "REST"): LAYERS + ONNX + APP,
            ("grpcio with threads, onnxruntime", "gRPC"): LAYERS + ONNX + GRPC + THREADS,
            ("grpcio with asyncio, onnxruntime", "gRPC"): LAYERS + ONNX + GRPC + ASYNC,
        }
    found = []
    for (name, protocol), program in programs.items():
        address = free_address()
        stack.enter_context(running([sys.executable, "-c", program, _port(address)]))
        if protocol == "REST":
            connect = _rest(address, "/", json.dumps([x_F.tolist()]).encode())
        else:
            connect = _grpc(address, message(x_F))
        found.append(Server(name, protocol, ours=False, connect=connect))
    return found


def kserve(stack: ExitStack, x_F: np.ndarray[Any, Any], *, install: bool) -> list[Server]:
    """KServe's ModelServer with the same layers in torch."""
    interpreter = own_environment("kserve", KSERVE_PACKAGES, install=install)
    if interpreter is None:
        raise SystemExit("KServe is not installed; run again with --install")
    rest, rpc = free_address(), free_address()
    program = LAYERS + KSERVE
    stack.enter_context(running([str(interpreter), "-c", program, _port(rest), _port(rpc)]))
    ways = {"REST": _rest(rest, INFER, document(x_F)), "gRPC": _grpc(rpc, message(x_F))}
    return [
        Server("KServe, torch", protocol, ours=False, connect=connect)
        for protocol, connect in ways.items()
    ]


def own(stack: ExitStack, x_F: np.ndarray[Any, Any]) -> list[Server]:
    """`fedward serve` over a new model."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    rest, rpc = stack.enter_context(served(folder))
    ways = {"REST": _rest(rest, INFER, document(x_F)), "gRPC": _grpc(rpc, message(x_F))}
    return [Server("fedward", protocol, ours=True, connect=way) for protocol, way in ways.items()]


def document(x_F: np.ndarray[Any, Any]) -> bytes:
    """One row as the protocol's JSON."""
    tensor = {"name": "columns", "datatype": "FP64", "shape": [1, COLUMNS], "data": x_F.tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def message(x_F: np.ndarray[Any, Any]) -> bytes:
    """The same for gRPC."""
    request = service_pb2.ModelInferRequest(model_name="model")
    request.inputs.add(name="columns", datatype="FP64", shape=[1, COLUMNS])
    request.raw_input_contents.append(x_F.tobytes())
    data: bytes = request.SerializeToString()
    return data


def _rest(address: str, path: str, body: bytes) -> Callable[[], Client]:
    return _ready(lambda: HttpClient(address, path, body))


def _grpc(address: str, data: bytes) -> Callable[[], Client]:
    return _ready(lambda: GrpcClient(address, METHOD, data))


def _ready(connect: Callable[[], Client]) -> Callable[[], Client]:
    """A maker of clients, once the server answers."""
    for _ in range(600):
        try:
            seconds_of(connect())
        except OSError:
            time.sleep(0.1)
        else:
            return connect
    raise SystemExit("a server did not start within a minute")


def _port(address: str) -> str:
    return address.rpartition(":")[2]


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, str]]:
    """`fedward serve` over a new model, and its addresses."""
    key = SigningKey.generate()
    store(folder / "models", key)
    config = {
        "store": "models",
        "signers": [key.fingerprint],
        "models": [{"name": "model"}],
        "rest": "127.0.0.1:0",
        "grpc": "127.0.0.1:0",
        "limits": {"per_second": 1e6},
    }
    path = folder / "serving.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    program = str(Path(sys.executable).with_name("fedward"))
    with running([program, "serve", str(path)], heard=True) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise SystemExit("fedward serve did not start")
        words = line.replace(",", "").split()
        yield words[2], words[4]


def free_address() -> str:
    """An address that nobody has taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def running(command: list[str], *, heard: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block; a pipe that nobody reads would stop it."""
    output = subprocess.PIPE if heard else subprocess.DEVNULL
    with subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def store(folder: Path, key: SigningKey) -> None:
    """A signed model in use, with weights that nobody trained."""
    task = load_task(TASK, SCHEMA)
    weights_P = np.random.default_rng(1).normal(size=task.layout().size)
    digests = Digests(
        job="0" * 64,
        roster="0" * 64,
        layout=task.layout().digest,
        weights=weights_digest(weights_P),
    )
    card = ModelCard(
        name="model",
        version=1,
        created=datetime.now(UTC).isoformat(),
        intended_use="Measurement",
        task=TASK,
        schema=SCHEMA,
        strategy=Named(name="fedsgd", options={}),
        rounds=1,
        cohort_size=2,
        privacy=Guarantee(mode="none", unit="record", delta=1e-5),
        metrics={},
        digests=digests,
    )
    save(folder, card, weights_P, key)
    promote(folder, "model", 1, datetime.now(UTC))
