"""Attacks on one hospital's update: by inversion of a dense layer, and by gradient matching.

The update is that of the second round. Initial weights are zero in the output layer, so nothing
flows back through it in the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from learning.diagnosis import Options
from learning.schema import Schema
from learning.task import Task
from protocol.config import parse
from simulations.attack_config import Inversion, Matching
from simulations.attack_inversion import invert
from simulations.attack_jobs import Defence, Plan
from simulations.attack_matching import Search, match
from simulations.attack_network import Convolution
from simulations.attack_range import Range
from simulations.attack_records import FloatArray, schema
from simulations.attack_results import Line
from simulations.attack_score import Score, together
from simulations.attack_views import readings
from strategies.base import FloatVector

Watch = Callable[[str], None]
Recover = Callable[[Task, FloatVector, Sequence[FloatVector]], FloatArray]


def inversion(range_: Range, attack: Inversion, watch: Watch) -> Iterator[Line]:
    """Records read off a dense layer, by the number of records behind an update.

    For the smallest number it is also tried with one hospital and with all others on the
    coordinator's side.
    """

    def recover(task: Task, _: FloatVector, read: Sequence[FloatVector]) -> FloatArray:
        return invert(task.layout(), read)

    for count in attack.records:
        everybody = (0, 1, range_.config.hospitals - 1)
        volley = _Volley(
            attack="inversion",
            plan=Plan(
                config=range_.config,
                records=count,
                options={"model": "mlp", "hidden": list(attack.hidden)},
            ),
            updates=attack.updates,
            sides=everybody if count == min(attack.records) else (0,),
            recover=recover,
        )
        yield from volley.fire(range_, watch)


def matching(range_: Range, attack: Matching, watch: Watch) -> Iterator[Line]:
    """Pictures found by matching the gradient of a convolutional network."""
    search = Search(iterations=attack.iterations, restarts=attack.restarts, seed=range_.config.seed)

    def recover(task: Task, weights: FloatVector, read: Sequence[FloatVector]) -> FloatArray:
        return match(task, weights, read, search)

    task = Convolution(Options(), parse(Schema, schema(), "schema"))
    plan = Plan(config=range_.config, records=1, options={"model": "logistic"}, task=task)
    volley = _Volley(
        attack="matching", plan=plan, updates=attack.updates, sides=(0,), recover=recover
    )
    yield from volley.fire(range_, watch)


@dataclass(frozen=True, kw_only=True)
class _Volley:
    """One attack on many updates under every defence.

    Args:
        attack: Its name.
        plan: The job.
        updates: Updates that are attacked.
        sides: Numbers of hospitals on the coordinator's side; one line of results for each.
        recover: From the task, the round's weights and the readings of an update to candidates.
    """

    attack: str
    plan: Plan
    updates: int
    sides: tuple[int, ...]
    recover: Recover

    def fire(self, range_: Range, watch: Watch) -> Iterator[Line]:
        """Attack, one line for each side."""
        outcomes: dict[int, dict[Defence, Score]] = {side: {} for side in self.sides}
        truth_NF = np.empty((0, 0))
        for defence in range_.defences:
            watch(f"{self.attack}, {self.plan.records} in an update: {defence.label}")
            truth_NF, scores = self._under(defence, range_)
            for side, found in scores.items():
                outcomes[side][defence] = found
        for side, by_defence in outcomes.items():
            yield Line(
                attack=self.attack,
                records=self.plan.records,
                summed=1,
                colluders=side,
                truth_NF=truth_NF,
                scores=by_defence,
            )

    def _under(self, defence: Defence, range_: Range) -> tuple[FloatArray, dict[int, Score]]:
        truth: list[FloatArray] = []
        found: dict[int, list[Score]] = {side: [] for side in self.sides}
        trials = -(-self.updates // len(range_.names))
        rng = range_.rng(self.attack, self.plan.records)
        for bench in range_.benches(self.plan, defence, rng, trials=trials):
            exchange = bench.exchange(bench.rounds(1))
            for victim in range_.names[: self.updates - len(truth)]:
                truth.append(bench.records[victim].x_NF)
                for side in self.sides:
                    read = readings(exchange, victim, range_.colluders(victim, side))
                    candidates = self.recover(bench.task, exchange.state.weights, read)
                    found[side].append(range_.score(truth[-1], candidates))
        return np.vstack(truth), {side: together(scores) for side, scores in found.items()}
