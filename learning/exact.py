"""Matrix products and sums whose bits do not depend on the order of the additions.

BLAS adds in an order of its own, which differs between machines and batch sizes. Here every number
is first cut into two integers, so short that all sums of their products stay below 2^53: then
double precision adds them without rounding, in whatever order. So a patient gets the same number
alone as in a batch, on every machine, at the price of four products for one; the result is closer
to the true one than that of a plain product.

Source: Ozaki, Ogita, Oishi, Rump 2012, Error-free transformations of matrix multiplication by using
fast routines of matrix multiplication and its applications, Numerical Algorithms 59, section 2.
"""

from __future__ import annotations

import numpy as np

from learning.task import FloatArray

DIGITS = 53


def product(weight_OK: FloatArray, value_NKL: FloatArray) -> FloatArray:
    """W x for each of N matrices, N x O x L; every record is scaled by itself.

    Args:
        weight_OK: Shared by all records; K at most 2^20.
        value_NKL: The records.

    Guarantee: row n depends on row n alone, to the last bit.

    >>> product(np.array([[1.0, 0.5]]), np.array([[[3.0], [10.0]]])).tolist()
    [[[8.0]]]
    """
    outputs, inputs = weight_OK.shape
    rows, _, length = value_NKL.shape
    bits = (DIGITS - (inputs - 1).bit_length()) // 2
    weight_2OK, weight_scale = _limbs(weight_OK[None], bits)
    value_2NKL, scale_N = _limbs(value_NKL, bits)
    # One product for all records: many small ones would wait for BLAS' threads most of the time.
    value_KM = value_2NKL.transpose(2, 0, 1, 3).reshape(inputs, -1)
    sums = (weight_2OK.reshape(2 * outputs, inputs) @ value_KM).reshape(2, outputs, 2, rows, length)
    small = 2.0**-bits
    middle = sums[0, :, 1] + sums[1, :, 0]
    sum_ONL = sums[0, :, 0] + small * (middle + small * sums[1, :, 1])
    sum_ONL *= (scale_N * weight_scale * small**2)[:, None]
    return np.ascontiguousarray(sum_ONL.swapaxes(0, 1))


def total(value_NL: FloatArray) -> FloatArray:
    """The sum of each row, N numbers.

    >>> total(np.array([[0.1] * 10])).tolist()
    [1.0]
    """
    bits = DIGITS - 1 - value_NL.shape[1].bit_length()
    limbs_2NL, scale_N = _limbs(value_NL, bits)
    high_N, low_N = limbs_2NL.sum(axis=2)
    sum_N: FloatArray = (high_N + low_N * 2.0**-bits) * (scale_N * 2.0**-bits)
    return sum_N


def _limbs(value: FloatArray, bits: int) -> tuple[FloatArray, FloatArray]:
    """Two integers of at most `bits` bits for each number, and the power of two of each row."""
    largest_N = np.abs(value).max(axis=tuple(range(1, value.ndim)), initial=0.0)
    scale_N = np.ldexp(1.0, np.frexp(largest_N)[1])
    unit = value * (2.0**bits / scale_N).reshape(-1, *[1] * (value.ndim - 1))
    high = np.rint(unit)
    return np.stack([high, np.rint((unit - high) * 2.0**bits)]), scale_N
