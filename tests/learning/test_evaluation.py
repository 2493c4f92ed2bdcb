"""Tests of the evaluation vector; the contract suite holds its bound for every task."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from learning.evaluation import CONFUSION_WEIGHT, ClassEvaluation
from learning.histogram import LEVELS, TREE
from protocol.errors import InputError

TWO, THREE = ClassEvaluation(("no", "yes")), ClassEvaluation(("a", "b", "c"))


def test_lengths_and_norms_follow_from_the_counts_a_record_raises() -> None:
    assert TWO.length == 2 * TREE
    assert THREE.length == 6 * TREE + 9
    for evaluation, square in ((TWO, LEVELS), (THREE, 3 * LEVELS + CONFUSION_WEIGHT**2)):
        assert square < Fraction(evaluation.norm) ** 2 < square * (1 + Fraction(1, 10**15))


def test_one_record_raises_one_node_per_level_of_its_class() -> None:
    vector_E = TWO.vectors(np.array([[0.9, 0.1]]), np.array([1]), np.array([4]))[0]
    assert (vector_E[:TREE] == 0).all()
    assert vector_E.sum() == LEVELS
    assert set(vector_E) == {0.0, 1.0}


def test_a_record_of_many_classes_also_raises_its_confusion_cell() -> None:
    vector_E = THREE.vectors(np.array([[0.2, 0.5, 0.3]]), np.array([2]), np.array([4]))[0]
    assert vector_E[: 6 * TREE].sum() == 3 * LEVELS
    confusion_CC = vector_E[6 * TREE :].reshape(3, 3)
    assert confusion_CC[2, 1] == confusion_CC.sum() == CONFUSION_WEIGHT
    by_pair = vector_E[: 6 * TREE].reshape(3, 2, TREE).sum(axis=2)
    assert by_pair.tolist() == [[LEVELS, 0], [LEVELS, 0], [0, LEVELS]]


def test_every_patient_weighs_the_same_however_many_records() -> None:
    probs_NC = np.array([[0.9, 0.1]] * 3 + [[0.1, 0.9]])
    vectors_UE = TWO.vectors(probs_NC, np.array([0, 0, 0, 1]), np.array([8, 8, 8, 3]))
    assert vectors_UE.sum(axis=1).tolist() == [LEVELS, LEVELS]
    assert vectors_UE[0, TREE:].sum() == LEVELS  # patient 3 comes first
    spread_UE = TWO.vectors(
        np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]]), np.zeros(3, int), np.zeros(3, int)
    )
    assert spread_UE.sum() == pytest.approx(LEVELS, abs=LEVELS * 3 * 2.0**-20)
    assert (spread_UE * 2**20 == np.floor(spread_UE * 2**20)).all()


def test_nobody_gives_zeros() -> None:
    nobody = np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int)
    assert TWO.vectors(*nobody).shape == (0, TWO.length)
    assert (TWO.counts(*nobody) == 0).all()
    assert TWO.metrics(TWO.counts(*nobody)) == {}


@pytest.mark.parametrize(
    ("probs", "targets", "message"),
    [
        ([[0.5, 0.5]], [2], "integers that number the classes"),
        ([[0.5, 0.5]], [-1], "integers that number the classes"),
        ([[float("nan"), 0.5]], [0], "probabilities"),
        ([[0.5, 0.25, 0.25]], [0], "probabilities"),
        ([[0.5, 0.5], [0.5, 0.5]], [0], "probabilities"),
    ],
)
def test_what_does_not_fit_the_classes_is_refused(
    probs: list[list[float]], targets: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TWO.vectors(np.array(probs), np.array(targets), np.arange(len(targets)))


def test_counts_of_another_length_or_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="124 finite numbers"):
        TWO.metrics(np.zeros(64))
    with pytest.raises(InputError, match="124 finite numbers"):
        TWO.metrics(np.full(124, np.inf))
