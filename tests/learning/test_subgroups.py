"""Results of subgroups: who is counted where, what is told, and what never is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learning.evaluation import ClassEvaluation
from learning.result_names import headline
from learning.schema import Column, Schema
from learning.subgroup_evaluation import SubgroupEvaluation
from learning.subgroups import beside, gap, marked
from learning.task import FloatArray, FloatVector, IntVector, Metric, Task, load_task
from protocol.config import parse
from protocol.errors import InputError
from protocol.jobs import Named

SEX = {"name": "sex", "kind": "category", "categories": ["f", "m"], "subgroup": True}
WARD = {"name": "icu", "kind": "flag", "may_be_missing": True, "subgroup": True}
AGE = {"name": "age", "kind": "number", "low": 0, "high": 120}
TWO: dict[str, Any] = {"columns": [AGE, SEX], "label": {"name": "ill", "classes": ["no", "yes"]}}
NOISE = 4.0


def task(schema: dict[str, Any] = TWO, name: str = "diagnosis", **options: Any) -> Task:
    return load_task(Named(name=name, options=options), schema)


def counted(
    of: Task, predicted_NC: FloatArray, code_N: IntVector, y_N: IntVector | FloatVector
) -> FloatVector:
    """Counts of patients with one record each and one marked column."""
    seen_NC = np.column_stack([predicted_NC, code_N])
    return of.evaluation.counts(seen_NC, y_N, np.arange(len(y_N)))


def scored(size: int, seed: int = 0) -> tuple[FloatArray, IntVector, IntVector]:
    """Scores that tell the outcome of men better than that of women."""
    rng = np.random.default_rng(seed)
    y_N, code_N = rng.integers(2, size=size), rng.integers(2, size=size)
    signal_N = np.where(code_N == 1, 2.5, 0.8) * (y_N - 0.5) + rng.normal(size=size)
    score_N = 1 / (1 + np.exp(-signal_N))
    return np.column_stack([1 - score_N, score_N]), code_N, y_N


def test_a_mark_costs_what_it_says_and_no_mark_changes_nothing() -> None:
    columns = [AGE, {**SEX, "subgroup": False}]
    plain = task({**TWO, "columns": columns})
    assert plain.evaluation == ClassEvaluation(("no", "yes"))
    predicted_NC = np.ones((3, 2))
    assert beside(plain.schema, predicted_NC, np.ones((3, 3))) is predicted_NC
    one, two = task(), task({**TWO, "columns": [AGE, SEX, WARD]})
    assert one.evaluation.norm**2 == pytest.approx(6, rel=1e-14)
    assert two.evaluation.norm**2 == pytest.approx(7, rel=1e-14)
    assert one.evaluation.length == plain.evaluation.length + 2 * 32
    assert two.evaluation.length == plain.evaluation.length + 4 * 32


@pytest.mark.parametrize("column", [SEX, WARD], ids=["category", "flag"])
def test_every_record_is_in_its_values_subgroup_or_in_none(column: dict[str, Any]) -> None:
    schema = parse(Schema, {**TWO, "columns": [AGE, column]}, "schema")
    (one,) = marked(schema)
    rows: dict[str, list[str | float | None]] = {
        "age": [1] * 4,
        "sex": ["m", "f", None, "x"],
        "icu": ["yes", "no", None, "?"],
        "ill": ["no"] * 4,
    }
    x_NF, _ = task({**TWO, "columns": [AGE, column]}).features(rows)
    assert one.codes(x_NF).tolist() == [1, 0, -1, -1]


def test_a_category_called_no_or_yes_is_no_flag() -> None:
    column = {**SEX, "categories": ["no", "yes"], "neutral": "yes"}
    of = task({**TWO, "columns": [AGE, column]})
    x_NF, _ = of.features({"age": [1] * 3, "sex": ["no", "yes", None], "ill": [None] * 3})
    (one,) = marked(of.schema)
    assert one.codes(x_NF).tolist() == [0, 1, 1]


def test_the_whole_is_counted_as_without_the_mark_and_the_unknown_only_there() -> None:
    predicted_NC, code_N, y_N = scored(200)
    code_N[:50] = -1
    counts_E = counted(task(), predicted_NC, code_N, y_N)
    whole = ClassEvaluation(("no", "yes"))
    np.testing.assert_array_equal(
        counts_E[: whole.length], whole.counts(predicted_NC, y_N, np.arange(200))
    )
    assert counts_E[whole.length :].sum() == 150


def test_a_patient_in_two_subgroups_is_half_in_each() -> None:
    seen_NC = np.array([[0.2, 0.8, 0], [0.2, 0.8, 1], [0.2, 0.8, -1], [0.2, 0.8, -1]])
    vector_E = task().evaluation.vectors(
        seen_NC, np.ones(4, dtype=np.int64), np.zeros(4, dtype=int)
    )
    assert vector_E[0, 124:].max() == 0.25
    assert vector_E[0, 124:].sum() == 0.5


def test_subgroups_are_told_apart_and_the_gap_is_what_they_differ_by() -> None:
    predicted_NC, code_N, y_N = scored(4000)
    metrics = task().evaluation.metrics(counted(task(), predicted_NC, code_N, y_N))
    for code, level in enumerate("fm"):
        here_N = code_N == code
        exact = task().score(predicted_NC[here_N], y_N[here_N])
        assert metrics[f"auroc@sex={level}"].value == pytest.approx(exact, abs=0.01)
        assert metrics[f"observed@sex={level}"].value == pytest.approx(y_N[here_N].mean())
        mean = predicted_NC[here_N, 1].mean()
        assert metrics[f"predicted@sex={level}"].value == pytest.approx(mean, abs=0.005)
        called_N = predicted_NC[here_N, 1] >= 0.5
        recall = called_N[y_N[here_N] == 1].mean()
        assert metrics[f"recall@sex={level}"].value == pytest.approx(recall)
        spared = 1 - called_N[y_N[here_N] == 0].mean()
        assert metrics[f"specificity@sex={level}"].value == pytest.approx(spared)
    told = metrics["gap:auroc@sex"]
    assert told.value == metrics["auroc@sex=m"].value - metrics["auroc@sex=f"].value
    assert told.low > 0.1


def test_too_few_are_no_number() -> None:
    predicted_NC, code_N, y_N = scored(300)
    code_N[code_N == 0] = -1
    code_N[:9] = 0
    y_N[:9] = 1
    metrics = task().evaluation.metrics(counted(task(), predicted_NC, code_N, y_N))
    assert "auroc@sex=m" in metrics
    assert not [name for name in metrics if name.endswith("@sex=f")]
    assert "gap:auroc@sex" not in metrics
    # With noise of 40 a count, not even 150 men are enough.
    noisy = task().evaluation.metrics(counted(task(), predicted_NC, code_N, y_N), 40.0)
    assert not [name for name in noisy if "@" in name]


def test_an_area_of_scores_that_hardly_differ_is_not_told() -> None:
    predicted_NC, code_N, y_N = scored(2000)
    alike_NC = 0.47 + 0.01 * predicted_NC
    metrics = task().evaluation.metrics(counted(task(), alike_NC, code_N, y_N))
    assert "observed@sex=m" in metrics
    assert not [name for name in metrics if name.startswith(("auroc@", "gap:"))]


def test_intervals_hold_with_the_noise_and_so_does_the_gap() -> None:
    predicted_NC, code_N, y_N = scored(40_000, seed=1)
    truth = task().evaluation.metrics(counted(task(), predicted_NC, code_N, y_N))
    rng, names = np.random.default_rng(2), [name for name in truth if "@" in name]
    hits = dict.fromkeys(names, 0)
    for _ in range(100):
        some_N = rng.integers(40_000, size=1500)
        counts_E = counted(task(), predicted_NC[some_N], code_N[some_N], y_N[some_N])
        noisy_E = counts_E + NOISE * rng.normal(size=len(counts_E))
        metrics = task().evaluation.metrics(noisy_E, NOISE)
        for name in names:
            hits[name] += metrics[name].low <= truth[name].value <= metrics[name].high
    assert min(hits.values()) >= 88
    assert hits["gap:auroc@sex"] >= 93


def test_several_classes_and_labels_are_told_by_name() -> None:
    rng = np.random.default_rng(0)
    three = task({**TWO, "label": {"name": "stage", "classes": ["a", "b", "c"]}})
    probs_NC, y_N, code_N = rng.dirichlet(np.ones(3), 900), rng.integers(3, size=900), np.ones(900)
    metrics = three.evaluation.metrics(counted(three, probs_NC, code_N.astype(np.int64), y_N))
    right = (probs_NC.argmax(axis=1) == y_N).mean()
    assert metrics["accuracy@sex=m"].value == pytest.approx(right)
    areas = [metrics[f"auroc:{name}@sex=m"].value for name in "abc"]
    assert metrics["auroc@sex=m"].value == pytest.approx(np.mean(areas))
    assert "recall:a@sex=m" not in metrics
    several = task({**TWO, "targets": [{"name": "fall", "kind": "flag"}]}, "labels")
    y_N = rng.choice([0, 1, 2, 3, 4, 5], size=900)
    metrics = several.evaluation.metrics(
        counted(several, probs_NC[:, :2], code_N.astype(np.int64), y_N)
    )
    assert {"auroc@sex=m", "recall:ill@sex=m", "observed:fall@sex=m"} <= metrics.keys()
    known_N = y_N // 2 < 2
    share = (y_N // 2)[known_N].mean()
    assert metrics["observed:fall@sex=m"].value == pytest.approx(share)


def test_survival_is_told_as_predicted_and_as_it_was() -> None:
    schema = {
        "columns": [AGE, SEX],
        "label": {"name": "died", "classes": ["no", "yes"]},
        "targets": [{"name": "months", "kind": "number", "low": 0, "high": 24}],
    }
    of = task(schema, "survival", intervals=2)
    rng = np.random.default_rng(0)
    code_N = rng.integers(2, size=3000)
    # Nobody is lost: everybody dies in the second interval (code 3) or survives (code 4).
    y_N = np.where(rng.random(3000) < np.where(code_N == 1, 0.7, 0.5), 4, 3)
    curve_N2 = np.tile([0.9, 0.6], (3000, 1))
    metrics = of.evaluation.metrics(counted(of, curve_N2, code_N, y_N))
    for code, level in enumerate("fm"):
        lived = (y_N[code_N == code] == 4).mean()
        assert metrics[f"survival@sex={level}"].value == pytest.approx(lived)
        assert metrics[f"predicted@sex={level}"].value == pytest.approx(0.6, abs=1e-5)
        assert metrics[f"difference@sex={level}"].value == pytest.approx(0.6 - lived, abs=1e-5)
    told = metrics["gap:difference@sex"]
    assert told.low < 0.2 < told.high
    assert of.evaluation.norm**2 == pytest.approx(5.25)


def test_forecasts_are_told_by_ward() -> None:
    ward = {"name": "ward", "kind": "category", "categories": ["a", "b"], "subgroup": True}
    schema = {"columns": [AGE, ward], "label": {"name": "beds", "low": 0, "high": 10}}
    of = task(schema, "demand", quantiles=[0.5])
    rng = np.random.default_rng(0)
    code_N, y_N = rng.integers(2, size=400), rng.uniform(4, 6, size=400)
    forecast_N1 = np.where(code_N == 1, 5.0, 7.0)[:, None]
    metrics = of.evaluation.metrics(counted(of, forecast_N1, code_N, y_N))
    assert metrics["coverage:0.5@ward=a"].value == pytest.approx(1)
    below = (y_N <= 5)[code_N == 1].mean()
    assert metrics["coverage:0.5@ward=b"].value == pytest.approx(below)
    loss = (np.abs(y_N - 5) / 20)[code_N == 1].mean()
    assert metrics["pinball@ward=b"].value == pytest.approx(loss, abs=1e-5)


def test_a_rules_value_is_told_by_subgroup() -> None:
    schema = {
        **TWO,
        "targets": [{"name": "drug", "kind": "category", "categories": ["old", "new"]}],
    }
    of = task(schema, "treatment", propensities={"old": 0.5, "new": 0.5})
    rng = np.random.default_rng(0)
    code_N, given_N = rng.integers(2, size=2000), rng.integers(2, size=2000)
    good_N = (rng.random(2000) < np.where(code_N == 1, 0.8, 0.3)).astype(np.int64)
    predicted_NC = np.tile([0.4, 0.6, 0.5, 0.5], (2000, 1))
    y_N = 2 * given_N + good_N
    metrics = of.evaluation.metrics(counted(of, predicted_NC, code_N, y_N))
    for code, level in enumerate("fm"):
        here_N = code_N == code
        exact = of.score(predicted_NC[here_N], y_N[here_N])
        assert metrics[f"value@sex={level}"].value == pytest.approx(exact, abs=1e-4)
    assert metrics["gap:value@sex"].low > 0.2


def test_a_gap_of_many_is_as_wide_as_all_intervals_together_ask() -> None:
    even = Metric(0.7, 0.6, 0.8)
    two, ten = gap([even] * 2, (0, 1)), gap([even] * 10, (0, 1))
    assert two is not None
    assert ten is not None
    assert (two.value, two.low) == (0, 0)
    assert 0.2 < two.high < ten.high < 0.4
    assert gap([even], (0, 1)) is None


def test_one_line_has_gaps_and_no_subgroup() -> None:
    names = ("auroc", "auroc@sex=f", "gap:auroc@sex", "observed 0.00-0.04", "predicted 0.04-0.16:a")
    assert list(headline(dict.fromkeys(names, 1))) == ["auroc", "gap:auroc@sex"]


def test_a_class_with_the_mark_of_subgroups_in_its_name_is_no_subgroup() -> None:
    names = ("recall:at@home", "recall:at@home@sex=f", "gap:auroc@sex", "observed 0.0-0.1:at@home")
    assert list(headline(dict.fromkeys(names, 1))) == ["recall:at@home", "gap:auroc@sex"]


@pytest.mark.parametrize(
    "column",
    [
        {**AGE, "subgroup": True},
        {"name": "note", "kind": "text", "length": 3, "subgroup": True},
        {**SEX, "categories": list(range(17))},
    ],
)
def test_what_cannot_tell_subgroups_apart_is_refused(column: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="subgroups"):
        task({**TWO, "columns": [column]})


def test_targets_and_statistics_take_no_mark() -> None:
    with pytest.raises(InputError, match="known before the outcome"):
        task({**TWO, "targets": [{**WARD, "may_be_missing": False}]}, "labels")
    with pytest.raises(InputError, match="evaluates nothing"):
        task(TWO, "statistics")


@pytest.mark.parametrize("code", [0.5, 2, -2, np.nan])
def test_a_subgroup_that_does_not_exist_is_refused(code: float) -> None:
    seen_NC = np.array([[0.2, 0.8, code]])
    with pytest.raises(InputError, match="subgroups"):
        task().evaluation.counts(seen_NC, np.array([1]), np.array([0]))


def test_predictions_alone_and_other_counts_are_refused() -> None:
    with pytest.raises(InputError):
        task().evaluation.counts(np.array([[0.2, 0.8]]), np.array([1]), np.array([0]))
    with pytest.raises(InputError, match="subgroup"):
        task().evaluation.counts(np.ones((1, 1)), np.array([1]), np.array([0]))
    with pytest.raises(InputError, match="188 finite numbers"):
        task().evaluation.metrics(np.zeros(3))


def test_a_bound_is_never_below_the_root_of_the_parts() -> None:
    evaluation = task().evaluation
    assert isinstance(evaluation, SubgroupEvaluation)
    many = replace(evaluation, columns=evaluation.columns * 7)
    assert many.norm**2 >= 5 + 7
    assert Column(**{**SEX, "categories": ("f", "m")}).subgroup  # type: ignore[arg-type]
