"""Tests of hierarchical histograms: counting, estimating, and what noise leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from learning.histogram import (
    BINS,
    EDGES,
    LEVELS,
    MIDPOINTS,
    TREE,
    leaf_variance,
    leaves,
    tree_nodes,
    without_negatives,
)
from learning.task import FloatVector

RNG = np.random.default_rng(8)


def tree_of(leaf_B: FloatVector) -> FloatVector:
    return np.concatenate([leaf_B.reshape(2**level, -1).sum(axis=1) for level in range(1, 6)])


def test_bins_cover_the_scores_and_split_at_one_half() -> None:
    assert EDGES[0] == 0
    assert EDGES[-1] == 1
    assert EDGES[BINS // 2] == 0.5
    assert (np.diff(EDGES) > 0).all()
    np.testing.assert_allclose(EDGES, 1 - EDGES[::-1])
    np.testing.assert_allclose(
        EDGES, np.sin(np.pi * np.arange(BINS + 1) / BINS / 2) ** 2, atol=0.011
    )
    assert ((EDGES[:-1] < MIDPOINTS) & (EDGES[1:] > MIDPOINTS)).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_score_raises_the_node_of_its_bin_on_every_level(scores: list[float]) -> None:
    nodes_NL = tree_nodes(np.array(scores))
    assert nodes_NL.shape == (len(scores), LEVELS)
    # numpy closes only the last bin on the right, and so do the nodes.
    leaf_B = np.histogram(scores, EDGES)[0].astype(float)
    counted_T = np.bincount(nodes_NL.ravel(), minlength=TREE)
    assert counted_T.tolist() == tree_of(leaf_B).tolist()


def test_counts_without_noise_are_the_finest_level() -> None:
    leaf_2B = RNG.integers(0, 50, size=(2, BINS)).astype(float)
    trees_2T = np.stack([tree_of(row) for row in leaf_2B])
    assert (leaves(trees_2T, 0.0) == leaf_2B).all()
    np.testing.assert_allclose(leaves(trees_2T, 1.0), leaf_2B, atol=1e-9)


def test_noised_counts_are_estimated_by_least_squares() -> None:
    members_TB = np.stack([tree_of(unit) for unit in np.eye(BINS)], axis=1)
    noisy_T = tree_of(RNG.random(BINS)) + RNG.normal(size=TREE)
    expected, *_ = np.linalg.lstsq(members_TB, noisy_T, rcond=None)
    np.testing.assert_allclose(leaves(noisy_T[None], 1.0)[0], expected, atol=1e-10)


def test_variance_of_an_estimate_is_what_simulation_finds_and_a_flat_histogram_is_worse() -> None:
    half_B = (np.arange(BINS) < BINS // 2).astype(float)
    noise_NT = RNG.normal(scale=3.0, size=(20_000, TREE))
    simulated = (leaves(noise_NT, 3.0) @ half_B).var()
    assert leaf_variance(half_B[None], 3.0) == pytest.approx(simulated, rel=0.05)
    # A flat histogram has sqrt(5) less noise per bin at equal sensitivity, but sums 16 bins.
    assert leaf_variance(half_B[None], 3.0 * 5**0.5) < 0.35 * 16 * 3.0**2


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12))
def test_negatives_go_by_least_squares_of_the_partial_sums(counts: list[float]) -> None:
    count_B = np.array(counts)
    fixed_B = without_negatives(count_B)
    assert (fixed_B >= 0).all()
    assert fixed_B.sum() == pytest.approx(max(count_B.sum(), 0), abs=1e-9)
    if (count_B >= 0).all():
        assert (fixed_B == count_B).all()


def test_partial_sums_are_the_nearest_rising_ones() -> None:
    for _ in range(20):
        count_B = RNG.normal(loc=0.5, size=10)
        sum_B = np.cumsum(count_B)
        lower_BB = np.tril(np.ones((10, 10)))
        # Rising sums are a first value, free, and steps that are not negative.
        floor_B = np.array([-np.inf] + [0.0] * 9)
        steps_B = lsq_linear(lower_BB, sum_B, (floor_B, np.full(10, np.inf)), tol=1e-14).x
        rising_B = np.clip(np.cumsum(steps_B), 0, max(count_B.sum(), 0))
        rising_B[-1] = max(count_B.sum(), 0)
        np.testing.assert_allclose(np.cumsum(without_negatives(count_B)), rising_B, atol=1e-5)


def test_a_negative_total_leaves_nothing() -> None:
    assert without_negatives(np.array([1.0, -5.0, 2.0])).tolist() == [0, 0, 0]
