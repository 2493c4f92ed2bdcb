from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate

from simulations.attack_guesses import RATE, FloatArray, Guesses, bound_auroc, bound_detected
from tests.simulations.attacked import generator

sklearn_metrics = pytest.importorskip("sklearn.metrics")


def shifted(shift: float, models: int = 30, pool: int = 200, digits: int = 9) -> Guesses:
    rng = generator()
    inside_MN = rng.random((models, pool)) < 0.5
    exact_MN: FloatArray = rng.normal(size=(models, pool)) + shift * inside_MN
    scores_MN: FloatArray = np.round(exact_MN, digits)
    return Guesses(scores_MN=scores_MN, inside_MN=inside_MN)


@pytest.mark.parametrize("digits", [9, 0], ids=["no ties", "ties"])
def test_the_area_is_scikit_learns(digits: int) -> None:
    guesses = shifted(0.7, digits=digits)
    expected = sklearn_metrics.roc_auc_score(guesses.inside_MN.ravel(), guesses.scores_MN.ravel())
    assert guesses.auroc == pytest.approx(expected)


def test_detection_is_a_point_of_the_curve() -> None:
    """At the largest rate of false alarms that does not pass the one that is asked for."""
    guesses = shifted(1.0)
    false, true, _ = sklearn_metrics.roc_curve(
        guesses.inside_MN.ravel(), guesses.scores_MN.ravel(), drop_intermediate=False
    )
    for rate in (0.005, RATE, 0.2):
        found = guesses.detected(np.array([rate]))[0]
        assert found == pytest.approx(true[false <= rate].max(), abs=2e-3)


def test_chance_is_a_half_within_its_error() -> None:
    guesses = shifted(0.0)
    assert abs(guesses.auroc - 0.5) < 4 * guesses.auroc_error
    assert 0.002 < guesses.auroc_error < 0.02


def test_the_bounds_are_reached_by_the_mechanism_that_they_bound() -> None:
    """Guessing from one number with Gaussian noise is the worst case, and sampling it agrees."""
    from privacy.accounting import SLACK, gaussian_mu

    mu = gaussian_mu(3.0, SLACK * 1e-5)
    guesses = shifted(mu, models=400, pool=500)
    assert guesses.auroc == pytest.approx(bound_auroc(3.0, 1e-5), abs=0.005)
    rates = np.array([RATE, 0.1])
    assert guesses.detected(rates) == pytest.approx(bound_detected(3.0, 1e-5, rates), abs=0.01)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_the_area_is_the_integral_of_detection(epsilon: float) -> None:
    area, _ = integrate.quad(
        lambda rate: float(bound_detected(epsilon, 1e-5, np.array([rate]))[0]), 0.0, 1.0
    )
    assert bound_auroc(epsilon, 1e-5) == pytest.approx(area, abs=1e-5)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_detection_obeys_the_definition_of_privacy(epsilon: float) -> None:
    """At every rate at most exp(epsilon) times the false alarms, plus delta."""
    rates = np.linspace(0.001, 0.999, 200)
    assert (bound_detected(epsilon, 1e-5, rates) <= np.exp(epsilon) * rates + 1e-5 + 1e-12).all()
