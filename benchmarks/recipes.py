"""Which rounds and step lengths an arm needs, tried on other data than a simulation reports.

    python benchmarks/recipes.py signals --arm distributed --rounds 30 60 --rates 0.7 1 2

Invented data are drawn anew, from another seed and under the same law, so that no held-out patient
of the simulation takes part in the choice. Hospitals, partition, task, privacy and strategy are
the simulation's own; of several arms of one name the first is meant. Public data have no second
draw, and are refused.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from report import Row, above_zero, from_on, how_many, parser_of, publish, refusing

from protocol.errors import InputError
from server.requests import TrainingRequest
from simulations.cli import find_config
from simulations.config import FEDERATED, Arm, Simulation, read_simulation
from simulations.sweep import run

OTHER_SEED = 1
HEADINGS = {
    "arm": "arm",
    "rounds": "rounds",
    "local_steps": "local steps",
    "learning_rate": "step length",
    "mean": "score",
    "sd": "deviation",
}


def tried(
    simulation: Simulation, arm: Arm, grid: Sequence[TrainingRequest], draws: Sequence[int]
) -> list[Row]:
    """The arm's score by training, over invented data of several seeds.

    Raises:
        InputError: The data are public, and cannot be drawn anew.
    """
    config = simulation.config
    arms = tuple(replace(arm, training=training) for training in grid)
    scores: list[list[float]] = [[] for _ in arms]
    for draw in draws:
        if draw == config.data.seed:
            raise InputError("data seed", expected="another than the simulation's", found=f"{draw}")
        data = replace(config.data, seed=draw)
        other = replace(config, data=data, arms=arms, seeds=1, seed=config.seed + draw)
        for place, row in enumerate(run(Simulation(other, simulation.request)).rows):
            scores[place].append(row.mean)
    return [_row(arm, training, values) for training, values in zip(grid, scores, strict=True)]


def _row(arm: Arm, training: TrainingRequest, scores: Sequence[float]) -> Row:
    return {
        "arm": arm.arm if arm.epsilon is None else f"{arm.arm} at {arm.epsilon:g}",
        "rounds": training.rounds,
        "local_steps": training.local_steps,
        "learning_rate": training.learning_rate,
        "mean": statistics.fmean(scores),
        "sd": statistics.stdev(scores) if len(scores) > 1 else None,
    }


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("config", help="a simulation's YAML file, or a built-in one")
    parser.add_argument("--arm", choices=FEDERATED, default="clear")
    parser.add_argument("--rounds", type=how_many, nargs="+", required=True)
    parser.add_argument("--rates", type=above_zero, nargs="+", required=True)
    parser.add_argument("--local-steps", type=how_many, nargs="+", default=[1])
    parser.add_argument("--draws", type=from_on(0), nargs="+", default=[OTHER_SEED])
    parser.add_argument("--each", type=how_many, help="patients at each hospital, if not as many")
    return parser


def main() -> None:
    """Try every combination and print the table."""
    torch.set_num_threads(1)
    parser = _parser()
    asked = parser.parse_args()
    with refusing(parser):
        try_all(asked)


def try_all(asked: argparse.Namespace) -> None:
    """Every combination that is asked for.

    Raises:
        InputError: There is no such simulation or arm, or it cannot be tried.
    """
    simulation = read_simulation(find_config(asked.config))
    if asked.each:
        data = replace(simulation.config.data, each=asked.each)
        simulation = Simulation(replace(simulation.config, data=data), simulation.request)
    arm = next((one for one in simulation.config.arms if one.arm == asked.arm), None)
    if arm is None:
        raise InputError(f"{asked.config}: no arm {asked.arm!r}")
    usual = arm.training or simulation.request.training
    grid = [
        replace(usual, rounds=rounds, local_steps=steps, learning_rate=rate)
        for rounds, steps, rate in product(asked.rounds, asked.local_steps, asked.rates)
    ]
    rows = tried(simulation, arm, grid, asked.draws)
    publish(
        f"{simulation.config.name}: {arm.arm} on data that are drawn anew",
        rows,
        target=asked.json,
        packages=("numpy", "torch"),
        headings=HEADINGS,
    )


if __name__ == "__main__":
    main()
