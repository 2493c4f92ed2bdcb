from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from learning.task import load_task
from protocol.errors import InputError
from protocol.jobs import Named, Training
from strategies.base import FloatVector, Total, summing
from strategies.one_shot import (
    MAX_PARAMETERS,
    OneShot,
    unit_norm,
    unit_vectors,
)

anything = st.floats(allow_nan=True, allow_infinity=True)
radii = st.floats(1.01, 1e3)


def training(rounds: int = 1, l2: float = 0.01) -> Training:
    return Training(
        rounds=rounds,
        spare_attempts=0,
        local_steps=1,
        learning_rate=0.1,
        l2=l2,
        proximal=0.0,
        seed=0,
    )


def records(n: int = 300, f: int = 4) -> tuple[FloatVector, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(2)
    x_NF = rng.normal(size=(n, f))
    y_N = (x_NF @ rng.normal(size=f) + 0.5 * rng.normal(size=n) > 0.3).astype(np.int64)
    return x_NF, y_N


def one_shot(
    parameters: int, radius: float = 100.0, slope: float = 1.0, l2: float = 0.01
) -> OneShot:
    return OneShot(parameters=parameters, radius=radius, slope=slope, l2=l2)


def fit(strategy: OneShot, sum_S: FloatVector, weight: float) -> FloatVector:
    return strategy.step(strategy.init(np.zeros(strategy.parameters)), Total(sum_S, weight)).weights


class TestUnitVectors:
    @given(
        x_NF=st.integers(0, 4).flatmap(
            lambda n: st.integers(1, 5).flatmap(
                lambda f: arrays(np.float64, (n, f), elements=anything)
            )
        ),
        radius=radii,
        data=st.data(),
    )
    def test_no_unit_reaches_beyond_the_bound(
        self, x_NF: FloatVector, radius: float, data: Any
    ) -> None:
        """Sensitivity: sqrt(R^4 + R^2) bounds each row, in exact arithmetic, whatever the data."""
        n = len(x_NF)
        y_N = data.draw(arrays(np.int64, n, elements=st.integers(0, 1)))
        patient_N = data.draw(st.none() | arrays(np.int64, n, elements=st.integers(0, 2)))
        square = Fraction(radius) ** 2
        for row in unit_vectors(x_NF, y_N, radius, patient_N=patient_N):
            assert sum(Fraction(value) ** 2 for value in row.tolist()) <= square**2 + square

    @given(radius=radii)
    def test_the_stated_norm_is_not_below_the_formula_it_rounds(self, radius: float) -> None:
        square = Fraction(radius) ** 2
        exact = math.isqrt(int((square**2 + square) * 10**40)) / 1e20
        assert unit_norm(radius) == pytest.approx(exact, rel=1e-14)

    def test_the_bound_is_reached_but_for_the_off_diagonal(self) -> None:
        """A tighter bound would be wrong: one large coordinate comes within 1 % of it."""
        (row,) = unit_vectors(np.array([[1e9]]), np.array([1]), 50.0)
        assert np.linalg.norm(row) == pytest.approx(unit_norm(50.0), rel=0.01)

    def test_short_records_are_taken_as_they_are(self) -> None:
        x_NF, y_N = records(20, 3)
        rows = unit_vectors(x_NF, y_N, 100.0)
        for x, label, row in zip(x_NF, y_N, rows, strict=True):
            full = np.append(x, 1.0)
            outer = [full[i] * full[j] for i in range(4) for j in range(i, 4)]
            assert row.tolist() == [*outer, *(full * (1.0 if label else -1.0))]

    def test_long_records_keep_their_direction_and_their_bias(self) -> None:
        (row,) = unit_vectors(np.array([[30.0, -40.0]]), np.array([0]), 2.0)
        x, y, bias = row[2], row[4], row[5]
        assert (x, y) == pytest.approx((0.6 * math.sqrt(3), -0.8 * math.sqrt(3)))
        assert bias == 1.0
        assert row[6:].tolist() == [-x, -y, -1.0]

    def test_values_whose_squares_overflow_are_shortened_alike(self) -> None:
        huge, long = (unit_vectors(np.full((1, 4), x), np.ones(1), 2.0) for x in (1.7e308, 1e3))
        assert huge == pytest.approx(long, rel=1e-12)

    def test_labels_of_both_codings_are_signs(self) -> None:
        x_NF = np.ones((2, 1))
        zero_one = unit_vectors(x_NF, np.array([0, 1]), 2.0)
        assert zero_one.tolist() == unit_vectors(x_NF, np.array([-1.0, 1.0]), 2.0).tolist()

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_value_that_is_not_finite_does_not_spread(self, bad: float) -> None:
        x_NF = np.array([[1.0, bad], [0.5, 0.25]])
        rows = unit_vectors(x_NF, np.array([1, 1]), 2.0)
        assert rows[0].tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 1]
        assert rows[1].tolist() == unit_vectors(x_NF[1:], np.array([1]), 2.0)[0].tolist()

    def test_a_patient_counts_once_however_many_rows_it_has(self) -> None:
        x_NF, y_N = records(6, 2)
        patient_N = np.array([9, 4, 9, 9, 4, 7])
        rows = unit_vectors(x_NF, y_N, 2.0)
        expected = [rows[patient_N == p].mean(axis=0) for p in (4, 7, 9)]
        assert unit_vectors(x_NF, y_N, 2.0, patient_N=patient_N) == pytest.approx(
            np.array(expected), rel=1e-14
        )

    def test_no_records_give_no_rows(self) -> None:
        none = np.zeros((0, 3))
        assert unit_vectors(none, np.zeros(0), 2.0).shape == (0, 14)
        patients = np.zeros(0, dtype=np.int64)
        assert unit_vectors(none, np.zeros(0), 2.0, patient_N=patients).sum(axis=0).shape == (14,)

    @pytest.mark.parametrize("radius", [1.0, -2.0, math.nan, math.inf])
    def test_the_bias_has_to_fit_into_the_radius(self, radius: float) -> None:
        with pytest.raises(InputError, match=r"radius; expected at least 1\.01"):
            unit_vectors(np.ones((1, 1)), np.ones(1), radius)

    def test_a_strategy_takes_only_a_linear_model(self) -> None:
        x_NF, y_N = records(5, 3)
        strategy = one_shot(4, radius=2.0)
        assert strategy.unit_vectors(x_NF, y_N).tolist() == unit_vectors(x_NF, y_N, 2.0).tolist()
        assert strategy.unit_vectors(x_NF, y_N).shape[1] == strategy.length(4)
        assert strategy.norm == math.sqrt(20.0)
        with pytest.raises(InputError, match="linear model"):
            strategy.unit_vectors(x_NF[:, :2], y_N)

    def test_its_bound_and_sums_are_of_one_linear_score_alone(self) -> None:
        schema = {
            "columns": [{"name": "age", "kind": "number", "low": 0, "high": 100}],
            "label": {"name": "ill", "classes": ["no", "yes"]},
        }
        linear, network = (
            load_task(Named(name="diagnosis", options={"model": model}), schema)
            for model in ("logistic", "mlp")
        )
        strategy = summing(one_shot(2, radius=2.0))
        assert strategy is not None
        given = linear.generate(6, np.random.default_rng(0))
        several = replace(given, patient_N=np.array([0, 0, 1, 2, 2, 2]))
        units: dict[Literal["record", "patient"], npt.NDArray[np.int64] | None] = {
            "record": None,
            "patient": several.patient_N,
        }
        for unit, patient_N in units.items():
            vectors_US = unit_vectors(several.x_NF, several.y_N, 2.0, patient_N=patient_N)
            found_S = strategy.sums(linear, several, unit)
            assert found_S.tolist() == vectors_US.sum(axis=0).tolist()
        assert strategy.bound(linear) == math.sqrt(20.0)
        for ask in (strategy.bound, lambda task: strategy.sums(task, several, "record")):
            with pytest.raises(InputError, match="one linear score of two classes"):
                ask(network)


