"""Invented pictures, as records that can be shown: what the attacks try to get back.

No patient is behind them. A picture is a smooth background, some soft spots and fine grain, so that
two of them differ like two patients' scans and one that is recovered is seen to be.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from learning.task import Records

FloatArray = npt.NDArray[np.float64]

SIDE = 12
PIXELS = SIDE * SIDE
CENTRE, SPREAD = 0.5, 0.25
_SPOTS = 4
_GRAIN = 0.03


def schema() -> dict[str, Any]:
    """One number between 0 and 1 for each pixel, and whether the picture shows a lesion."""
    return {
        "columns": [
            {
                "name": f"pixel-{index:03}",
                "kind": "number",
                "low": 0,
                "high": 1,
                "centre": CENTRE,
                "spread": SPREAD,
            }
            for index in range(PIXELS)
        ],
        "label": {"name": "lesion", "classes": ["no", "yes"]},
    }


def invent(count: int, rng: np.random.Generator) -> Records:
    """Pictures in the schema's scale; in half of them one spot is small and bright.

    Args:
        count: N.
        rng: A generator with a public seed.
    """
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1.0)
    lesion_N = rng.integers(2, size=count)
    tilt_N2 = rng.uniform(-0.5, 0.5, size=(count, 2))
    picture_NHW = 0.35 + np.einsum("nd,dhw->nhw", tilt_N2, np.stack([rows, columns]) - 0.5)
    for spot in range(_SPOTS):
        place_N2 = rng.uniform(0.0, 1.0, size=(count, 2))
        width_N = rng.uniform(0.1, 0.3, size=count)
        height_N = rng.uniform(-0.45, 0.6, size=count)
        if spot == 0:
            width_N = np.where(lesion_N == 1, 0.08, width_N)
            height_N = np.where(lesion_N == 1, 0.6, height_N)
        square_NHW = (rows - place_N2[:, 0, None, None]) ** 2
        square_NHW = square_NHW + (columns - place_N2[:, 1, None, None]) ** 2
        picture_NHW = picture_NHW + height_N[:, None, None] * np.exp(
            -square_NHW / (2 * width_N[:, None, None] ** 2)
        )
    picture_NHW = picture_NHW + _GRAIN * rng.normal(size=picture_NHW.shape)
    shown_NF = np.clip(picture_NHW, 0.0, 1.0).reshape(count, PIXELS)
    return Records(
        x_NF=(shown_NF - CENTRE) / SPREAD,
        y_N=lesion_N.astype(np.int64),
        patient_N=np.arange(count, dtype=np.int64),
    )


def deal(records: Records, names: tuple[str, ...]) -> dict[str, Records]:
    """The records in equal shares, in order; what is left over goes to nobody."""
    share = len(records) // len(names)
    return {
        name: records.take(np.arange(place * share, (place + 1) * share))
        for place, name in enumerate(names)
    }


def to_picture(x_F: FloatArray) -> FloatArray:
    """A record as a picture of SIDE x SIDE grey values from 0 to 1, clipped to what can be shown.

    >>> to_picture(np.zeros(PIXELS)).shape
    (12, 12)
    """
    grey_F: FloatArray = np.clip(CENTRE + SPREAD * x_F, 0.0, 1.0)
    return grey_F.reshape(SIDE, SIDE)


def plausible(x_MF: FloatArray) -> FloatArray:
    """Candidates moved into the schema's public bounds, as any attacker would."""
    low, high = (0.0 - CENTRE) / SPREAD, (1.0 - CENTRE) / SPREAD
    return np.clip(np.nan_to_num(x_MF), low, high)
