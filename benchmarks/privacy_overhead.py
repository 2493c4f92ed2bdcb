"""What clipping per record costs: time and memory of one gradient sum, against no privacy.

    python benchmarks/privacy_overhead.py [--json [FILE]] [--repeats 7] [--models mlp cnn ...]

All methods of a model take turns in one process on one thread. `ms` is a method's shortest CPU time
for a sum over one batch and `x plain` is that against no privacy in float32; `x Opacus` is the
median over the turns of its time against the faster of Opacus' two, so that whatever else the
machine does falls on both; `x Opacus 64` is the same against Opacus in float64. `MiB` is how far
the peak memory of a process that runs nothing else rises and `peak MiB` the whole of it; `--quick`
leaves both out. `opacus` lines are Opacus as it is commonly used (float32, GradSampleModule, whole
batch), `opacus64` lines the same in float64; `engine` lines are ours (float64, in the parts that
the hospital's training takes; `alone` one record after the other, which needs no assumption about
kinks and is slow, so that it takes one turn), and `x engine` is against the one-pass line. `error`
is the relative distance to the engine's one-pass sum. `others` is by how much, in units of the
clip, the sum of the other records moves when one record is taken out: nothing but rounding, and
what the clip's margin has to pay for.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.layers import DPGRU, DPMultiheadAttention
from report import Row, how_many, parser_of, publish
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from client.training import MAX_BATCH, MAX_GRADIENTS
from learning.array_place import ArrayPlace
from learning.residual import ResidualNetwork
from privacy.engine import MARGIN, Clipping, Engine
from protocol.errors import InputError

Vector = npt.NDArray[np.float64]
CLIP = 1.0
TARGET_MIB = 2000
ALL = slice(None)
OPACUS = ("opacus hooks", "opacus ghost")
OPACUS_64 = ("opacus64 hooks", "opacus64 ghost")
METHODS = (
    "plain float32",
    "plain float64",
    *OPACUS,
    *OPACUS_64,
    "engine onepass",
    "engine hooks",
    "engine ghost",
    "engine patient",
    "engine alone",
)
SLOW = "engine alone"


class Transformer(nn.Module):
    """One attention layer over 24 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(1000, 32), nn.Embedding(24, 32)
        self.attention = DPMultiheadAttention(32, 4, batch_first=True)
        self.first, self.second = nn.LayerNorm(32), nn.LayerNorm(32)
        self.up, self.down, self.output = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Two logits from token numbers (B, 24)."""
        h = self.tokens(x) + self.places(torch.arange(24).expand(len(x), 24).contiguous())
        h = self.first(h + self.attention(h, h, h, need_weights=False)[0])
        h = self.second(h + self.down(torch.relu(self.up(h))))
        output: Tensor = self.output(h.mean(1))
        return output


class Recurrent(nn.Module):
    """A GRU over 20 steps of eight signals."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.output = DPGRU(8, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Two logits from signals (B, 20, 8)."""
        output: Tensor = self.output(self.recurrent(x)[0][:, -1])
        return output


def mlp() -> nn.Module:
    layers = (nn.Linear(30, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 32), nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(32, 2))


def cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 2)),
    )


def imaging() -> nn.Module:
    """The network of the task `imaging` with its own widths, on images of 64 x 64."""
    place = ArrayPlace(0, (1, 64, 64), 0, (), (1.0,), (0.0,))
    model: nn.Module = ResidualNetwork(place, (8, 16, 32), (3, 3), 2).module()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, bool]] = {
    "mlp": (mlp, (30,), 512, False),
    "cnn": (cnn, (1, 28, 28), 256, False),
    "transformer": (Transformer, (24,), 256, True),
    "gru": (Recurrent, (20, 8), 256, False),
    "imaging": (imaging, (64 * 64,), 256, False),
}
"""Model, shape of a record, records in a batch, whether inputs are token numbers."""


@dataclass(frozen=True)
class Result:
    """One line of the table; None where a method refuses the model."""

    model: str
    parameters: int
    batch: int
    method: str
    time_ms: float | None = None
    by_opacus: float | None = None
    by_opacus64: float | None = None
    by_engine: float | None = None
    memory_mib: float | None = None
    peak_mib: float | None = None
    error: float | None = None
    others: float | None = None


def loss_per_record(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output, target, reduction="none")


def flat_gradient(model: nn.Module) -> Vector:
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return np.asarray(torch.cat([grad.flatten() for grad in grads]), dtype=np.float64)


