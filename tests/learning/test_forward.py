"""Tests of the numpy forward pass against matrix products and scipy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from learning import forward
from learning.forward import dense, logits, sigmoid, softmax

RNG = np.random.default_rng(3)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (5, 3, 2), (0, 4, 1)])
def test_dense_is_the_matrix_product(rows: int, inputs: int, outputs: int) -> None:
    x_NF = RNG.normal(size=(rows, inputs))
    weight_OF, bias_O = RNG.normal(size=(outputs, inputs)), RNG.normal(size=outputs)
    np.testing.assert_allclose(dense(x_NF, weight_OF, bias_O), x_NF @ weight_OF.T + bias_O)


def test_rows_have_the_same_bits_alone_in_a_batch_and_across_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    widths = (37, 19, 11, 3)
    layers = [
        (RNG.normal(size=(out, into)), RNG.normal(size=out)) for into, out in pairwise(widths)
    ]
    x_NF = RNG.normal(size=(50, 37))
    whole_NO = logits(x_NF, layers)
    monkeypatch.setattr(forward, "CHUNK", 7)
    assert (logits(x_NF, layers) == whole_NO).all()
    for row in range(50):
        assert (logits(x_NF[row : row + 1], layers)[0] == whole_NO[row]).all()
    hidden = np.maximum(x_NF @ layers[0][0].T + layers[0][1], 0)
    hidden = np.maximum(hidden @ layers[1][0].T + layers[1][1], 0)
    np.testing.assert_allclose(whole_NO, hidden @ layers[2][0].T + layers[2][1], rtol=1e-9)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=9))
def test_sigmoid_and_softmax_are_scipys_and_never_overflow(values: list[float]) -> None:
    z_N = np.array(values)
    np.testing.assert_allclose(sigmoid(z_N), special.expit(z_N), rtol=1e-14)
    np.testing.assert_allclose(softmax(z_N[None]), special.softmax(z_N[None], axis=1), rtol=1e-13)


@given(seed=st.integers(0, 2**32), rows=st.integers(1, 9), inputs=st.integers(1, 600))
def test_products_at_once_are_added_in_the_same_order(seed: int, rows: int, inputs: int) -> None:
    rng = np.random.default_rng(seed)
    outputs = int(rng.integers(1, 5))
    x_NF = rng.normal(size=(rows, inputs)) * 10.0 ** rng.integers(-9, 9, size=inputs)
    x_NF[rng.random(x_NF.shape) < 0.2] = -0.0
    weight_OF, bias_O = rng.normal(size=(outputs, inputs)), np.zeros(outputs)
    one_by_one_NO = np.zeros((rows, outputs))
    for feature in range(inputs):
        one_by_one_NO += x_NF[:, feature, None] * weight_OF[:, feature]
    found_NO = dense(x_NF, weight_OF, bias_O)
    assert found_NO.tobytes() == (one_by_one_NO + bias_O).tobytes()
