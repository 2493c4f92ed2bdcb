"""What clipping per record costs: time and memory of one gradient sum, against no privacy.

    python benchmarks/privacy_overhead.py [--json FILE] [--repeats 15] [--models mlp cnn ...]

Each line is measured in a process of its own on one thread: the shortest CPU time of a sum over one
batch, and how far the process' peak memory rises above what it holds before. `opacus` lines are
Opacus as it is commonly used (float32, GradSampleModule, whole batch); `engine` lines are ours
(float64, virtual batches of 256). `error` is the relative distance to the engine's one-pass sum.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.layers import DPGRU, DPMultiheadAttention
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from privacy.engine import MARGIN, Engine
from protocol.errors import InputError

CLIP = 1.0
METHODS = (
    "plain float32",
    "plain float64",
    "opacus hooks",
    "opacus ghost",
    "engine onepass",
    "engine hooks",
    "engine ghost",
    "engine patient",
)


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


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, bool]] = {
    "mlp": (mlp, (30,), 512, False),
    "cnn": (cnn, (1, 28, 28), 256, False),
    "transformer": (Transformer, (24,), 256, True),
    "gru": (Recurrent, (20, 8), 256, False),
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
    memory_mib: float | None = None
    error: float | None = None


def loss_per_record(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output, target, reduction="none")


def flat_gradient(model: nn.Module) -> npt.NDArray[np.float64]:
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return np.asarray(torch.cat([grad.flatten() for grad in grads]), dtype=np.float64)


def plain(model: nn.Module, x: Tensor, y: Tensor) -> npt.NDArray[np.float64]:
    model.zero_grad()
    loss_per_record(model(x), y).sum().backward()  # type: ignore[no-untyped-call]
    return flat_gradient(model)


def opacus_hooks(model: GradSampleModule, x: Tensor, y: Tensor) -> npt.NDArray[np.float64]:
    """As DPOptimizer clips: the norms of all grad_samples, then one einsum per parameter."""
    model.zero_grad(set_to_none=True)
    loss_per_record(model(x), y).sum().backward()  # type: ignore[no-untyped-call]
    samples = [parameter.grad_sample.flatten(1) for parameter in model.parameters()]
    norm_B = torch.stack([sample.norm(dim=1) for sample in samples]).norm(dim=0)
    weight_B = (CLIP * (1 - MARGIN) / norm_B).clamp(max=1)
    total_P = torch.cat([weight_B @ sample for sample in samples])
    return np.asarray(total_P, dtype=np.float64)


def opacus_ghost(model: GradSampleModule, x: Tensor, y: Tensor) -> npt.NDArray[np.float64]:
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


def prepare(name: str, method: str) -> Callable[[], npt.NDArray[np.float64]]:
    """The function that is timed; data and weights are the same for every method."""
    make, shape, batch, tokens = MODELS[name]
    torch.manual_seed(0)
    model = make()
    rng = np.random.Generator(np.random.PCG64(0))
    size = (batch, *shape)
    x = rng.integers(1000, size=size) if tokens else rng.normal(size=size)
    y = rng.integers(2, size=batch)
    family, kind = method.split()
    if family == "engine":
        unit, clipping = ("patient", "auto") if kind == "patient" else ("record", kind)
        engine = Engine(model, loss_per_record, clip=CLIP, unit=unit, clipping=clipping)  # type: ignore[arg-type]
        return lambda: engine.clipped_sum(x, y, np.arange(batch) // 2)
    dtype = torch.float64 if kind == "float64" else torch.float32
    x_B, y_B = torch.from_numpy(x if tokens else x.astype(str(dtype)[6:])), torch.from_numpy(y)
    if family == "plain":
        return lambda: plain(model.to(dtype), x_B, y_B)
    ghost = kind == "ghost"
    wrapper = GradSampleModuleFastGradientClipping if ghost else GradSampleModule
    wrapped = wrapper(model, loss_reduction="sum")
    run = opacus_ghost if ghost else opacus_hooks
    return lambda: run(wrapped, x_B, y_B)


def resident_mib(field: str) -> float:
    """VmRSS, or VmHWM: the peak since the process began or the peak was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measure(name: str, method: str, repeats: int) -> Result:
    """Run one line in this process."""
    torch.set_num_threads(1)
    # torch's remark that a model's input needs no gradient: true, and of no consequence here.
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    parameters = sum(parameter.numel() for parameter in MODELS[name][0]().parameters())
    line = (name, parameters, MODELS[name][2], method)
    try:
        run = prepare(name, method)
        before = resident_mib("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
        total = run()
    except InputError:
        return Result(*line)
    memory = resident_mib("VmHWM") - before
    times = []
    for _ in range(repeats):
        start = time.process_time()  # CPU time: neighbours on the machine do not count
        run()
        times.append(1000 * (time.process_time() - start))
    reference = prepare(name, "engine onepass")()
    error = float(np.linalg.norm(total - reference) / np.linalg.norm(reference))
    comparable = not method.startswith("plain") and method != "engine patient"
    return Result(*line, min(times), memory, error if comparable else None)


def measure_apart(name: str, method: str, repeats: int) -> Result:
    """Run one line in a fresh process, so that no line sees another's memory."""
    command = [sys.executable, __file__, "--one", name, method, "--repeats", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Result(**json.loads(done.stdout))


def show(results: list[Result]) -> Table:
    table = Table("model", "method", "ms", "x plain", "MiB", "error", title="One gradient sum")
    baseline = {each.model: each.time_ms or 0.0 for each in results if each.method == METHODS[0]}
    for each in results:
        title = f"{each.model} ({each.parameters:,} parameters, batch {each.batch})"
        times = (
            ("refused", "")
            if each.time_ms is None
            else (
                f"{each.time_ms:.1f}",
                f"{each.time_ms / baseline[each.model]:.1f}",
            )
        )
        table.add_row(
            title if each.method == METHODS[0] else "",
            each.method,
            *times,
            "" if each.memory_mib is None else f"{each.memory_mib:.0f}",
            "" if each.error is None else f"{each.error:.0e}",
            end_section=each.method == METHODS[-1],
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, method = arguments.one
        print(json.dumps(asdict(measure(name, method, arguments.repeats))))
        return
    lines = [(name, method) for name in arguments.models for method in METHODS]
    results = [measure_apart(name, method, arguments.repeats) for name, method in lines]
    Console(width=110).print(show(results))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in results], indent=2))


if __name__ == "__main__":
    main()