def plain(model: nn.Module, x: Tensor, y: Tensor) -> Vector:
    model.zero_grad()
    loss_per_record(model(x), y).sum().backward()  # type: ignore[no-untyped-call]
    return flat_gradient(model)


def opacus_hooks(model: GradSampleModule, x: Tensor, y: Tensor) -> Vector:
    """As DPOptimizer clips: the norms of all grad_samples, then one einsum per parameter."""
    model.zero_grad(set_to_none=True)
    loss_per_record(model(x), y).sum().backward()  # type: ignore[no-untyped-call]
    samples = [parameter.grad_sample.flatten(1) for parameter in model.parameters()]
    norm_B = torch.stack([sample.norm(dim=1) for sample in samples]).norm(dim=0)
    weight_B = (CLIP * (1 - MARGIN) / norm_B).clamp(max=1)
    total_P = torch.cat([weight_B @ sample for sample in samples])
    return np.asarray(total_P, dtype=np.float64)


def opacus_ghost(model: GradSampleModule, x: Tensor, y: Tensor) -> Vector:
    """As DPTensorFastGradientClipping.backward does: two backward passes."""
    model.zero_grad(set_to_none=True)
    losses_B = loss_per_record(model(x), y)
    losses_B.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
    weight_B = (CLIP * (1 - MARGIN) / model.get_norm_sample()).clamp(max=1)
    model.zero_grad(set_to_none=True)
    model.disable_hooks()
    (weight_B * losses_B).sum().backward()
    model.enable_hooks()
    return flat_gradient(model)


Sum = Callable[[slice], Vector]
"""The sum of the gradients of some records of the batch."""


def prepare(name: str, method: str) -> Sum:
    """The function that is timed; data and weights are the same for every method.

    Raises:
        InputError: The method refuses the model.
    """
    make, shape, batch, tokens = MODELS[name]
    torch.manual_seed(0)
    model = make()
    rng = np.random.Generator(np.random.PCG64(0))
    size = (batch, *shape)
    x = rng.integers(1000, size=size) if tokens else rng.normal(size=size)
    y = rng.integers(2, size=batch)
    family, kind = method.split()
    if family == "engine":
        return ours(model, kind, x, y)
    dtype = torch.float64 if "64" in method else torch.float32
    x_B, y_B = torch.from_numpy(x if tokens else x.astype(str(dtype)[6:])), torch.from_numpy(y)
    model.to(dtype)
    if family == "plain":
        return lambda rows: plain(model, x_B[rows], y_B[rows])
    ghost = kind == "ghost"
    wrapper = GradSampleModuleFastGradientClipping if ghost else GradSampleModule
    wrapped = wrapper(model, loss_reduction="sum")
    run = opacus_ghost if ghost else opacus_hooks
    return lambda rows: run(wrapped, x_B[rows], y_B[rows])


