"""How long a prediction takes over loopback, beside a server that only predicts.

Run `python benchmarks/predictions.py`, with `--json` for programs. One model (30 numbers, 64-32-16,
two classes) is asked for one row: by `fedward serve` over gRPC and REST, which apply schema and
preprocessing, flag values and say what the model is for; and by the smallest FastAPI application
that runs the same layers in torch on features that are ready. All answer in the same run, with the
same client code, so their ratios mean more than their times. Throughput is that of 16 clients in
threads of one process, which is busy itself; it is a lower bound.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from report import Row, parser_of, publish
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
TASK = Named(name="diagnosis", options={"model": "mlp"})
SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": f"x{place}", "kind": "number", "low": -5, "high": 5} for place in range(COLUMNS)
    ],
    "label": {"name": "ill", "classes": ["no", "yes"]},
}
BARE = """
import sys
import torch, uvicorn
from fastapi import FastAPI, Request
torch.set_num_threads(1)
from learning.networks import Dense
app, model = FastAPI(), Dense((30, 64, 32, 16, 1))
@app.post("/")
async def predict(request: Request) -> list[list[float]]:
    rows = torch.tensor(await request.json(), dtype=torch.float64)
    with torch.no_grad():
        return torch.sigmoid(model(rows)).tolist()
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""
Ask = Callable[[], None]


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="by one client")
    parser.add_argument("--seconds", type=float, default=5.0, help="of 16 clients, each server")
    args = parser.parse_args()
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder)) as (rest, rpc),
        bare() as app,
    ):
        x_F = np.random.default_rng(0).normal(size=COLUMNS)
        matrix = {"name": "columns", "datatype": "FP64", "shape": [1, COLUMNS]}
        document = {"inputs": [{**matrix, "data": x_F.tolist()}]}
        servers: dict[str, Callable[[], Ask]] = {
            "FastAPI and torch, bare": lambda: by_http(app, "/", [x_F.tolist()]),
            "fedward, REST": lambda: by_http(rest, "/v2/models/model/infer", document),
            "fedward, gRPC": lambda: by_grpc(rpc, x_F),
        }
        for name, client in servers.items():
            rows.append(measured(name, client, args.requests, args.seconds, rows))
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
        notes=("Ratios are to the bare application of the same run.",),
    )


def measured(
    name: str, client: Callable[[], Ask], requests: int, seconds: float, before: list[Row]
) -> Row:
    """Latency of one client, then throughput of many."""
    ask = client()
    for _ in range(min(100, requests)):
        ask()
    times = []
    for _ in range(requests):
        start = time.perf_counter()
        ask()
        times.append(time.perf_counter() - start)
    p50_ms, p99_ms = (float(np.quantile(times, share)) * 1e3 for share in (0.5, 0.99))
    per_second = throughput(client, seconds)
    first = before[0] if before else {"p50_ms": p50_ms, "per_second": per_second}
    return {
        "server": name,
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "p50_ratio": p50_ms / float(first["p50_ms"] or 1),
        "per_second": per_second,
        "throughput_ratio": per_second / float(first["per_second"] or 1),
    }


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
    connection = http.client.HTTPConnection(address)
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
    with running([program, "serve", str(path)]) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise SystemExit("fedward serve did not start")
        words = line.replace(",", "").split()
        yield words[2], words[4]


@contextmanager
def bare() -> Iterator[str]:
    """The application to compare with."""
    port = 20_000 + os.getpid() % 20_000
    with running([sys.executable, "-c", BARE, str(port)]):
        address = f"127.0.0.1:{port}"
        for _ in range(600):
            try:
                by_http(address, "/", [[0.0] * COLUMNS])()
            except ConnectionError:
                time.sleep(0.1)
            else:
                break
        yield address


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
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
