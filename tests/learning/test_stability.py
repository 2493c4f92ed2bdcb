"""The index of stability: what chance and noise add, and what is beyond them."""

from __future__ import annotations

import numpy as np
import pytest

from learning.stability import Histogram, Stability, stability
from learning.task import FloatVector
from protocol.errors import InputError


def bell(bins: int, middle: float = 0.0) -> FloatVector:
    heights = np.exp(-((np.linspace(-3, 3, bins) - middle) ** 2) / 2)
    return np.asarray(heights / heights.sum())


def steep(bins: int) -> FloatVector:
    heights = 1.0 / np.arange(1, bins + 1) ** 2
    return np.asarray(heights / heights.sum())


def counts(
    share_B: FloatVector, patients: int, noise: float, rng: np.random.Generator
) -> Histogram:
    count_B = rng.multinomial(patients, share_B) + noise * rng.normal(size=len(share_B))
    return Histogram(count_B=count_B, noise=noise)


# Patients and noise of the reference, rows and noise beside it; 21 is what the example's job adds.
SIZES = [
    (1000, 0.0, 1000, 0.0),
    (100_000, 0.0, 1000, 0.0),
    (100, 0.0, 10_000, 0.0),
    (700, 21.0, 1000, 0.0),
    (5000, 21.0, 200, 0.0),
    (5000, 40.0, 20, 0.0),
    (5000, 21.0, 700, 21.0),
]


@pytest.mark.parametrize("share_B", [bell(16), steep(20), np.array([0.97, 0.02, 0.009, 0.001])])
@pytest.mark.parametrize("sizes", SIZES)
def test_chance_and_noise_alone_are_hardly_ever_sure(
    share_B: FloatVector, sizes: tuple[int, float, int, float]
) -> None:
    patients, noise, rows, other = sizes
    rng = np.random.default_rng(7)
    sure = 0
    for _ in range(120):
        found = stability(counts(share_B, patients, noise, rng), counts(share_B, rows, other, rng))
        sure += found is not None and found.sure
    # At one in a thousand more than two of 120 happen once in some 4000 times.
    assert sure <= 2


@pytest.mark.parametrize(
    ("sizes", "least"),
    [
        ((1000, 0.0, 1000, 0.0), 96),
        ((5000, 21.0, 1000, 0.0), 96),
        ((5000, 21.0, 5000, 21.0), 93),
    ],
)
def test_drift_is_seen_and_measured_under_noise(
    sizes: tuple[int, float, int, float], least: int
) -> None:
    patients, noise, rows, other = sizes
    rng = np.random.default_rng(8)
    p_B, q_B = bell(16), bell(16, 0.6)
    truth = float(((q_B - p_B) * np.log(q_B / p_B)).sum())
    found = [
        stability(counts(p_B, patients, noise, rng), counts(q_B, rows, other, rng))
        for _ in range(100)
    ]
    known = [one for one in found if one is not None]
    assert sum(one.sure and one.index > 0.2 for one in known) >= least
    assert np.mean([one.index for one in known]) == pytest.approx(truth, rel=0.08)
    assert sum(one.low <= truth <= one.high for one in known) >= 88


def test_without_noise_and_chance_it_is_the_textbooks_index() -> None:
    p_B, q_B = bell(8), bell(8, 0.5)
    found = stability(Histogram(count_B=1e9 * p_B), Histogram(count_B=1e9 * q_B))
    assert found is not None
    assert found.index == pytest.approx(float(((q_B - p_B) * np.log(q_B / p_B)).sum()), rel=1e-3)
    assert found.low < found.index < found.high


def test_what_was_never_seen_before_is_seen() -> None:
    before, now = np.zeros(11), np.zeros(11)
    before[3], now[5] = 10, 20
    found = stability(Histogram(count_B=before), Histogram(count_B=now))
    assert found is not None
    assert found.sure
    assert found.index > 0.2


def test_of_too_few_nothing_is_told() -> None:
    many, none = Histogram(count_B=np.array([500.0, 500.0])), Histogram(count_B=np.zeros(2))
    assert stability(many, none) is None
    assert stability(none, many) is None
    noise = Histogram(count_B=np.array([30.0, 20.0]), noise=40.0)
    assert stability(noise, many) is None
    alone = Histogram(count_B=np.array([4.0]))
    assert stability(alone, alone) is None
    same = stability(many, many)
    assert same is not None
    assert same == Stability(index=0.0, low=0.0, high=same.high, sure=False)
    with pytest.raises(InputError, match="bins of two histograms; expected 2; found 1"):
        stability(many, alone)
