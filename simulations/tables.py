"""Statistics over virtual hospitals: the released table of each arm beside the true one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from learning.pooled_statistics import Statistics
from learning.table_one import TableOne
from learning.tables import table_one
from learning.task import load_task
from privacy.he.sum import SumProcess
from protocol.errors import InputError
from simulations.config import FEDERATED, Arm, Simulation
from simulations.consortium import Consortium, declared, found
from simulations.data import load_data
from simulations.scaling import release
from simulations.sweep import SEEDED_NOTE, Progress, dealt


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one arm told of the patients.

    Args:
        arm: The arm.
        table: What was released.
        epsilon_worst: If every other hospital colludes; None without a guarantee.
        covered: Share of the figures whose interval holds the true one; 1 without noise.
    """

    arm: Arm
    table: TableOne
    epsilon_worst: float | None
    covered: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Released tables beside the truth, which only a simulation can know.

    Args:
        name: The simulation's name.
        truth: The table of all hospitals' training patients, without noise.
        told: One for each arm.
        hospitals: How many there are.
        delta: Delta of the private arms.
        notes: What a reader must know.
    """

    name: str
    truth: TableOne
    told: tuple[Told, ...]
    hospitals: int
    delta: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON's types."""
        return {
            "name": self.name,
            "hospitals": self.hospitals,
            "delta": self.delta,
            "notes": list(self.notes),
            "truth": self.truth.to_json(),
            "arms": [
                {
                    "arm": one.arm.arm,
                    "epsilon": one.arm.epsilon,
                    "epsilon_worst": one.epsilon_worst,
                    "covered": one.covered,
                    "table": one.table.to_json(),
                }
                for one in self.told
            ],
        }


def compare(
    simulation: Simulation,
    *,
    watch: Callable[[Progress], None] = lambda _: None,
    keep: Path | None = None,
) -> Comparison:
    """Run a statistics job in every arm, at the first seed.

    Args:
        simulation: Arms and the statistics job.
        watch: Called with progress.
        keep: Folder in which the virtual hospitals stay; left out, they are removed.

    Raises:
        InputError: An arm is no federated one, or something else does not fit.
        FedwardError: A job failed.
    """
    config, task = simulation.config, _task(simulation)
    shares = dealt(config, load_data(config.data), task, config.seed)
    truth: TableOne | None = None
    told = []
    with SumProcess() as child, tempfile.TemporaryDirectory(prefix="fedward-") as scratch:
        for place, arm in enumerate(config.arms):
            folder = (keep or Path(scratch)) / f"{place}-{arm.arm}"
            runs = len(config.arms)
            watch(Progress(arm=arm, seed=config.seed, done=place, total=runs, arms=runs))
            consortium = found(
                folder,
                shares,
                dataset=config.name,
                test_fraction=config.test_fraction,
                modes=("distributed", "local", "none"),
                strategies=("tally",),
                tasks=("statistics",),
                noise_seed=config.seed if config.seeded_noise else None,
                split_seed=config.seed,
            )
            truth = truth or true_table(task, consortium)
            told.append(_told(simulation, arm, consortium, truth, child))
    if truth is None:
        raise InputError("arms", expected="at least one")
    return Comparison(
        name=config.name,
        truth=truth,
        told=tuple(told),
        hospitals=len(shares),
        delta=simulation.request.privacy.delta,
        notes=(SEEDED_NOTE,) if config.seeded_noise else (),
    )


def _task(simulation: Simulation) -> Statistics:
    request = simulation.request
    for arm in simulation.config.arms:
        if arm.arm not in FEDERATED:
            raise InputError(
                f"arm {arm.arm!r} of a statistics job", expected=f"one of {', '.join(FEDERATED)}"
            )
    task = load_task(request.task, request.schema)
    if not isinstance(task, Statistics):
        raise InputError("task", expected="'statistics'", found=repr(request.task.name))
    return task


def true_table(task: Statistics, consortium: Consortium) -> TableOne:
    """The table of all training patients, every cell shown."""
    parts = [split.train for split in consortium.splits(task).values()]
    sums_KP = [
        task.evaluation.counts(part.x_NF, np.asarray(part.y_N), part.patient_N) for part in parts
    ]
    everything = Statistics(replace(task.options, fewer_than=1), task.asked)
    return table_one(everything, np.sum(sums_KP, axis=0), 0.0)


def _told(
    simulation: Simulation, arm: Arm, consortium: Consortium, truth: TableOne, child: SumProcess
) -> Told:
    task = _task(simulation)
    request = simulation.job_request(arm, declared(consortium.splits(task)))
    was = release(consortium, request, simulation, child)
    return Told(
        arm=arm,
        table=was.table,
        epsilon_worst=None if arm.epsilon is None else was.job.privacy.epsilon_worst,
        covered=covered(was.table, truth),
    )


def covered(table: TableOne, truth: TableOne) -> float:
    """Share of the figures whose interval holds the true one."""
    true = truth.figures
    # Cells without noise are sums of multiples of 2^-20; an encrypted sum is on a coarser grid.
    slack = 0.01 if table.noise == 0 else 0.0
    held = [
        one.low - slack <= true[name].value <= one.high + slack
        for name, one in table.figures.items()
        if name in true
    ]
    return sum(held) / max(len(held), 1)