class TestStep:
    def test_solves_the_regularised_least_squares_problem(self) -> None:
        """Oracle: least squares on the records themselves, the penalty as further rows."""
        x_NF, y_N = records()
        n, l2 = len(x_NF), 0.07
        x_NP = np.hstack([x_NF, np.ones((n, 1))])
        penalty = math.sqrt(n * l2) * np.eye(5)
        target = np.append(np.where(y_N > 0, 1.0, -1.0), np.zeros(5))
        expected = np.linalg.lstsq(np.vstack([x_NP, penalty]), target, rcond=None)[0]
        total = unit_vectors(x_NF, y_N, 100.0).sum(axis=0)
        assert fit(one_shot(5, l2=l2), total, float(n)) == pytest.approx(expected, rel=1e-9)

    def test_hospitals_together_learn_what_one_would(self) -> None:
        x_NF, y_N = records()
        vectors = unit_vectors(x_NF, y_N, 2.0)
        apart = sum((vectors[i::3].sum(axis=0) for i in range(3)), np.zeros(vectors.shape[1]))
        together = fit(one_shot(5), vectors.sum(axis=0), 300.0)
        assert fit(one_shot(5), apart, 300.0) == pytest.approx(together, rel=1e-9)

    def test_the_slope_scales_scores_and_changes_no_ranking(self) -> None:
        total = unit_vectors(*records(), 2.0).sum(axis=0)
        plain = fit(one_shot(5), total, 300.0)
        assert fit(one_shot(5, slope=2.0), total, 300.0).tolist() == (2.0 * plain).tolist()

    def test_its_probabilities_fit_better_than_the_bare_scores(self) -> None:
        """Brier score of sigmoid(2 s) below that of sigmoid(s)."""
        x_NF, y_N = records(2000)
        total = unit_vectors(x_NF, y_N, 100.0).sum(axis=0)
        brier = {}
        for slope in (1.0, 2.0):
            w = fit(one_shot(5, slope=slope), total, 2000.0)
            probability = 1 / (1 + np.exp(-(x_NF @ w[:-1] + w[-1])))
            brier[slope] = ((probability - y_N) ** 2).mean()
        assert brier[2.0] < 0.9 * brier[1.0]

    def test_collinear_columns_are_solved_without_a_penalty(self) -> None:
        x_NF, y_N = records(100, 2)
        doubled = np.hstack([x_NF, x_NF])
        total = unit_vectors(doubled, y_N, 100.0).sum(axis=0)
        w = fit(one_shot(5, l2=0.0), total, 100.0)
        assert w[:2] == pytest.approx(w[2:4], abs=1e-6)
        single = fit(one_shot(3, l2=0.0), unit_vectors(x_NF, y_N, 100.0).sum(axis=0), 100.0)
        assert w[:2] + w[2:4] == pytest.approx(single[:2], abs=1e-4)

    @given(seed=st.integers(0, 2**32 - 1), noise=st.floats(0.0, 1e4), size=st.integers(2, 12))
    def test_noise_of_any_size_gives_a_finite_model(
        self, seed: int, noise: float, size: int
    ) -> None:
        rng = np.random.default_rng(seed)
        strategy = one_shot(size)
        total = rng.normal(size=strategy.length(size)) * noise
        assert np.isfinite(fit(strategy, total, 30.0)).all()

    def test_a_statistic_that_is_not_finite_is_an_error_and_no_endless_loop(self) -> None:
        total = np.full(one_shot(3).length(3), math.nan)
        with pytest.raises(InputError, match="finite"):
            fit(one_shot(3), total, 1.0)


