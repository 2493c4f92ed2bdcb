"""Every fault, planted alone in the real pipeline, raises an alarm within seconds.

The same audits without a fault pass: tests/simulations/test_audit.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import client.training
import privacy.conformance
import privacy.opacus_gradients
import privacy.plan
import privacy.request
from client.hospital import Hospital
from learning.diagnosis import Diagnosis
from privacy.accounting import Event, calibrate, epsilon
from privacy.engine import Engine
from privacy.grid import release
from privacy.noise import Entropy, SeededEntropy, poisson_sample
from protocol.jobs import Release
from simulations.audit import Audit, audit
from tests.simulations.canaries import LOCAL, MANY, PATIENTS, SAMPLED, configured

BUDGET_S = 10.0
Patch = pytest.MonkeyPatch


# -- noise ----------------------------------------------------------------------------------------


def less_noise(factor: float) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        def faulty(sum_P: Any, numbers: Release, share: float, entropy: Entropy) -> Any:
            return release(sum_P, numbers, factor * share, entropy)

        patch.setattr(client.training, "release", faulty)

    return plant


def noise_on_weights_only(patch: Patch) -> None:
    """Noise everywhere but on the first class' weights."""

    def faulty(sum_P: Any, numbers: Release, share: float, entropy: Entropy) -> Any:
        noised_P = release(sum_P, numbers, share, entropy)
        quiet_P = release(sum_P, numbers, 0.0, entropy)
        third = len(sum_P) // 3
        return np.concatenate([quiet_P[:third], noised_P[third:]])

    patch.setattr(client.training, "release", faulty)


def one_seed(*, rounds_too: bool) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        def entropy(hospital: Hospital, dataset: str, *context: str) -> Entropy:
            return SeededEntropy(7, *(() if rounds_too else context))

        patch.setattr(Hospital, "entropy", entropy)

    return plant


def divided_by_all_sites(patch: Patch) -> None:
    """sigma / K, where only sigma / sqrt(K - t) adds up to sigma."""

    def own(mode: str, sigma: float, cohort_size: int, colluding_sites: int) -> float:
        return sigma / cohort_size

    patch.setattr(privacy.plan, "own_multiplier", own)


def one_round_paid_for_all(patch: Patch) -> None:
    """Noise for one round, and an accountant that says it lasts for all of them."""

    def cheap(target: float, delta: float, steps: int, q: float) -> float:
        return calibrate(target, delta, 1, q)

    def single(events: Any, delta: float) -> float:
        return epsilon([Event(event.sigma, event.q, 1) for event in events], delta)

    patch.setattr(privacy.request, "calibrate", cheap)
    patch.setattr(privacy.request, "epsilon", single)
    patch.setattr(privacy.conformance, "epsilon", single)


# -- clipping -------------------------------------------------------------------------------------


class Unclipped(Engine):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clip = 1e12


class BatchClipped(Unclipped):
    """Clips the sum over the batch instead of each record's gradient."""

    def __init__(self, *args: Any, clip: float, **kwargs: Any) -> None:
        super().__init__(*args, clip=clip, **kwargs)
        self._bound = clip

    def clipped_sum(self, *args: Any, **kwargs: Any) -> Any:
        total_P = super().clipped_sum(*args, **kwargs)
        return total_P * min(1.0, self._bound / max(float(np.linalg.norm(total_P)), 1e-300))


class RecordClipped(Engine):
    """Clips records where a patient has several."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "unit": "record"})


class MeanReleased(Engine):
    """The mean over the records that were sampled, times a size that was declared."""

    def clipped_sum(self, x: Any, y: Any, patient: Any = None, mask: Any = None) -> Any:
        total_P = super().clipped_sum(x, y, patient, mask)
        here = len(x) if mask is None else int(mask.sum())
        return total_P * (0.25 * len(x) / max(here, 1))


def engine(kind: type[Engine]) -> Callable[[Patch], None]:
    """Planted where patients are trained on and not where guards look, which would refuse it."""
    return lambda patch: patch.setattr(client.training, "Engine", kind)


def unclipped_for_guards_too(patch: Patch) -> None:
    def all_of_it(squares_B: torch.Tensor, clip: float) -> torch.Tensor:
        return torch.ones_like(squares_B)

    patch.setattr("privacy.engine.clip_weights", all_of_it)


class Ghost(Engine):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "clipping": "ghost"})


def ghost_with_a_column_of_losses(patch: Patch) -> None:
    """(B, 1) losses times (B,) weights are (B, B): each record counts as often as there are any."""
    loss = Diagnosis.loss

    def column(task: Diagnosis, output: Any, target: Any) -> Any:
        return loss(task, output, target)[:, None]

    def unchecked(model: Any, loss: Any, x_B: Any, y_B: Any) -> Any:
        return loss(model(x_B), y_B)

    patch.setattr(Diagnosis, "loss", column)
    patch.setattr(privacy.opacus_gradients, "loss_per_record", unchecked)
    patch.setattr(client.training, "Engine", Ghost)


# -- sampling -------------------------------------------------------------------------------------


def shuffling(patch: Patch) -> None:
    """Epochs: every record once, in some batch, before any comes again."""
    rng = np.random.default_rng(3)
    epochs: dict[int, Iterator[Any]] = {}

    def epoch(size: int, rate: float) -> Iterator[Any]:
        while True:
            yield from np.array_split(rng.permutation(size), round(1 / rate))

    def faulty(size: int, rate: float, entropy: Entropy) -> Any:
        mask = np.zeros(size, dtype=np.bool_)
        mask[next(epochs.setdefault(size, epoch(size, rate)))] = True
        return mask

    patch.setattr(client.training, "poisson_sample", faulty)


def batches_of_one_size(patch: Patch) -> None:
    rng = np.random.default_rng(3)

    def faulty(size: int, rate: float, entropy: Entropy) -> Any:
        mask = np.zeros(size, dtype=np.bool_)
        mask[rng.choice(size, round(size * rate), replace=False)] = True
        return mask

    patch.setattr(client.training, "poisson_sample", faulty)


def the_same_batch_again(patch: Patch) -> None:
    def faulty(size: int, rate: float, entropy: Entropy) -> Any:
        return poisson_sample(size, rate, SeededEntropy(5, str(size)))

    patch.setattr(client.training, "poisson_sample", faulty)


def twice_the_rate(patch: Patch) -> None:
    def faulty(size: int, rate: float, entropy: Entropy) -> Any:
        return poisson_sample(size, 2 * rate, entropy)

    patch.setattr(client.training, "poisson_sample", faulty)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault and the checks that must raise an alarm; others may.

    Where `few` canaries are as plain a sign, the quick audit has no more.
    """

    plant: Callable[[Patch], None]
    alarms: frozenset[str]
    changes: dict[str, Any] = field(default_factory=dict)
    few: bool = True


