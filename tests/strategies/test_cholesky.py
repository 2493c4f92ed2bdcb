from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.cholesky import cholesky, solve


def scalar_solution(gram: list[list[float]], moment: list[float]) -> list[float]:
    """Cholesky and substitution over Python floats, each sum taken from left to right."""
    size = len(moment)
    factor = [[0.0] * size for _ in range(size)]
    for j in range(size):
        for i in range(j, size):
            rest = gram[i][j]
            for k in range(j):
                rest = rest - factor[i][k] * factor[j][k]
            factor[i][j] = math.sqrt(rest) if i == j else rest / factor[j][j]
    x = list(moment)
    for i in range(size):
        for k in range(i):
            x[i] = x[i] - factor[i][k] * x[k]
        x[i] = x[i] / factor[i][i]
    for i in reversed(range(size)):
        for k in reversed(range(i + 1, size)):
            x[i] = x[i] - factor[k][i] * x[k]
        x[i] = x[i] / factor[i][i]
    return x


def test_is_plain_scalar_arithmetic_bit_for_bit() -> None:
    rng = np.random.default_rng(4)
    for size in (1, 2, 7, 33):
        root = rng.normal(size=(size + 3, size))
        gram, moment = root.T @ root, rng.normal(size=size)
        gram = (gram + gram.T) / 2
        ridge = 0.25
        expected = scalar_solution((gram + ridge * np.eye(size)).tolist(), moment.tolist())
        assert solve(gram, moment, ridge).tolist() == expected


def test_agrees_with_lapack() -> None:
    rng = np.random.default_rng(6)
    root = rng.normal(size=(60, 40))
    gram, moment = root.T @ root, rng.normal(size=40)
    expected = np.linalg.solve(gram + 0.1 * np.eye(40), moment)
    assert solve(gram, moment, 0.1) == pytest.approx(expected, rel=1e-9)


def test_the_factor_times_its_transpose_is_the_matrix() -> None:
    root = np.random.default_rng(7).normal(size=(30, 20))
    matrix = root.T @ root
    factor = cholesky(matrix, 0.0)
    assert factor is not None
    assert (np.triu(factor, 1) == 0.0).all()
    assert factor @ factor.T == pytest.approx(matrix, rel=1e-12, abs=1e-12)


def test_a_sound_matrix_is_not_regularised_further() -> None:
    singular = np.array([[1.0, 1.0], [1.0, 1.0]])
    moment = np.array([1.0, 1.0])
    expected = np.linalg.solve(singular + 1e-6 * np.eye(2), moment)
    assert solve(singular, moment, 1e-6) == pytest.approx(expected, rel=1e-6)


def test_an_indefinite_matrix_gets_the_least_doubled_ridge_with_sound_pivots() -> None:
    """Eigenvalues -3 and 5 on the diagonal: ridges 1, 2, 4 leave a pivot below half, 8 not."""
    gram, moment = np.diag([5.0, -3.0]), np.array([1.0, 1.0])
    assert solve(gram, moment, 1.0).tolist() == pytest.approx([1 / 13, 1 / 5])


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 9), ridge=st.floats(1e-6, 1e3))
def test_it_ends_below_four_times_the_norm(seed: int, size: int, ridge: float) -> None:
    """The ridge that was taken is read off the solution: gram x + r x = moment."""
    rng = np.random.default_rng(seed)
    scale = float(10.0 ** rng.integers(-3, 4))
    gram = rng.normal(size=(size, size)) * scale
    gram, moment = gram + gram.T, np.ones(size)
    x = solve(gram, moment, ridge)
    taken = (x @ (moment - gram @ x)) / (x @ x)
    assert ridge * (1 - 1e-6) <= taken
    assert taken <= max(ridge, 4 * float(np.linalg.norm(gram, 2))) * (1 + 1e-6)
