"""How long a prediction takes over loopback, beside servers that only predict.

    python benchmarks/inference.py [--json [FILE]] [--kserve] [--install]

One model (30 numbers, 64-32-16, two classes) is asked for one row: by `fedward serve` over gRPC and
REST, which apply schema and preprocessing, flag values and say what the model is for; and by the
smallest FastAPI application that runs the same layers on features that are ready, in torch and in
onnxruntime. `--kserve` adds KServe's ModelServer with the torch layers over REST, from an
environment of its own, which `--install` makes (about 1.5 GB). All answer in the same run and take
turns, request by request, so that whatever else the machine does meets them equally: ratios mean
more than times. Throughput is that of 16 clients in threads of one process, which is busy itself;
it is a lower bound, and the servers take turns there, too.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from report import Row, own_environment, parser_of, publish
from tritonclient.grpc import service_pb2, service_pb2_grpc

from learning.artefact import save
from learning.card import Digests, Guarantee, ModelCard
from learning.promotion import promote
from learning.task import load_task
from protocol.jobs import Named
from protocol.signing import SigningKey
from protocol.tensors import weights_digest

COLUMNS = 30
CLIENTS = 16
TURNS = 3
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
    return run(await request.json())
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""
TORCH = """
def run(rows):
    with torch.no_grad():
        return model(torch.tensor(rows, dtype=torch.float64)).tolist()
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
    return session.run(None, {"x": np.array(rows, dtype=np.float32)})[0].tolist()
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
ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1).start([served])
"""
KSERVE_PACKAGES = ["kserve>=0.15,<1", "torch"]
Ask = Callable[[], None]


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="to each server, by one client")
    parser.add_argument("--seconds", type=float, default=6.0, help="of 16 clients, each server")
    parser.add_argument("--kserve", action="store_true", help="measure KServe's ModelServer, too")
    parser.add_argument("--install", action="store_true", help="make its environment first")
    args = parser.parse_args()
    x_F = np.random.default_rng(0).normal(size=COLUMNS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = peers(stack, x_F)
        if args.kserve:
            servers["KServe, REST"] = kserve(stack, x_F, install=args.install)
        rest, rpc = stack.enter_context(served(folder))
        servers["fedward, REST"] = lambda: by_http(
            rest, "/v2/models/model/infer", document("columns", x_F)
        )
        servers["fedward, gRPC"] = lambda: by_grpc(rpc, x_F)
        rows = measured(servers, args.requests, args.seconds)
    publish(
        "One row over loopback",
        rows,
        target=args.json,
        packages=("starlette", "uvicorn", "grpcio", "torch"),
        headings={
            "server": "server",
            "p50_ms": "p50 ms",
            "p99_ms": "p99 ms",
            "p50_ratio": "p50 ratio",
            "per_second": f"{CLIENTS} clients, 1/s",
            "throughput_ratio": "ratio",
        },
        notes=["Ratios are to the best of the others in the same run."],
    )


def document(name: str, x_F: np.ndarray[Any, Any]) -> object:
    """One row as the protocol's JSON."""
    matrix = {"name": name, "datatype": "FP64", "shape": [1, COLUMNS]}
    return {"inputs": [{**matrix, "data": x_F.tolist()}]}


def measured(servers: dict[str, Callable[[], Ask]], requests: int, seconds: float) -> list[Row]:
    """Times of one client that asks all servers in turn, and answers to 16 clients."""
    asks = {name: client() for name, client in servers.items()}
    for ask in asks.values():
        for _ in range(20):
            ask()
    times: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(requests):
        for name, ask in asks.items():
            start = time.perf_counter()
            ask()
            times[name].append((time.perf_counter() - start) * 1e3)
    counts: dict[str, float] = dict.fromkeys(servers, 0.0)
    for _ in range(TURNS):
        for name, client in servers.items():
            counts[name] += throughput(client, seconds / TURNS) / TURNS
    others = [name for name in servers if not name.startswith("fedward")]
    best_ms = min(float(np.median(times[name])) for name in others)
    most = max(counts[name] for name in others)
    return [
        {
            "server": name,
            "p50_ms": float(np.median(taken)),
            "p99_ms": float(np.quantile(taken, 0.99)),
            "p50_ratio": float(np.median(taken)) / best_ms,
            "per_second": counts[name],
            "throughput_ratio": counts[name] / most,
        }
        for name, taken in times.items()
    ]


def throughput(client: Callable[[], Ask], seconds: float) -> float:
    """Answers a second to clients that ask one after the other."""
    counts, end = [0] * CLIENTS, threading.Event()

    def work(place: int) -> None:
        ask = client()
        while not end.is_set():
            ask()
            counts[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(CLIENTS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    end.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def by_http(address: str, path: str, document: object) -> Ask:
    """One connection that asks the same again and again."""
    connection = http.client.HTTPConnection(address, timeout=30)
    body = json.dumps(document)
    headers = {"content-type": "application/json"}

    def ask() -> None:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise SystemExit(text.decode())

    return ask


def by_grpc(address: str, x_F: np.ndarray[Any, Any]) -> Ask:
    """The same by gRPC, with a channel of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.insecure_channel(address, options=options)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    message = service_pb2.ModelInferRequest(model_name="model")
    message.inputs.add(name="columns", datatype="FP64", shape=[1, COLUMNS])
    message.raw_input_contents.append(x_F.tobytes())
    return lambda: stub.ModelInfer(message, timeout=10)


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


def peers(stack: ExitStack, x_F: np.ndarray[Any, Any]) -> dict[str, Callable[[], Ask]]:
    """The smallest applications over torch and, where it is installed, onnxruntime."""
    programs = {"FastAPI and torch, bare": LAYERS + TORCH + APP}
    if find_spec("onnxruntime") and find_spec("onnx"):
        programs["FastAPI and onnxruntime, bare"] = LAYERS + ONNX + APP
    found: dict[str, Callable[[], Ask]] = {}
    for name, program in programs.items():
        address = free_address()
        stack.enter_context(running([sys.executable, "-c", program, address.partition(":")[2]]))
        found[name] = asked(address, "/", [x_F.tolist()])
    return found


def kserve(stack: ExitStack, x_F: np.ndarray[Any, Any], *, install: bool) -> Callable[[], Ask]:
    """KServe's ModelServer with the same layers."""
    interpreter = own_environment("kserve", KSERVE_PACKAGES, install=install)
    if interpreter is None:
        raise SystemExit("KServe is not installed; run again with --install")
    address = free_address()
    port = address.partition(":")[2]
    stack.enter_context(running([str(interpreter), "-c", LAYERS + KSERVE, port]))
    return asked(address, "/v2/models/model/infer", document("x", x_F))


def asked(address: str, path: str, body: object) -> Callable[[], Ask]:
    """A maker of clients, once the server answers."""
    for _ in range(600):
        try:
            by_http(address, path, body)()
        except ConnectionError:
            time.sleep(0.1)
        else:
            break
    return lambda: by_http(address, path, body)


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


if __name__ == "__main__":
    main()