FEW = {"canaries": 200}
FAULTS = {
    "no noise": Fault(plant=less_noise(0.0), alarms=frozenset({"noise", "epsilon", "repeats"})),
    "no noise, where guesses alone would tell": Fault(
        few=False,
        plant=less_noise(0.0),
        alarms=frozenset({"guesses"}),
        changes={"privacy": {"epsilon": 0.5}},
    ),
    "no clipping, where guesses alone would tell": Fault(
        few=False,
        plant=engine(Unclipped),
        alarms=frozenset({"guesses"}),
        changes={"privacy": {"epsilon": 0.5, "clip": 0.1}},
    ),
    "half the noise": Fault(few=False, plant=less_noise(0.5), alarms=frozenset({"noise"})),
    "noise over root two": Fault(
        few=False, plant=less_noise(math.sqrt(0.5)), alarms=frozenset({"noise"})
    ),
    "nine tenths of the noise": Fault(
        few=False, plant=less_noise(0.9), alarms=frozenset({"noise"}), changes=MANY
    ),
    "noise on some weights only": Fault(
        few=False, plant=noise_on_weights_only, alarms=frozenset({"noise"})
    ),
    "sigma over K": Fault(few=False, plant=divided_by_all_sites, alarms=frozenset({"noise"})),
    "one seed at all sites": Fault(
        plant=one_seed(rounds_too=False), alarms=frozenset({"noise", "repeats"})
    ),
    "one seed at all sites in all rounds": Fault(
        plant=one_seed(rounds_too=True), alarms=frozenset({"noise", "repeats"})
    ),
    "one round paid for all": Fault(
        few=False,
        plant=one_round_paid_for_all,
        alarms=frozenset({"epsilon"}),
        changes={"rounds": 10},
    ),
    "no clipping": Fault(
        plant=engine(Unclipped), alarms=frozenset({"influence", "epsilon", "clip"})
    ),
    "no clipping, guards included": Fault(
        plant=unclipped_for_guards_too,
        alarms=frozenset({"influence", "epsilon", "clip", "guards"}),
    ),
    "the batch clipped": Fault(
        few=False, plant=engine(BatchClipped), alarms=frozenset({"influence", "clip"})
    ),
    "records clipped, not patients": Fault(
        plant=engine(RecordClipped),
        alarms=frozenset({"influence", "clip"}),
        changes=PATIENTS,
    ),
    "means released": Fault(plant=engine(MeanReleased), alarms=frozenset({"clip"})),
    "ghost clipping, losses (B, 1)": Fault(
        plant=ghost_with_a_column_of_losses,
        alarms=frozenset({"influence", "epsilon", "clip", "guards"}),
    ),
    "shuffling": Fault(plant=shuffling, alarms=frozenset({"sampling"})),
    "shuffling, sampled job": Fault(
        plant=shuffling, alarms=frozenset({"sampling"}), changes=SAMPLED
    ),
    "batches of one size": Fault(plant=batches_of_one_size, alarms=frozenset({"sampling"})),
    "the same batch again": Fault(plant=the_same_batch_again, alarms=frozenset({"sampling"})),
    "twice the rate": Fault(
        few=False, plant=twice_the_rate, alarms=frozenset({"sampling"}), changes=SAMPLED
    ),
    "no noise, local": Fault(
        plant=less_noise(0.0),
        alarms=frozenset({"noise", "epsilon"}),
        changes=LOCAL,
    ),
}


def audited(fault: Fault, patch: Patch, changes: dict[str, Any]) -> Audit:
    fault.plant(patch)
    found = audit(configured(**changes))
    alarms = {check.name for check in found.checks if not check.passed}
    assert alarms >= fault.alarms, found.verdict
    return found


@pytest.mark.parametrize("name", [name for name in FAULTS if FAULTS[name].changes is not MANY])
def test_a_planted_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS[name]
    found = audited(fault, monkeypatch, {**fault.changes, **(FEW if fault.few else {})})
    assert not found.passed
    assert found.verdict.startswith("FAULT: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught_in_seconds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that does nothing else; so it is no part of the tests that everybody runs."""
    begin = time.process_time()
    audited(FAULTS[name], monkeypatch, FAULTS[name].changes)
    assert time.process_time() - begin <= BUDGET_S