class TestOptions:
    def test_reads_radius_and_slope_and_takes_the_ridge_from_the_job(self) -> None:
        made = OneShot.from_options({"radius": 3, "slope": 1.5}, training(l2=0.2), 9)
        assert made == one_shot(9, radius=3.0, slope=1.5, l2=0.2)
        assert OneShot.from_options({}, training(), 9) == one_shot(9, radius=2.0, slope=2.0)

    @pytest.mark.parametrize(
        ("options", "rounds", "length", "named"),
        [
            ({}, 2, 9, "training.rounds"),
            ({}, 1, 1, "parameters"),
            ({}, 1, MAX_PARAMETERS + 1, "2 to 500 parameters"),
            ({"radius": 1.0}, 1, 9, "radius"),
            ({"slope": 0.0}, 1, 9, "slope"),
            ({"slope": "steep"}, 1, 9, "slope"),
            ({"ridge": 0.1}, 1, 9, "ridge"),
        ],
    )
    def test_refuses_what_it_cannot_do(
        self, options: dict[str, Any], rounds: int, length: int, named: str
    ) -> None:
        with pytest.raises(InputError, match=named):
            OneShot.from_options(options, training(rounds), length)

    @pytest.mark.parametrize("weights", [np.zeros(4), np.array([0.0, 0.0, 1e-9])])
    def test_starts_from_the_zero_model_of_its_size(self, weights: FloatVector) -> None:
        with pytest.raises(InputError, match="3 zeros"):
            one_shot(3).init(weights)
