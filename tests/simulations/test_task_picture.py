"""Pictures of what a task is about: one for each kind of task, from exact predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from learning.task import load_task
from protocol.jobs import Named
from simulations.held_out import HeldOut
from simulations.results import Result, Row, Shown
from simulations.score_panels import _rates
from simulations.task_picture import draw, panels_of, representative, task_picture

AGE = {"name": "age", "kind": "number", "low": 0, "high": 120}
ILL = {"name": "ill", "classes": ["no", "yes"]}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "two classes": ("diagnosis", {"label": ILL}),
    "three classes": ("diagnosis", {"label": {"name": "stage", "classes": ["a", "b", "$c$"]}}),
    "labels": ("labels", {"label": ILL, "targets": [{"name": "fall", "kind": "flag"}]}),
    "survival": (
        "survival",
        {"label": ILL, "targets": [{"name": "days", "kind": "number", "low": 0, "high": 24}]},
    ),
    "treatment": (
        "treatment",
        {"label": ILL, "targets": [{"name": "drug", "kind": "category", "categories": ["x", "y"]}]},
    ),
    "demand": ("demand", {"label": {"name": "beds", "low": 0, "high": 40}}),
}
ARMS = (("pooled", None), ("distributed", 1.0), ("distributed", 3.0), ("local", 3.0))


def result(kind: str, size: int = 200) -> Result:
    """Two models that were never trained, on invented records."""
    name, schema = KINDS[kind]
    task = load_task(Named(name=name, options={}), {"columns": [AGE], **schema})
    records = task.generate(size, np.random.default_rng(0))
    shown = []
    for seed, (arm, epsilon) in enumerate(ARMS):
        weights_P = np.random.default_rng(seed).normal(size=task.layout().size)
        predicted_NC = task.predict(weights_P, records.x_NF)
        held_out = HeldOut(task=task, records=records, predicted_NC=predicted_NC)
        shown.append(Shown(arm=arm, epsilon=epsilon, held_out=held_out))
    rows = (Row(arm="pooled", scores=(0.5,)),)
    return Result(name="a $name$", rows=rows, delta=1e-5, seeds=(3,), shown=tuple(shown))


def texts(figure: Figure) -> str:
    found = [one.get_text() for one in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
        found += [one.get_text() for one in axes.get_yticklabels()]
        legend = axes.get_legend()
        found += [one.get_text() for one in legend.get_texts()] if legend else []
    return "\n".join(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 9])
def test_a_picture_of_few_records_lacks_what_they_do_not_tell(kind: str, size: int) -> None:
    assert draw(result(kind, size)) is not None


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("two classes", ["ROC curve", "Calibration", "all data in one place", "noise on the sum"]),
        ("three classes", ["ROC curve", "$c$"]),
        ("labels", ["ill", "fall"]),
        ("survival", ["high risk (67)", "low risk (66)", "days", "observed survival"]),
        ("treatment", ["as they were treated", "everybody: y", "rule: all data in one place"]),
        ("demand", ["0.1 to 0.9", "came, outside", "beds", "Coverage"]),
    ],
)
def test_every_task_has_a_picture_of_what_it_is_about(kind: str, told: list[str]) -> None:
    figure = draw(result(kind))
    assert figure is not None
    text = texts(figure)
    for words in (*told, "a $name$", "200 held-out records", "seed 3", "ε = 3"):
        assert words in text
    png = task_picture(result("treatment")) if kind == "treatment" else None
    assert png is None or png.startswith(b"\x89PNG")


def test_equal_results_give_equal_bytes_and_nothing_gives_no_picture() -> None:
    assert task_picture(result("demand")) == task_picture(result("demand"))
    rows = (Row(arm="local_only", scores=(0.5,)),)
    assert task_picture(Result(name="x", rows=rows, delta=1e-5, seeds=(0,))) is None
    assert panels_of(object()) == ()


def test_few_records_make_no_dots_and_no_error() -> None:
    for kind in ("two classes", "survival", "demand"):
        assert draw(result(kind, size=7)) is not None
    assert draw(result("survival", size=2)) is not None


def test_a_task_that_registered_no_panels_has_no_picture() -> None:
    known = result("demand")
    unknown = HeldOut(
        task=object(),  # type: ignore[arg-type]
        records=known.shown[0].held_out.records,
        predicted_NC=known.shown[0].held_out.predicted_NC,
    )
    shown = (Shown(arm="clear", epsilon=None, held_out=unknown),)
    result_ = Result(name="x", rows=known.rows, delta=1e-5, seeds=(0,), shown=shown)
    assert task_picture(result_) is None


def test_the_model_that_stands_for_all_has_noise_on_the_sum_where_there_is_one() -> None:
    shown = result("demand").shown
    assert (representative(shown).arm, representative(shown).epsilon) == ("distributed", 3.0)
    assert representative(shown[:1]).arm == "pooled"


def test_rates_of_equal_scores_are_one_threshold() -> None:
    wrong, right = _rates(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 0, 1, 0]))
    assert (wrong.tolist(), right.tolist()) == ([0, 0, 0.5, 1], [0, 0.5, 1, 1])
