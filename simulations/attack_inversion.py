"""Records read off a gradient: in a dense layer every neuron's gradient is a multiple of its input.

For z = W x + b the gradients are dW = dz x' and db = dz, so a neuron that one record alone moved
shows that record as dW / db, exactly.

Source: Geiping et al. 2020, Inverting Gradients, Proposition 3.1; Phong et al. 2018,
Privacy-Preserving Deep Learning via Additively Homomorphic Encryption, section III.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protocol.tensors import Layout
from simulations.attack_records import plausible
from strategies.base import FloatVector

FloatArray = npt.NDArray[np.float64]

DIRECTIONS = 8
"""Leading directions of a layer's gradient that are tried as records, beside its neurons."""


def first_layer(layout: Layout, gradient_P: FloatVector) -> tuple[FloatArray, FloatVector]:
    """Gradients of the first dense layer: weights H x F and biases H."""
    parts = layout.split(gradient_P)
    name = layout.entries[0][0].removesuffix(".weight")
    return parts[f"{name}.weight"], parts[f"{name}.bias"]


def invert(layout: Layout, gradients: Sequence[FloatVector]) -> FloatArray:
    """Records that a first layer's gradient may show: M x F, within public bounds.

    Every neuron is one candidate. Noise is different in every neuron and the record is not, so the
    fit over all neurons and the layer's leading directions are candidates too.

    Args:
        layout: The model's parameters; the first two are a dense layer's.
        gradients: Readings of one update.
    """
    found = [_candidates(*first_layer(layout, gradient_P)) for gradient_P in gradients]
    return plausible(np.vstack(found))


def _candidates(weight_HF: FloatArray, bias_H: FloatVector) -> FloatArray:
    left_HD = np.linalg.svd(weight_HF, full_matrices=False).U
    fits_DH = np.vstack([bias_H, left_HD.T[:DIRECTIONS]])
    fitted = ratios(fits_DH @ weight_HF, fits_DH @ bias_H)
    return np.vstack([ratios(weight_HF, bias_H), fitted])


def ratios(weight_HF: FloatArray, bias_H: FloatVector) -> FloatArray:
    """DW / db of the rows whose db is not zero.

    >>> ratios(np.array([[2.0, 4.0], [0.0, 0.0]]), np.array([2.0, 0.0])).tolist()
    [[1.0, 2.0]]
    """
    moved_H = bias_H != 0
    quotient_HF: FloatArray = weight_HF[moved_H] / bias_H[moved_H, None]
    return quotient_HF
