"""Invented images of a lesion each, whose chance of disease is known.

An image is smooth tissue with bright dots, and one blob. The brighter the blob against its
surroundings and the older the patient, the likelier the disease; nothing else matters. Every
hospital's scanner has a brightness and a contrast of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from learning.forward import sigmoid
from learning.task import FloatArray, FloatVector
from simulations.arrays import Cells

HOSPITALS = ("north", "south", "east", "west", "centre")
SIDE = 24

# Log-odds of disease: per unit of the blob's brightness, 0 to 1, and per year of age.
PER_BRIGHTNESS, PER_YEAR = 8.0, 0.04


@dataclass(frozen=True)
class Lesions:
    """Invented images.

    Args:
        table: Image, age, disease and hospital, as they would stand in files.
        chance_N: Chance of disease of each, given everything that the image and the age tell.
    """

    table: Cells
    chance_N: FloatVector  # noqa: N815 - the shape is part of the name


def lesions(each: int = 400, seed: int = 20261121) -> Lesions:
    """Images of 1 x 24 x 24 from 0 to 255 of all hospitals.

    Args:
        each: At each hospital.
        seed: What they are drawn from.
    """
    rng = np.random.default_rng(seed)
    images = each * len(HOSPITALS)
    bright_N, age_N = rng.random(images), rng.integers(30, 91, size=images)
    hospital_N = np.arange(images) % len(HOSPITALS)
    chance_N = sigmoid(PER_BRIGHTNESS * (bright_N - 0.5) + PER_YEAR * (age_N - 60.0))
    ill_N = rng.random(images) < chance_N
    gain_K, offset_K = np.linspace(0.85, 1.15, len(HOSPITALS)), np.linspace(90, 50, len(HOSPITALS))
    relief_NHW = _tissue(images, rng) + _dots(images, rng)
    relief_NHW += 25.0 + 90.0 * bright_N[:, None, None] * _blobs(images, rng)
    grey_NHW = offset_K[hospital_N, None, None] + gain_K[hospital_N, None, None] * relief_NHW
    table: Cells = {
        "image": np.clip(np.rint(grey_NHW), 0, 255).astype(np.uint8)[:, None],
        "age": [str(age) for age in age_N.tolist()],
        "disease": ["yes" if ill else "no" for ill in ill_N.tolist()],
        "hospital": [HOSPITALS[place] for place in hospital_N.tolist()],
    }
    return Lesions(table, chance_N)


def _blobs(images: int, rng: np.random.Generator) -> FloatArray:
    """One round blob each, 1 in its middle, anywhere but at the edge."""
    middle_N2 = rng.uniform(6, SIDE - 7, size=(images, 2))
    radius_N = rng.uniform(2.0, 3.5, size=images)
    line = np.arange(SIDE)
    down_NH = (line - middle_N2[:, :1]) ** 2
    across_NW = (line - middle_N2[:, 1:]) ** 2
    square_NHW = down_NH[:, :, None] + across_NW[:, None, :]
    blobs_NHW: FloatArray = np.exp(-square_NHW / (2 * radius_N[:, None, None] ** 2))
    return blobs_NHW


def _tissue(images: int, rng: np.random.Generator) -> FloatArray:
    """Noise without fine detail, with a standard deviation near 12."""
    noise_NHW = rng.normal(size=(images, SIDE, SIDE))
    spectrum = np.fft.rfft2(noise_NHW)
    pace_H, pace_W = np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE)
    smooth = np.exp(-((pace_H[:, None] ** 2 + pace_W[None] ** 2) * 60.0))
    tissue_NHW = np.fft.irfft2(spectrum * smooth, s=(SIDE, SIDE))
    scaled_NHW: npt.NDArray[np.float64] = tissue_NHW / tissue_NHW.std() * 12.0
    return scaled_NHW


def _dots(images: int, rng: np.random.Generator) -> FloatArray:
    """Single bright pixels, one in a hundred, as bright as the brightest blob, and fine grain."""
    dots_NHW = 90.0 * (rng.random((images, SIDE, SIDE)) < 0.01)
    grained_NHW: FloatArray = dots_NHW + rng.normal(size=dots_NHW.shape) * 6.0
    return grained_NHW
