"""Tests of confidence intervals against closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from learning.intervals import Z, clipped, normal_interval, score_interval


def test_z_is_the_quantile_of_the_normal_law() -> None:
    assert pytest.approx(norm.ppf(0.975), rel=1e-15) == Z


@given(st.integers(1, 500), st.data())
def test_with_binomial_variance_it_is_wilsons_interval(size: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, size))
    metric = score_interval(hits / size, lambda theta: theta * (1 - theta) / size)
    wilson = binomtest(hits, size).proportion_ci(0.95, method="wilson")
    assert metric.low == pytest.approx(wilson.low, abs=1e-9)
    assert metric.high == pytest.approx(wilson.high, abs=1e-9)


@given(st.floats(0, 1), st.floats(1e-6, 0.2), st.floats(0, 0.5))
def test_limits_are_where_the_distance_is_z_standard_errors(
    value: float, sampling: float, noise: float
) -> None:
    metric = score_interval(value, lambda _: sampling, noise)
    half = Z * math.sqrt(sampling + noise)
    assert metric.low == pytest.approx(max(value - half, 0), abs=1e-9)
    assert metric.high == pytest.approx(min(value + half, 1), abs=1e-9)
    same = clipped(normal_interval(value, sampling + noise))
    assert same.low == pytest.approx(metric.low, abs=1e-9)
    assert same.high == pytest.approx(metric.high, abs=1e-9)


@pytest.mark.parametrize(("value", "shown"), [(-0.4, 0.0), (1.7, 1.0)])
def test_values_outside_are_set_to_the_nearer_end(value: float, shown: float) -> None:
    for metric in (score_interval(value, lambda _: 0.01), clipped(normal_interval(value, 0.01))):
        assert metric.value == shown
        assert 0 <= metric.low <= shown <= metric.high <= 1


def test_no_variance_is_no_interval() -> None:
    metric = score_interval(0.3, lambda _: 0.0)
    assert metric.low == metric.value == metric.high == 0.3
