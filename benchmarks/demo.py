"""How long a round of `make demo` takes: each of its federated arms, with one seed.

    OMP_NUM_THREADS=1 python benchmarks/demo.py [--json [FILE]]

Five virtual hospitals in one process, as `fedward simulate configs/simulations/demo.yaml` has them.
`s` is a median round by the clock, `CPU s` one of this process, which counts on a busy machine.
The aim is half a second. `round.py --demo` prints the same table.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from report import Row, parser_of, publish

from simulations.config import FEDERATED, Simulation, read_simulation
from simulations.sweep import Progress, run

DEMO = Path(__file__).resolve().parents[1] / "configs" / "simulations" / "demo.yaml"


@dataclass
class Clock:
    """Seconds of every round of every arm, by the wall and of this process."""

    spent: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    begun: tuple[float, float] = (0.0, 0.0)

    def watch(self, progress: Progress) -> None:
        """Note a round that has ended; whatever else happens begins the next one."""
        now = time.perf_counter(), time.process_time()
        if progress.event is not None and progress.event.kind == "round":
            arm = progress.arm
            name = arm.arm if arm.epsilon is None else f"{arm.arm}, epsilon {arm.epsilon:g}"
            wall_s, cpu_s = (end - start for end, start in zip(now, self.begun, strict=True))
            self.spent.setdefault(name, []).append((wall_s, cpu_s))
        self.begun = now

    def rows(self) -> list[Row]:
        """A line for each arm: its median round, and its slowest, which is the first."""
        return [
            {
                "arm": arm,
                "rounds": len(rounds),
                "s": float(np.median([wall_s for wall_s, _ in rounds])),
                "cpu_s": float(np.median([cpu_s for _, cpu_s in rounds])),
                "slowest_cpu_s": max(cpu_s for _, cpu_s in rounds),
            }
            for arm, rounds in self.spent.items()
        ]


def show_demo(target: str | None = None) -> None:
    """Run the demo's federated arms once and print the table."""
    torch.set_num_threads(1)
    demo = read_simulation(DEMO)
    arms = tuple(arm for arm in demo.config.arms if arm.arm in FEDERATED)
    clock = Clock()
    run(Simulation(replace(demo.config, seeds=1, arms=arms), demo.request), watch=clock.watch)
    publish(
        "A round of the demo, five hospitals together",
        clock.rows(),
        target=target,
        packages=("numpy", "torch", "flwr", "tenseal", "cryptography"),
        headings={
            "arm": "arm",
            "rounds": "rounds",
            "s": "s",
            "cpu_s": "CPU s",
            "slowest_cpu_s": "slowest, CPU s",
        },
    )


def main() -> None:
    """Print the table."""
    show_demo(parser_of(__doc__).parse_args().json)


if __name__ == "__main__":
    main()
