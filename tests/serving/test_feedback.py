"""What came true: of every task its own words, the same numbers after them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning.artefact import load
from learning.schema import Schema
from learning.task import Task, load_task
from protocol.config import parse
from protocol.jobs import Named
from serving.calibration import Calibration
from serving.config import Monitoring
from serving.feedback import read_feedback, reader_of
from serving.monitor import Monitor
from serving.refusal import Refusal
from tests.serving.ward import PLAIN, SCHEMA, add

TABLE = {**SCHEMA, "columns": SCHEMA["columns"][:3]}
SETTINGS = Monitoring(window_rows=400)
BINARY = {"name": "ill", "classes": ["no", "yes"]}
DAYS = {"name": "days", "kind": "number", "unit": "days", "low": 0, "high": 300}
GIVEN = {"name": "drug", "kind": "category", "categories": ["old", "new"]}


def task_of(name: str, schema: dict[str, Any], **options: Any) -> Task:
    return load_task(Named(name=name, options=options), {**PLAIN, **schema})


def feedback(n: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    """Predictions that come true, but for smokers by `shift` more often than predicted."""
    rng = np.random.default_rng(seed)
    p_N, smoker_N = rng.uniform(0.2, 0.6, n), rng.random(n) < 0.5
    true_N = rng.random(n) < p_N + shift * smoker_N
    return {
        "probabilities": np.column_stack([1 - p_N, p_N]).tolist(),
        "labels": np.where(true_N, "yes", "no").tolist(),
        "groups": {"smoker": np.where(smoker_N, "yes", "no").tolist()},
    }


def test_predictions_that_do_not_come_true_for_a_group_are_an_alert(tmp_path: Path) -> None:
    model = load(add(tmp_path, "sepsis", TABLE, 1))
    for shift, alerts in (
        (0.0, set[str]()),
        (0.35, {"calibration", "calibration where smoker = yes"}),
    ):
        watched = Monitor(tmp_path / f"kept {shift}", SETTINGS).watch(model)
        watched.calibration.add(read_feedback(model.task, feedback(400, 7, shift), 4096))
        assert watched.look() == alerts
        gaps = watched.calibration.gaps()
        smokers = [gaps["", "smoker", one].rows for one in ("yes", "no")]
        assert sum(smokers) == gaps["", "", ""].rows == 400
        assert (watched.calibration.errors()[""] > 0.1) == bool(alerts)


def calibration_of(task: Task) -> Calibration:
    reader = reader_of(task)
    assert reader is not None
    return Calibration(task.schema, reader.outcomes, 1000)


def test_of_many_classes_the_likeliest_is_compared() -> None:
    task = task_of("diagnosis", {"label": {"name": "stage", "classes": [1, 2, 3]}})
    calibration = calibration_of(task)
    assert calibration.errors() == {}
    document = {"probabilities": [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], "labels": ["1", "2"]}
    told = read_feedback(task, document, 10)
    for _ in range(4):
        calibration.add(told)
    assert (calibration.gaps(), calibration.errors()) == ({}, {}), "too few to be told"
    calibration.add(told)
    gap = calibration.gaps()["", "", ""]
    assert (gap.rows, gap.observed) == (10, 0.5)
    assert gap.predicted == pytest.approx(0.65)
    assert calibration.errors()[""] == pytest.approx((0.5 + 0.8) / 2)


def test_what_is_told_of_a_group_changes_with_ten_of_its_labels() -> None:
    task = load_task(Named(name="diagnosis", options={}), TABLE)
    calibration = calibration_of(task)

    def add(rows: int, smoker: str, label: str) -> None:
        document = {
            "probabilities": [[0.5, 0.5]] * rows, "labels": [label] * rows,
            "groups": {"smoker": [smoker] * rows},
        }  # fmt: skip
        calibration.add(read_feedback(task, document, 100))

    def told() -> list[Any]:
        gaps = calibration.gaps()
        places = (("", "", ""), ("", "smoker", "yes"), ("", "smoker", "no"))
        return [(gaps[one].rows, gaps[one].observed) for one in places if one in gaps]

    add(12, "yes", "yes")
    assert told() == [(12, 1.0), (12, 1.0)]
    for _ in range(9):
        add(1, "no", "no")
        assert told() == [(12, 1.0), (12, 1.0)]
    state = calibration.state()
    again = calibration_of(task)
    again.restore(state)
    assert again.gaps() == calibration.gaps()
    add(1, "no", "no")
    assert told() == [(22, 12 / 22), (12, 1.0), (10, 0.0)]


def test_each_label_is_compared_where_it_is_known() -> None:
    stroke = {"name": "stroke", "kind": "flag"}
    task = task_of("labels", {"targets": [stroke]})
    document = {
        "probabilities": [[0.8, 0.1], [0.6, 0.2]] * 5,
        "labels": [["yes", None], ["no", "yes"]] * 5,
    }
    told = read_feedback(task, document, 100)
    np.testing.assert_array_equal(told.true_NT[:2], [[1, np.nan], [0, 1]])
    calibration = calibration_of(task)
    calibration.add(told)
    assert [*calibration.gaps()] == [("ill", "", "")], "of strokes five are known"
    calibration.add(told)
    gap = calibration.gaps()["stroke", "", ""]
    assert (gap.rows, gap.observed) == (10, 1.0)
    assert gap.predicted == pytest.approx(0.2)


def test_survival_is_compared_interval_by_interval_as_far_as_a_patient_was_followed() -> None:
    task = task_of("survival", {"targets": [DAYS]}, cuts=[100, 200, 300])
    document = {
        "survival": [[0.9, 0.9, 0.45]] * 4,
        "times": [150, 120, 199, 400],
        "labels": ["yes", "no", "no", "yes"],
    }
    told = read_feedback(task, document, 100)
    # Dead in the second; lost in its first half; lost in its second half; outlived all.
    wanted = [[0, 1, np.nan], [0, np.nan, np.nan], [0, 0, np.nan], [0, 0, 0]]
    np.testing.assert_array_equal(told.true_NT, wanted)
    np.testing.assert_allclose(told.chance_NT[0], [0.1, 0.0, 0.5])
    reader = reader_of(task)
    assert reader is not None
    assert reader.outcomes == ("up to 100 days", "up to 200 days", "up to 300 days")


def test_survival_that_is_right_has_no_gap_although_patients_are_lost(tmp_path: Path) -> None:
    options = Named(name="survival", options={"cuts": [100, 200, 300]})
    model = load(add(tmp_path, "alive", {**PLAIN, "targets": [DAYS]}, 1, options))
    rng, n = np.random.default_rng(3), 4000
    hazard_N = rng.uniform(0.05, 0.3, n)
    dead_NT = rng.random((n, 3)) < hazard_N[:, None]
    death_N = np.where(dead_NT.any(axis=1), 100 * dead_NT.argmax(axis=1) + 50, 1000.0)
    lost_N = 100 * rng.integers(1, 5, n)
    document = {
        "survival": np.cumprod(1 - np.repeat(hazard_N[:, None], 3, axis=1), axis=1).tolist(),
        "times": np.minimum(death_N, lost_N).tolist(),
        "labels": np.where(death_N < lost_N, "yes", "no").tolist(),
    }
    for shift, alerts in ((1.0, 0), (0.8, 3)):
        shifted = (np.array(document["survival"]) * shift ** np.arange(1, 4)).tolist()
        watched = Monitor(tmp_path / f"kept {shift}", SETTINGS).watch(model)
        told = read_feedback(model.task, {**document, "survival": shifted}, 4096)
        watched.calibration.add(told)
        assert len(watched.look()) == alerts, watched.alerts


def test_a_treatments_outcome_is_compared_under_what_was_given() -> None:
    task = task_of("treatment", {"targets": [GIVEN]})
    document = {
        "outcomes": [[0.3, 0.6], [0.2, 0.9]], "arms": ["new", "old"], "labels": ["yes", "no"],
    }  # fmt: skip
    told = read_feedback(task, document, 100)
    np.testing.assert_array_equal(told.true_NT, [[np.nan, 1], [0, np.nan]])
    calibration = calibration_of(task)
    for _ in range(10):
        calibration.add(told)
    gaps = calibration.gaps()
    assert gaps["new", "", ""].predicted == pytest.approx(0.6)
    assert gaps["old", "", ""].observed == 0.0


def test_a_forecasts_quantiles_are_compared_with_how_often_they_suffice() -> None:
    task = task_of("demand", {"label": {"name": "beds", "low": 0, "high": 40}})
    document = {"quantiles": [[5, 10, 15]] * 10, "labels": [4, 8, 9, 10, 11, 12, 13, 16, 20, 25]}
    calibration = calibration_of(task)
    calibration.add(read_feedback(task, document, 100))
    gaps: dict[str, Any] = {
        place[0]: (gap.predicted, gap.observed) for place, gap in calibration.gaps().items()
    }
    assert gaps == {
        "0.1": (pytest.approx(0.1), 0.1),
        "0.5": (pytest.approx(0.5), 0.4),
        "0.9": (pytest.approx(0.9), 0.7),
    }
    assert calibration.errors()["0.9"] == pytest.approx(0.2)


RIGHT = {"probabilities": [[0.5, 0.5], [0.0, 1.0]], "labels": ["yes", "no"]}
WRONG = [
    ({"labels": []}, "labels; expected a list"),
    ({"labels": 917}, "labels; expected a list"),
    ({"labels": ["yes", "917"]}, "labels; expected a list of 'no', 'yes'"),
    ({"labels": ["yes"] * 11}, "labels of a request; expected 1 to 10"),
    ({"probabilities": [[0.5, 0.5]]}, "2 rows of 2 numbers"),
    ({"probabilities": [[0.5, 0.5], [1]]}, "2 rows of 2 numbers"),
    ({"probabilities": [[0.5, 917], [0, 1]]}, "numbers from 0 to 1"),
    ({"probabilities": [[0.5, 0.9], [0, 1]]}, "add up to 1"),
    ({"probabilities": [["917", {}], [0, 1]]}, "2 rows of 2 numbers"),
    ({"probabilities": [["0.5", "0.5"], [0, 1]]}, "2 rows of 2 numbers"),
    ({"probabilities": [[0.5, float("nan")], [0, 1]]}, "2 rows of 2 numbers"),
    ({"probabilities": [[0.5, 10**400], [0, 1]]}, "2 rows of 2 numbers"),
    ({"probabilities": [[False, True], [0, 1]]}, "2 rows of 2 numbers"),
    ({"probabilities": [[0.5, 0.5], [[0], [1]]]}, "2 rows of 2 numbers"),
    ({"groups": 3}, "groups; expected columns"),
    ({"groups": {"age": ["917", "1"]}}, "groups; expected 'ward', 'smoker'"),
    ({"groups": {"ward": ["a"]}}, "groups of 'ward'; expected 2 texts"),
    ({"more": 917}, "probabilities, labels and groups"),
]


@pytest.mark.parametrize(("change", "told"), WRONG)
def test_wrong_feedback_is_refused_by_field_and_never_by_value(
    change: dict[str, Any], told: str
) -> None:
    task = load_task(Named(name="diagnosis", options={}), TABLE)
    with pytest.raises(Refusal, match=told) as caught:
        read_feedback(task, {**RIGHT, **change}, 10)
    assert "917" not in str(caught.value)


def test_a_list_of_another_length_is_not_read() -> None:
    class Long(list[str]):
        def __iter__(self) -> Iterator[str]:
            raise AssertionError

    task = load_task(Named(name="diagnosis", options={}), TABLE)
    with pytest.raises(Refusal, match="groups of 'ward'; expected 2 texts; found 3"):
        read_feedback(task, {**RIGHT, "groups": {"ward": Long("aaa")}}, 10)


def test_one_long_text_takes_no_room_in_every_place() -> None:
    rows: list[list[Any]] = [[0.5, "b"]] * 1000
    wrong = {"labels": ["yes"] * 1000, "probabilities": [["a" * 20_000, 0.5], *rows[1:]]}
    task = load_task(Named(name="diagnosis", options={}), TABLE)
    tracemalloc.start()
    try:
        with pytest.raises(Refusal, match="1000 rows of 2 numbers"):
            read_feedback(task, wrong, 1000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


OTHERS: list[tuple[Task, dict[str, Any], str]] = [
    (
        task_of("labels", {"targets": [{"name": "stroke", "kind": "flag"}]}),
        {"probabilities": [[0.5, 0.5]], "labels": ["yes"]},
        "labels; expected 2 of each row, null if unknown",
    ),
    (
        task_of("survival", {"targets": [DAYS]}, cuts=[100, 200]),
        {"survival": [[0.5, 0.9]], "labels": ["no"], "times": [3]},
        "survival; expected curves that never rise",
    ),
    (
        task_of("survival", {"targets": [DAYS]}, cuts=[100, 200]),
        {"survival": [[0.5, 0.4]], "labels": ["no"], "times": [-917]},
        "times; expected 1 numbers from 0 on",
    ),
    (
        task_of("treatment", {"targets": [GIVEN]}),
        {"outcomes": [[0.5, 0.4]], "labels": ["no"], "arms": ["917"]},
        "arms; expected a list of 'old', 'new'",
    ),
    (
        task_of("treatment", {"targets": [GIVEN]}),
        {"outcomes": [[0.5, 0.4]], "labels": ["no"], "arms": ["old", "new"]},
        "arms; expected 1 texts; found 2",
    ),
    (
        task_of("demand", {"label": {"name": "beds", "low": 0, "high": 40}}),
        {"quantiles": [[1, 2, 3]], "labels": ["917"]},
        "labels; expected 1 numbers",
    ),
    (
        task_of("statistics", {"label": BINARY}),
        {"labels": ["no"]},
        "feedback for this model; expected one that predicts classes, labels, survival",
    ),
]


@pytest.mark.parametrize(("task", "document", "told"), OTHERS)
def test_feedback_of_other_tasks_is_refused_in_their_words(
    task: Task, document: dict[str, Any], told: str
) -> None:
    with pytest.raises(Refusal, match=told) as caught:
        read_feedback(task, document, 10)
    assert "917" not in str(caught.value)
    assert caught.value.kind.value == "invalid"


def test_a_model_without_categories_has_no_groups() -> None:
    task = task_of("diagnosis", {})
    assert parse(Schema, PLAIN, "schema").names == ("age",)
    with pytest.raises(Refusal, match="none: no column has few values"):
        read_feedback(task, {**RIGHT, "groups": {"ward": ["a", "a"]}}, 10)
