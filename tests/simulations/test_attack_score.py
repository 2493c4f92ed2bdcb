from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from simulations.attack_score import RECOVERED, Score, limits, score, share_text, together
from tests.simulations.attacked import generator

AVERAGE = np.zeros(6)
NOBODY = np.empty((0, 6))


def made(errors: list[float]) -> Score:
    return Score(
        errors_N=np.array(errors), nearest_NF=np.zeros((len(errors), 6)), control=errors[0]
    )


def test_the_nearest_candidate_counts() -> None:
    """Against a loop over all pairs."""
    rng = generator()
    truth_NF, candidates_MF = rng.normal(size=(7, 6)), rng.normal(size=(40, 6))
    candidates_MF[5] = truth_NF[3] + 0.01
    average_F = rng.normal(size=6)
    found = score(truth_NF, candidates_MF, average_F=average_F, fresh_NF=truth_NF[3:4])
    for record_F, error, nearest_F in zip(truth_NF, found.errors_N, found.nearest_NF, strict=True):
        distances = [np.linalg.norm(record_F - one_F) for one_F in candidates_MF]
        assert error == pytest.approx(min(distances) / np.linalg.norm(record_F - average_F))
        assert np.array_equal(nearest_F, candidates_MF[int(np.argmin(distances))])
    assert found.hits == 1
    assert found.share == 1 / 7
    assert found.control == 1.0


def test_an_exact_copy_has_no_distance_and_a_guess_of_the_average_has_one() -> None:
    truth_NF = np.eye(6)[:2]
    exact = score(truth_NF, truth_NF[::-1], average_F=AVERAGE, fresh_NF=-truth_NF)
    assert exact.errors_N == pytest.approx([0.0, 0.0], abs=1e-12)
    assert (exact.share, exact.control) == (1.0, 0.0)
    blank = score(truth_NF, NOBODY, average_F=AVERAGE, fresh_NF=truth_NF)
    assert blank.errors_N.tolist() == [1.0, 1.0]
    assert blank.hits == 0


def test_the_threshold_is_inclusive() -> None:
    assert made([RECOVERED, RECOVERED + 1e-9]).hits == 1


@pytest.mark.parametrize(("hits", "trials"), [(0, 128), (1, 8), (5, 9), (32, 32)])
def test_limits_are_those_of_the_exact_binomial_test(hits: int, trials: int) -> None:
    two_sided = stats.binomtest(hits, trials).proportion_ci(
        0.95 if 0 < hits < trials else 0.90, method="exact"
    )
    assert limits(hits, trials) == pytest.approx(two_sided)


def test_scores_of_several_updates_are_one() -> None:
    both = together([made([0.1, 0.5]), made([0.3])])
    assert both.errors_N.tolist() == [0.1, 0.5, 0.3]
    assert both.control == pytest.approx(0.2)
    assert both.limits == limits(1, 3)


@pytest.mark.parametrize(
    ("hits", "trials", "text"),
    [(0, 5, "0 %"), (1, 1000, "< 1 %"), (1, 100, "1 %"), (3, 4, "75 %"), (4, 4, "100 %")],
)
def test_a_share_is_0_only_if_nothing_came_back(hits: int, trials: int, text: str) -> None:
    assert share_text(made([0.0] * hits + [1.0] * (trials - hits))) == text
