"""How long a prediction takes over loopback, beside servers that only predict.

    python benchmarks/inference.py [--json [FILE]] [--alone] [--kserve] [--install]

One model (30 numbers, 64-32-16, two classes) is asked for one row: by `fedward serve` over gRPC and
REST, which apply schema and preprocessing, flag values and say what the model is for; and by the
smallest servers that run the same layers on features that are ready: FastAPI over torch and
onnxruntime, and grpcio, with threads and with asyncio, over onnxruntime. `--kserve` adds KServe's
ModelServer over torch with both protocols, from an environment of its own, which `--install` makes
(about 1.5 GB).

All answer in the same run and take turns, request by request, so that whatever else the machine
does meets them equally: ratios mean more than times. Each of ours is compared with the best of all
others, whatever its protocol, and with the best of its own protocol. The clients cost next to
nothing and are the same for all, see `lean_clients.py`: usual ones would take as long as the
servers and draw every ratio to 1. Nothing is pinned to a core, since some servers have threads that
need one. Throughput is that of 16 clients; there the servers take turns, too, a second at a time.
`--alone` asks each server all its requests before the next: it finds its own code in the caches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt
from inference_peers import COLUMNS, Server, bare, kserve, own
from lean_clients import seconds_of, throughput
from report import Row, parser_of, publish

CLIENTS = 16
WARM = 50
Times = npt.NDArray[np.float64]
HEADINGS = {
    "server": "server",
    "protocol": "protocol",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "p50_ratio": "p50, to all",
    "p50_own_ratio": "to its protocol's",
    "per_second": f"{CLIENTS} clients, 1/s",
    "throughput_ratio": "to all",
    "throughput_own_ratio": "to its protocol's",
}


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="to each server, by one client")
    parser.add_argument("--seconds", type=float, default=6.0, help="of 16 clients, each server")
    parser.add_argument("--alone", action="store_true", help="ask one server after the other")
    parser.add_argument("--kserve", action="store_true", help="measure KServe's ModelServer, too")
    parser.add_argument("--install", action="store_true", help="make its environment first")
    args = parser.parse_args()
    x_F = np.random.default_rng(0).normal(size=COLUMNS)
    with ExitStack() as stack:
        servers = bare(stack, x_F)
        if args.kserve:
            servers += kserve(stack, x_F, install=args.install)
        servers += own(stack, x_F)
        times = latencies(servers, args.requests, alone=args.alone)
        rates = throughputs(servers, args.seconds)
    publish(
        "One row over loopback",
        rows_of(servers, times, rates),
        target=args.json,
        packages=("starlette", "uvicorn", "grpcio", "torch"),
        headings=HEADINGS,
        notes=["Ratios are to the best of the others in the same run, of all and of the protocol."],
    )


def latencies(servers: Sequence[Server], requests: int, *, alone: bool) -> list[Times]:
    """Milliseconds of each answer to one client, which asks all servers in turn unless `alone`."""
    clients = [server.connect() for server in servers]
    for client in clients:
        for _ in range(WARM):
            seconds_of(client)
    if alone:
        found = [[seconds_of(client) for _ in range(WARM + requests)][WARM:] for client in clients]
    else:
        turns = [[seconds_of(client) for client in clients] for _ in range(requests)]
        found = [list(one) for one in zip(*turns, strict=True)]
    return [np.array(one) * 1e3 for one in found]


def throughputs(servers: Sequence[Server], seconds: float) -> list[float]:
    """Answers a second to all clients, the servers in turn."""
    turns = max(1, round(seconds))
    found = [
        [throughput(server.connect, CLIENTS, seconds / turns) for server in servers]
        for _ in range(turns)
    ]
    return [float(np.mean(one)) for one in zip(*found, strict=True)]


def rows_of(
    servers: Sequence[Server],
    times: Sequence[Times],
    rates: Sequence[float],
) -> list[Row]:
    """A row for each server, with its ratios to the best of the others."""
    p50s = [float(np.median(one)) for one in times]
    return [
        {
            "server": server.name,
            "protocol": server.protocol,
            "p50_ms": p50,
            "p99_ms": float(np.quantile(taken, 0.99)),
            "p50_ratio": p50 / best(servers, p50s, min),
            "p50_own_ratio": p50 / best(servers, p50s, min, server.protocol),
            "per_second": rate,
            "throughput_ratio": rate / best(servers, rates, max),
            "throughput_own_ratio": rate / best(servers, rates, max, server.protocol),
        }
        for server, taken, p50, rate in zip(servers, times, p50s, rates, strict=True)
    ]


def best(
    servers: Sequence[Server],
    values: Sequence[float],
    of: Callable[[list[float]], float],
    protocol: str = "",
) -> float:
    """The best value of the servers that are not ours, of one protocol or of all.

    Where none of the protocol is measured, since something is not installed, there is no number.
    """
    others = [
        value
        for server, value in zip(servers, values, strict=True)
        if not server.ours and protocol in {"", server.protocol}
    ]
    return of(others) if others else float("nan")


if __name__ == "__main__":
    main()
