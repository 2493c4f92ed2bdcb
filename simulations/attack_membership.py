"""Who was among the training records, told from the finished model: a likelihood-ratio attack.

Many models are trained, each on a random half of a pool of records. How sure a model is of a record
is one normal distribution where the record was trained on and another where it was not; the ratio
of the two densities is the score. Each model is attacked in turn with all others as its shadows,
which the attacker trains on records that it knows.

Source: Carlini et al. 2022, Membership Inference Attacks From First Principles, algorithm 1 (with
one variance for all records, section VI.B) and section IV.C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from learning.task import Records, Task
from server.requests import TrainingRequest
from simulations.attack_bench import Bench, Exchange
from simulations.attack_config import Membership
from simulations.attack_guesses import BoolArray, FloatArray, Guesses
from simulations.attack_jobs import Defence, Plan
from simulations.attack_range import Range
from simulations.attack_records import deal, invent
from simulations.attack_results import Told
from simulations.attack_views import sum_readings
from strategies.base import FloatVector, State, Total

Watch = Callable[[str], None]

LEARNING_RATE = 0.2
"""Where there is no noise: small enough for many steps to learn the records by heart."""
_UNSURE = 1e-9
_SMALLEST_VARIANCE = 1e-12


def membership(range_: Range, attack: Membership, watch: Watch) -> tuple[Told, ...]:
    """Guesses of a hospital, which has the model, and of the coordinator, with what it has."""
    plan = Plan(
        config=range_.config,
        records=attack.records,
        options={"model": "mlp", "hidden": [attack.hidden]},
        training=TrainingRequest(
            rounds=attack.rounds, local_steps=attack.local_steps, learning_rate=LEARNING_RATE
        ),
    )
    rng = range_.rng("membership")
    pool = invent(2 * len(range_.names) * attack.records, rng)
    inside_MN = halves(attack.models, len(pool), rng)
    by_reader: tuple[dict[Defence, Guesses], ...] = ({}, {})
    for defence in range_.defences:
        watch(f"membership, {attack.models} models: {defence.label}")
        bench = next(range_.benches(plan, defence, rng))
        for guesses, found in zip(by_reader, infer(bench, pool, inside_MN), strict=True):
            guesses[defence] = found
    return tuple(
        Told(colluders=colluders, pool=len(pool), guesses=guesses)
        for colluders, guesses in enumerate(by_reader)
    )


def infer(bench: Bench, pool: Records, inside_MN: BoolArray) -> tuple[Guesses, Guesses]:
    """Train models on parts of a pool, then guess which records each was trained on.

    Args:
        bench: Hospitals whose records are replaced.
        pool: N records.
        inside_MN: Members of each model.

    Returns:
        Guesses from what the coordinator has, and from the finished models.
    """
    sure_MRN = []
    for inside_N in inside_MN:
        trained = bench.with_records(deal(pool.take(inside_N), bench.names))
        sure_MRN.append([sureness(bench.task, weights_P, pool) for weights_P in follow(trained)])
    read_MN, final_MN = np.array(sure_MRN).transpose(1, 0, 2)
    shadows = Shadows(sure_MN=final_MN, inside_MN=inside_MN)
    return shadows.guesses(read_MN), shadows.guesses(final_MN)


def follow(bench: Bench) -> tuple[FloatVector, FloatVector]:
    """Train, and step along with what the coordinator reads.

    Returns:
        The coordinator's idea of the finished weights, and the weights.
    """
    state = read = bench.start()
    for _ in range(bench.job.training.rounds):
        exchange = bench.exchange(state)
        state = exchange.after()
        read = coordinator_step(exchange, read)
    return read.weights, state.weights


def coordinator_step(exchange: Exchange, state: State) -> State:
    """The next model as the coordinator computes it from what it reads of the sum."""
    bench = exchange.bench
    mean_P = sum_readings(exchange)[0]
    if bench.strategy.contribution == "update":
        training = bench.job.training
        mean_P = -mean_P * (training.learning_rate * training.local_steps)
    return bench.strategy.step(state, Total(mean_P, 1.0))


def halves(models: int, pool: int, rng: np.random.Generator) -> BoolArray:
    """Members of each model: a random half of the pool, each record in half of the models.

    Args:
        models: M; the second half of the models is the first one's complement.
        pool: N, an even number.
        rng: A generator with a public seed.

    >>> halves(4, 6, np.random.Generator(np.random.PCG64(0))).sum(axis=0).tolist()
    [2, 2, 2, 2, 2, 2]
    """
    first = [rng.permutation(pool) < pool // 2 for _ in range((models + 1) // 2)]
    return np.array([*first, *(~half_N for half_N in first)])[:models]


def sureness(task: Task, weights_P: FloatVector, records: Records) -> FloatVector:
    """Log odds of each record's true class, which are closer to normal than its loss."""
    probs_NC = task.predict(weights_P, records.x_NF)
    true_N = probs_NC[np.arange(len(records)), records.y_N]
    true_N = np.clip(true_N, _UNSURE, 1 - _UNSURE)
    odds_N: FloatVector = np.log(true_N / (1 - true_N))
    return odds_N


@dataclass(frozen=True, kw_only=True)
class Shadows:
    """Models whose training records are known, and what they say of a pool.

    Args:
        sure_MN: How sure each model is of each record, see `sureness`.
        inside_MN: Which records each was trained on.
    """

    sure_MN: FloatArray  # noqa: N815 - the shape is part of the name
    inside_MN: BoolArray  # noqa: N815

    def guesses(self, target_MN: FloatArray) -> Guesses:
        """Attack every model with all the others as its shadows.

        Args:
            target_MN: How sure each model is, as far as the attacker could read the model.
        """
        every = np.arange(len(target_MN))
        score_MN = np.array([self._ratios(target_MN[row], every != row) for row in every])
        return Guesses(scores_MN=score_MN, inside_MN=self.inside_MN)

    def _ratios(self, target_N: FloatVector, shadows_M: BoolArray) -> FloatVector:
        """Log likelihood ratio of each record: normal densities with one variance for all."""
        sure_SN, inside_SN = self.sure_MN[shadows_M], self.inside_MN[shadows_M]
        in_N, out_N = (_means(sure_SN, chosen_SN) for chosen_SN in (inside_SN, ~inside_SN))
        rest_SN = np.where(inside_SN, sure_SN - in_N, sure_SN - out_N)
        variance = max(float(np.mean(rest_SN**2)), _SMALLEST_VARIANCE)
        ratio_N: FloatVector = ((target_N - out_N) ** 2 - (target_N - in_N) ** 2) / (2 * variance)
        return ratio_N


def _means(sure_SN: FloatArray, chosen_SN: BoolArray) -> FloatVector:
    """Mean of each record over the chosen shadows, of which there is at least one."""
    mean_N: FloatVector = np.where(chosen_SN, sure_SN, 0.0).sum(axis=0) / chosen_SN.sum(axis=0)
    return mean_N