def ours(model: nn.Module, kind: str, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Sum:
    """The engine as a hospital's training sets it up."""
    length = sum(parameter.numel() for parameter in model.parameters())
    together = max(1, min(MAX_BATCH, MAX_GRADIENTS // length))
    engine = Engine(
        model,
        loss_per_record,
        clip=CLIP,
        unit="patient" if kind == "patient" else "record",
        clipping=cast("Clipping", "auto" if kind in ("patient", "alone") else kind),
        max_batch=1 if kind == "alone" else together,
    )
    patient = np.arange(len(y)) // 2
    return lambda rows: engine.clipped_sum(x[rows], y[rows], patient[rows])


def resident_mib(field: str) -> float:
    """VmRSS, or VmHWM: the peak since the process began or the peak was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measure_memory(name: str, method: str) -> tuple[float, float]:
    """Mebibytes that one sum adds to this process' peak, and the peak itself."""
    run = prepare(name, method)
    run(slice(2))  # what a library loads or keeps at its first call is no part of a sum
    before = resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak until now
    run(ALL)
    return resident_mib("VmHWM") - before, resident_mib("VmHWM")


def memory_apart(name: str, method: str) -> tuple[float, float] | None:
    """`measure_memory` in a child, so that no line sees another's memory; None if refused.

    This process must not have run torch yet: a child has none of its threads and caches then, and
    begins in a hundredth of the time that the imports take.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(InputError):
            told = " ".join(map(str, measure_memory(name, method)))
            os.write(theirs, told.encode())
        os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as pipe:  # noqa: PTH123 - a descriptor
        told = pipe.read().decode()
    os.waitpid(child, 0)
    if not told:
        return None
    rise, peak = map(float, told.split())
    return rise, peak


def time_in_turns(sums: Mapping[str, Sum], repeats: int) -> dict[str, Vector]:
    """CPU milliseconds of each method, one value for each turn."""
    times: dict[str, list[float]] = {method: [] for method in sums}
    for turn in range(repeats):
        for method, run in sums.items():
            if turn and method == SLOW:
                continue
            start = time.process_time()  # CPU time: neighbours on the machine do not count
            run(ALL)
            times[method].append(1000 * (time.process_time() - start))
    return {method: np.array(values) for method, values in times.items()}


Memory = Mapping[str, tuple[float, float] | None]


def measure(name: str, repeats: int, memory: Memory) -> list[Result]:
    """All lines of one model."""
    parameters = sum(parameter.numel() for parameter in MODELS[name][0]().parameters())
    sums: dict[str, Sum] = {}
    found: dict[str, Vector] = {}
    for method in METHODS:
        with suppress(InputError):
            run = prepare(name, method)
            if method != SLOW:
                found[method] = run(ALL)  # warms up as well
            sums[method] = run
    times = time_in_turns(sums, repeats)
    reference = found["engine onepass"]
    results = []
    for method in METHODS:
        line = (name, parameters, MODELS[name][2], method)
        if method not in sums:
            results.append(Result(*line))
            continue
        exact = method not in (SLOW, "engine patient") and not method.startswith("plain")
        rise, peak = memory.get(method) or (None, None)
        results.append(
            Result(
                *line,
                time_ms=float(times[method].min()),
                by_opacus=against(times, method, OPACUS),
                by_opacus64=against(times, method, OPACUS_64),
                by_engine=against(times, method, ("engine onepass",)),
                memory_mib=rise,
                peak_mib=peak,
                error=distance(found[method], reference) if exact else None,
                others=moved(sums[method], found[method]) if exact else None,
            )
        )
    return results


def against(times: Mapping[str, Vector], method: str, others: Sequence[str]) -> float:
    """The median over turns of a method's time against the fastest of the others."""
    fastest = np.minimum.reduce([times[other] for other in others])
    own = times[method]
    return float(np.median(own / fastest[: len(own)]))


def distance(found: Vector, reference: Vector) -> float:
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))


def moved(run: Sum, total: Vector) -> float:
    """How far the sum of the other records moves when the first is taken out, in clips."""
    without = total - run(slice(1)) - run(slice(1, None))
    return float(np.linalg.norm(without)) / CLIP


HEADINGS = {
    "model": "model",
    "method": "method",
    "time_ms": "ms",
    "by_plain": "x plain",
    "by_opacus": "x Opacus",
    "by_opacus64": "x Opacus 64",
    "by_engine": "x engine",
    "memory_mib": "MiB",
    "peak_mib": "peak MiB",
    "error": "error",
    "others": "others",
}


def as_row(line: Result, lines: Sequence[Result]) -> Row:
    """A line of the table, with its time against that of no privacy in float32."""
    plain_ms = next(each.time_ms for each in lines if each.model == line.model)
    ratio = line.time_ms / plain_ms if line.time_ms and plain_ms else None
    title = f"{line.model}, {line.parameters:,} weights, {line.batch} records"
    refused = "" if line.time_ms else " (refused)"
    return {**asdict(line), "model": title, "method": line.method + refused, "by_plain": ratio}


def main() -> None:
    """Print the table; exit code 1 where images take more memory than is allowed."""
    parser = parser_of(__doc__)
    parser.add_argument("--repeats", type=how_many, default=7)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--quick", action="store_true", help="times alone, no memory")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # torch's remark that a model's input needs no gradient: true, and of no consequence here.
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    memory: dict[str, Memory] = {name: {} for name in arguments.models}
    if not arguments.quick:
        memory = {
            name: {method: memory_apart(name, method) for method in METHODS if method != SLOW}
            for name in arguments.models
        }
    lines = [
        line for name in arguments.models for line in measure(name, arguments.repeats, memory[name])
    ]
    publish(
        "One gradient sum",
        [as_row(line, lines) for line in lines],
        target=arguments.json,
        packages=("numpy", "torch", "opacus"),
        headings=HEADINGS,
        notes=[
            f"{sum(os.times()[:4]):.0f} s of one processor in all.",
            f"At most {TARGET_MIB:,} MiB are allowed to a process that sums images privately.",
        ],
    )
    sys.exit(any(map(too_large, lines)))


def too_large(line: Result) -> bool:
    """Whether the engine takes more memory for images than is allowed."""
    engine = line.model == "imaging" and line.method.startswith("engine")
    return engine and (line.peak_mib or 0) > TARGET_MIB


if __name__ == "__main__":
    main()
