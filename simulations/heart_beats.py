"""Invented electrocardiograms of two leads, whose chance of ischaemia is known.

Each is a few seconds of beats at one rate. The lower the ST segment lies under the baseline in both
leads and the faster the heart beats, the likelier ischaemia; amplitude, wander of the baseline and
noise tell nothing. The shapes are sums of bell curves.

Source: McSharry, Clifford, Tarassenko, Smith 2003, A Dynamical Model for Generating Synthetic
Electrocardiogram Signals, IEEE Transactions on Biomedical Engineering 50, table 1, for the waves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from learning.forward import sigmoid
from learning.task import FloatArray, FloatVector
from simulations.arrays import Cells

HOSPITALS = ("north", "south", "east", "west", "centre")
RATE_HZ, SECONDS = 50, 4

# Time after the R wave and width, in seconds, and height in mV of the waves P, Q, R, S and T.
WAVES = (
    (-0.18, 0.025, 0.15), (-0.04, 0.012, -0.12), (0.0, 0.014, 1.2), (0.04, 0.012, -0.25),
    (0.28, 0.050, 0.30),
)  # fmt: skip
ST_TIME_S, ST_WIDTH_S = 0.13, 0.045

# Log-odds of ischaemia: per millivolt that the ST segment lies low, and per beat a minute.
PER_MILLIVOLT, PER_BEAT = 30.0, 0.04


@dataclass(frozen=True)
class Beats:
    """Invented electrocardiograms.

    Args:
        table: Series N x time x lead in mV, ischaemia and hospital, as they would stand in files.
        chance_N: Chance of ischaemia of each, given everything that the series tells.
    """

    table: Cells
    chance_N: FloatVector  # noqa: N815 - the shape is part of the name


def beats(each: int = 400, seed: int = 20261121) -> Beats:
    """Four seconds at 50 Hz of two leads, of all hospitals.

    Args:
        each: Series at each hospital.
        seed: What they are drawn from.
    """
    rng = np.random.default_rng(seed)
    series = each * len(HOSPITALS)
    low_N = rng.uniform(0.0, 0.3, size=series)
    pace_N = rng.uniform(50.0, 110.0, size=series)
    chance_N = sigmoid(PER_MILLIVOLT * (low_N - 0.15) + PER_BEAT * (pace_N - 80.0))
    ill_N = rng.random(series) < chance_N
    lead_NT = _lead(pace_N, low_N, rng)
    second_NT = 0.7 * lead_NT  # the leads look at one heart from two sides
    both_NTL = np.stack([lead_NT, second_NT], axis=2) * rng.uniform(0.9, 1.1, (series, 1, 1))
    both_NTL += _wander(series, rng)[:, :, None] + 0.03 * rng.normal(size=both_NTL.shape)
    table: Cells = {
        "series": both_NTL.astype(np.float32),
        "ischaemia": ["yes" if ill else "no" for ill in ill_N.tolist()],
        "hospital": [HOSPITALS[row % len(HOSPITALS)] for row in range(series)],
    }
    return Beats(table, chance_N)


def _lead(pace_N: FloatVector, low_N: FloatVector, rng: np.random.Generator) -> FloatArray:
    """Beats in mV, N x time."""
    time_T = np.arange(RATE_HZ * SECONDS) / RATE_HZ
    gap_N = 60.0 / pace_N
    first_N = rng.random(len(pace_N)) * gap_N
    lead_NT = np.zeros((len(pace_N), len(time_T)))
    for beat in range(-1, int(SECONDS * 110 / 60) + 2):
        since_NT = time_T - (first_N + beat * gap_N)[:, None]
        for at, width, height in WAVES:
            lead_NT += height * np.exp(-(((since_NT - at) / width) ** 2) / 2)
        lead_NT -= low_N[:, None] * np.exp(-(((since_NT - ST_TIME_S) / ST_WIDTH_S) ** 2) / 2)
    return lead_NT


def _wander(series: int, rng: np.random.Generator) -> FloatArray:
    """Slow movement of the baseline by breathing, N x time."""
    time_T = np.arange(RATE_HZ * SECONDS) / RATE_HZ
    pace_N1, phase_N1 = rng.uniform(0.1, 0.3, (series, 1)), rng.uniform(0, 2 * np.pi, (series, 1))
    moved_NT: FloatArray = 0.1 * np.sin(2 * np.pi * pace_N1 * time_T + phase_N1)
    return moved_NT
