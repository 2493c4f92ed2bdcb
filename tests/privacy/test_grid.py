"""The grid: sensitivity by simulation, exact clamping, noise of the stated width, digits."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.grid import MIN_SHARE, Quantiser, choose_scale, release, sensitivity
from privacy.noise import SeededEntropy, SystemEntropy
from protocol.errors import InputError
from protocol.jobs import Release

NUMBERS = Release(
    length=4,
    clip=1.0,
    scale=2.0**12,
    sensitivity=sensitivity(2.0**12, 1.0, 4, 1e-12),
    beta=1e-12,
    noise_multiplier=4.0,
    sampling_rate=1.0,
    bound=50.0,
    steps=10,
    spare=2,
    repeats=1,
)


@pytest.mark.parametrize(("length", "moved"), [(1, 3.0), (50, 0.5), (50, 20.0), (5000, 4.0)])
@pytest.mark.parametrize("beta", [0.3, 0.01])
def test_rounding_exceeds_the_sensitivity_at_most_with_beta(
    length: int, moved: float, beta: float
) -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    contribution = rng.normal(size=length)
    contribution *= moved / np.linalg.norm(contribution)
    trials = 2000
    start = rng.normal(0, 100, length)
    entropies = [SeededEntropy(2, str(trial)) for trial in range(trials)]
    again = [SeededEntropy(2, str(trial)) for trial in range(trials)]
    wide = dataclasses.replace(NUMBERS, length=length, scale=1.0, bound=1e6)
    norms = np.array(
        [
            np.linalg.norm(
                release(start + contribution, wide, 0.0, with_one)
                - release(start, wide, 0.0, without)
            )
            for with_one, without in zip(entropies, again, strict=True)
        ]
    )
    # Scale 1 and clip `moved`: the bound holds for norms up to the clip.
    bound = sensitivity(1.0, moved, length, beta)
    exceeded = (norms > bound).mean()
    assert exceeded <= beta + 4 * math.sqrt(beta / trials)
    # The bound is no wild guess either: a norm never beats the mean by half of it.
    assert bound < 3 * math.sqrt((norms**2).mean()) + 6


@given(st.floats(1, 1e6), st.floats(1e-3, 1e3), st.integers(1, 10**6), st.floats(1e-15, 0.5))
def test_sensitivity_grows_with_everything(
    scale: float, clip: float, length: int, beta: float
) -> None:
    found = sensitivity(scale, clip, length, beta)
    assert found >= scale * clip
    assert sensitivity(2 * scale, clip, length, beta) > found
    assert sensitivity(scale, clip, length + 1, beta) >= found
    assert sensitivity(scale, clip, length, beta / 2) >= found
    # Relative to the contribution, rounding costs less on a finer grid.
    assert sensitivity(2 * scale, clip, length, beta) <= 2 * found


@pytest.mark.parametrize(
    ("scale", "clip", "length", "beta"),
    [(0.0, 1.0, 1, 0.1), (1.0, -1.0, 1, 0.1), (1.0, 1.0, 0, 0.1), (1.0, 1.0, 1, 0.0)],
)
def test_sensitivity_out_of_range(scale: float, clip: float, length: int, beta: float) -> None:
    with pytest.raises(InputError, match="sensitivity"):
        sensitivity(scale, clip, length, beta)


@given(
    st.floats(1e-4, 1e4), st.integers(1, 10**7), st.sampled_from([0.0, 1e-5, 0.01, 0.5, 5.0, 500.0])
)
def test_scale_is_the_smallest_power_of_two(clip: float, length: int, own: float) -> None:
    def suits(scale: float) -> bool:
        bound = sensitivity(scale, clip, length, 1e-12)
        return bound <= 1.001 * scale * clip and (own == 0 or own * bound >= MIN_SHARE)

    scale = choose_scale(clip=clip, length=length, beta=1e-12, own_multiplier=own)
    assert math.frexp(scale)[0] == 0.5
    assert suits(scale)
    assert not suits(scale / 2)


def test_no_scale_suits_absurd_numbers() -> None:
    with pytest.raises(InputError, match="grid"):
        choose_scale(clip=1e-30, length=1, beta=1e-12, own_multiplier=1.0)


def test_released_sums_are_clamped_and_on_the_grid() -> None:
    total = np.array([0.5, -0.25, 1e9, -1e9])
    found = release(total, NUMBERS, 0.0, SystemEntropy())
    assert found.dtype == np.int64
    assert list(found) == [2048, -1024, 50 * 4096, -50 * 4096]


def test_released_noise_has_the_share_as_its_width() -> None:
    many = dataclasses.replace(NUMBERS, length=200_000)
    share = 4.0 * NUMBERS.sensitivity / math.sqrt(3)
    noise = release(np.zeros(many.length), many, share, SeededEntropy(1))
    assert abs(noise.std() / share - 1) < 4 / math.sqrt(2 * many.length)
    assert abs(noise.mean()) < 4 * share / math.sqrt(many.length)
    again = release(np.zeros(many.length), many, share, SeededEntropy(1))
    assert np.array_equal(noise, again)


@given(
    st.lists(st.floats(-100, 100), min_size=4, max_size=4),
    st.lists(st.floats(-1, 1), min_size=4, max_size=4),
    st.integers(0, 2**32),
)
def test_one_unit_moves_a_release_by_at_most_the_sensitivity(
    others: list[float], unit: list[float], seed: int
) -> None:
    contribution = np.array(unit) / max(1.0, float(np.linalg.norm(unit)))
    with_unit = release(np.array(others) + contribution, NUMBERS, 40.0, SeededEntropy(seed))
    without = release(np.array(others), NUMBERS, 40.0, SeededEntropy(seed))
    # The same coins and the same noise: only the contribution is left, and it is rounded.
    assert np.linalg.norm(with_unit - without) <= NUMBERS.sensitivity


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_sums_that_are_not_finite_are_refused_without_a_value(bad: float) -> None:
    with pytest.raises(InputError) as caught:
        release(np.array([17.25, bad, 0.0, 0.0]), NUMBERS, 40.0, SystemEntropy())
    assert str(caught.value) == "contribution; expected finite coordinates"
    with pytest.raises(InputError, match="4 coordinates"):
        release(np.zeros(5), NUMBERS, 40.0, SystemEntropy())


@given(
    st.integers(2, 32),
    st.floats(1e-3, 1e3),
    st.floats(0, 1),
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20),
    st.integers(0, 2**32),
)
def test_digits_keep_their_width_and_their_value(
    bits: int, bound: float, factor: float, values: list[float], seed: int
) -> None:
    quantiser = Quantiser(bits=bits, bound=bound)
    update = np.array(values)
    digits = quantiser.to_digits(update, factor, SeededEntropy(seed))
    assert np.all(np.abs(digits) <= quantiser.levels)
    back = quantiser.from_digits(digits)
    step = bound / quantiser.levels
    assert np.all(np.abs(back - factor * np.clip(update, -bound, bound)) <= step * (1 + 1e-6))


def test_digits_of_several_sites_add_up_to_a_weighted_sum() -> None:
    quantiser = Quantiser(bits=12, bound=0.5)
    rng = np.random.Generator(np.random.PCG64(1))
    updates, factors = rng.normal(0, 0.1, (3, 20_000)), (1.0, 0.5, 0.25)
    digits = [
        quantiser.to_digits(update, factor, SeededEntropy(site))
        for site, (update, factor) in enumerate(zip(updates, factors, strict=True))
    ]
    expected = sum(f * np.clip(u, -0.5, 0.5) for u, f in zip(updates, factors, strict=True))
    error = quantiser.from_digits(np.sum(digits, axis=0)) - expected
    step = quantiser.bound / quantiser.levels
    assert np.abs(error).max() < 3 * step
    assert abs(error.mean()) < 4 * step * math.sqrt(3 / 4 / error.size)


def test_quantisers_out_of_range() -> None:
    for bits, bound in ((1, 1.0), (33, 1.0), (8, 0.0), (8, math.inf), (8, math.nan)):
        with pytest.raises(InputError):
            Quantiser(bits=bits, bound=bound)
    quantiser = Quantiser(bits=8, bound=1.0)
    for factor in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="weight"):
            quantiser.to_digits(np.zeros(1), factor, SystemEntropy())
    with pytest.raises(InputError, match="finite"):
        quantiser.to_digits(np.array([math.nan]), 1.0, SystemEntropy())
