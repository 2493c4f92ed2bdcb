from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from simulations import attack_membership
from simulations.attack_bench import Bench
from simulations.attack_jobs import Defence
from simulations.attack_membership import (
    Shadows,
    coordinator_step,
    follow,
    halves,
    infer,
    sureness,
)
from simulations.attack_records import FloatArray, invent
from tests.simulations.attacked import BOTH, ENCRYPTION, NOISE, NONE, bench, generator


def test_every_record_is_in_half_of_the_models() -> None:
    inside_MN = halves(10, 20, generator())
    assert (inside_MN.sum(axis=0) == 5).all()
    assert (inside_MN.sum(axis=1) == 10).all()
    assert halves(9, 20, generator()).shape == (9, 20)


def test_sureness_is_the_log_odds_of_the_truth() -> None:
    hospitals = bench(NONE)
    weights_P = generator().normal(size=hospitals.task.layout().size) / 30
    records = invent(10, generator())
    probs_N2 = hospitals.task.predict(weights_P, records.x_NF)
    odds_N = np.log(probs_N2[:, 1]) - np.log(probs_N2[:, 0])
    expected = np.where(records.y_N == 1, odds_N, -odds_N)
    assert sureness(hospitals.task, weights_P, records) == pytest.approx(expected)
    assert np.isfinite(sureness(hospitals.task, 1e6 * weights_P, records)).all()


def world(shift: float, models: int = 60, pool: int = 80) -> tuple[Shadows, FloatArray]:
    """Shadows of which theory knows everything: normal, records apart, members shifted."""
    rng = generator()
    inside_MN = halves(models, pool, rng)
    base_N = 5 * rng.normal(size=pool)
    sure_MN = base_N + shift * inside_MN + rng.normal(size=(models, pool))
    return Shadows(sure_MN=sure_MN, inside_MN=inside_MN), sure_MN


def test_scores_are_the_ratio_of_two_normal_densities() -> None:
    """Of the first model, with everything fitted to the other models by hand."""
    shadows, sure_MN = world(1.0)
    others, inside = sure_MN[1:], shadows.inside_MN[1:]
    mean = [
        np.array([others[chosen[:, n], n].mean() for n in range(80)])
        for chosen in (inside, ~inside)
    ]
    rest = np.where(inside, others - mean[0], others - mean[1])
    spread = np.sqrt((rest**2).mean())
    expected = stats.norm.logpdf(sure_MN[0], mean[0], spread) - stats.norm.logpdf(
        sure_MN[0], mean[1], spread
    )
    assert shadows.guesses(sure_MN).scores_MN[0] == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.5), (1.0, 0.76), (3.0, 0.983)])
def test_guessing_is_as_good_as_theory_allows(shift: float, expected: float) -> None:
    """Phi(shift / sqrt 2) with perfect knowledge of the shadows; 60 of them cost a little."""
    shadows, sure_MN = world(shift)
    best = stats.norm.cdf(shift / np.sqrt(2))
    assert best == pytest.approx(expected, abs=1e-2)
    assert shadows.guesses(sure_MN).auroc == pytest.approx(best, abs=0.03)


def test_a_target_of_noise_tells_nothing() -> None:
    shadows, _ = world(3.0)
    blind = generator(1).normal(size=shadows.sure_MN.shape)
    guesses = shadows.guesses(blind)
    assert abs(guesses.auroc - 0.5) < 0.03


def test_equal_models_are_no_reason_to_divide_by_zero() -> None:
    shadows, sure_MN = world(0.0)
    flat = Shadows(sure_MN=np.zeros_like(sure_MN), inside_MN=shadows.inside_MN)
    assert flat.guesses(np.zeros_like(sure_MN)).auroc == 0.5


@pytest.mark.parametrize("defence", [NONE, NOISE], ids=lambda one: one.label)
def test_a_coordinator_that_reads_everything_has_the_model(defence: Defence) -> None:
    read_P, final_P = follow(bench(defence))
    assert read_P == pytest.approx(final_P, abs=1e-9)


@pytest.mark.parametrize("defence", [ENCRYPTION, BOTH], ids=lambda one: one.label)
def test_one_that_holds_ciphertext_has_another(defence: Defence) -> None:
    exchange = bench(defence).exchange(bench(defence).start())
    read = coordinator_step(exchange, exchange.state)
    assert read.step == exchange.after().step == 1
    moved_P = exchange.after().weights - exchange.state.weights
    assert abs(np.corrcoef(read.weights - exchange.state.weights, moved_P)[0, 1]) < 0.1


def test_every_model_is_trained_on_its_half(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[FloatArray] = []

    def follow_instead(hospitals: Bench) -> tuple[FloatArray, FloatArray]:
        trained.append(np.vstack([records.x_NF for records in hospitals.records.values()]))
        weights_P = 0.1 * generator(len(trained)).normal(size=hospitals.task.layout().size)
        return -weights_P, weights_P

    monkeypatch.setattr(attack_membership, "follow", follow_instead)
    pool, inside_MN = invent(32, generator()), halves(4, 32, generator())
    read, known = infer(bench(NONE, records=4), pool, inside_MN)
    for seen_NF, inside_N in zip(trained, inside_MN, strict=True):
        assert np.array_equal(seen_NF, pool.x_NF[inside_N])
    assert np.array_equal(known.inside_MN, inside_MN)
    assert not np.array_equal(read.scores_MN, known.scores_MN)
