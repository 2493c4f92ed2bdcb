"""The forward pass of small dense networks in numpy, in a fixed order of operations.

A model that is served needs no torch, and a patient gets the same number alone as in a batch, on
every machine: BLAS promises neither, so products are added one feature at a time, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from learning.task import FloatArray, FloatVector

# Rows at a time, so that the running sums stay in the processor's cache.
CHUNK = 4096

# Products that are made at once, a megabyte; with more of them, a step for each feature costs less.
AT_ONCE = 131_072


def dense(x_NF: FloatArray, weight_OF: FloatArray, bias_O: FloatVector) -> FloatArray:
    """X W' + b, N x O, adding features in order.

    >>> dense(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([0.5, 0.0]))
    array([[11.5,  2. ]])
    """
    if 0 < weight_OF.size * len(x_NF) <= AT_ONCE:
        return _at_once(x_NF, weight_OF) + bias_O
    # Rows last: there are more of them than outputs, and numpy is fast along the last axis.
    sum_ON = np.zeros((len(bias_O), len(x_NF)))
    product_ON = np.empty_like(sum_ON)
    weight_FO1 = np.ascontiguousarray(weight_OF.T)[:, :, None]
    for x_N, weight_O1 in zip(np.ascontiguousarray(x_NF.T), weight_FO1, strict=True):
        np.multiply(x_N, weight_O1, out=product_ON)
        sum_ON += product_ON
    sum_ON += bias_O[:, None]
    return np.ascontiguousarray(sum_ON.T)


def _at_once(x_NF: FloatArray, weight_OF: FloatArray) -> FloatArray:
    """X W', N x O, by the same additions.

    Numpy adds pairs only along the axis that is fastest in memory, which of more than one sum is
    never that of the features here; a single sum is run through.
    """
    product_FNO = np.multiply(x_NF.T[:, :, None], weight_OF.T[:, None, :], order="C")
    # The loop begins at +0, which makes a difference where the first product is -0.
    if len(x_NF) == len(weight_OF) == 1:
        product_FNO[0] += 0.0
        return np.asarray(np.add.accumulate(product_FNO, axis=0)[-1])
    return np.asarray(np.add.reduce(product_FNO, axis=0, initial=0.0))


def logits(x_NF: FloatArray, layers: Sequence[tuple[FloatArray, FloatVector]]) -> FloatArray:
    """Output N x O of dense layers with rectifiers between them.

    Args:
        x_NF: Features.
        layers: Weight (outputs x inputs) and bias of each layer, in order.
    """
    out_NO = np.empty((len(x_NF), len(layers[-1][1])))
    for start in range(0, len(x_NF), CHUNK):
        hidden_BH = x_NF[start : start + CHUNK]
        for weight_OF, bias_O in layers[:-1]:
            hidden_BH = np.maximum(dense(hidden_BH, weight_OF, bias_O), 0.0)
        out_NO[start : start + CHUNK] = dense(hidden_BH, *layers[-1])
    return out_NO


def sigmoid(z_N: FloatArray) -> FloatArray:
    """1 / (1 + exp(-z)) without overflow, in the shape of z.

    >>> sigmoid(np.array([0.0, 800.0, -800.0])).tolist()
    [0.5, 1.0, 0.0]
    """
    small_N = np.exp(-np.abs(z_N))
    share_N: FloatArray = np.where(z_N >= 0, 1.0, small_N) / (1.0 + small_N)
    return share_N


def softmax(z_NC: FloatArray) -> FloatArray:
    """exp(z) over its sum across classes, without overflow, N x C.

    >>> softmax(np.array([[0.0, 0.0], [900.0, 0.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    power_NC = np.exp(z_NC - z_NC.max(axis=1, keepdims=True))
    total_N = np.zeros(len(z_NC))
    for power_N in power_NC.T:
        total_N += power_N
    share_NC: FloatArray = power_NC / total_N[:, None]
    return share_NC
