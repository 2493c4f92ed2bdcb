"""Several labels at once: codes, unknown ones, weights, and areas against scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from learning.label_evaluation import UNKNOWN, states
from learning.labels import Labels
from learning.networks import labels_loss
from learning.schema import Column, Label, Schema
from protocol.errors import InputError

SCHEMA = Schema(
    columns=(Column(name="age", kind="number", low=0, high=100),),
    label=Label(name="sepsis", classes=("no", "yes")),
    targets=(Column(name="stroke", kind="flag"), Column(name="fall", kind="flag")),
)


def task(**options: object) -> Labels:
    return Labels.from_options(options, SCHEMA)


def test_codes_keep_every_state() -> None:
    every_NL = np.array(
        [[a, b, c] for a in (0, 1) for b in (0, 1, UNKNOWN) for c in (0, 1, UNKNOWN)]
    )
    value_NL = np.where(every_NL == UNKNOWN, np.nan, every_NL)
    code_N = task().outcome.encode(value_NL)
    assert sorted(code_N.tolist()) == list(range(18))
    assert (states(code_N, 3) == every_NL).all()


def test_rows_with_unknown_targets_stay() -> None:
    records, report = task().records(
        {"age": [1, 2, 3], "sepsis": ["yes", "no", ""], "stroke": [1, None, 0], "fall": ["", 0, 1]}
    )
    assert states(records.y_N, 3).tolist() == [[1, 1, UNKNOWN], [0, UNKNOWN, 0]]
    assert (report.rows, report.kept) == (3, 2)


def test_unknown_labels_have_no_loss_and_weights_are_public_factors() -> None:
    one = task(positive_weights={"stroke": 4.0})
    assert one.outcome.factor_L2.tolist() == [[1, 1], [0.25, 1], [1, 1]]
    code = torch.from_numpy(one.outcome.encode(np.array([[1, 0, np.nan], [1, 1, np.nan]])))
    loss_B = labels_loss(torch.zeros((2, 3), dtype=torch.float64), code, one.outcome.factor_L2)
    expected = [np.log(2) * 1.25 / 3, np.log(2) * 2 / 3]
    assert loss_B.tolist() == pytest.approx(expected)


def test_areas_are_scikit_learns_of_the_known_ones() -> None:
    one, rng = task(), np.random.default_rng(0)
    records = one.generate(3000, rng)
    state_NL = states(records.y_N, 3)
    probs_NL = np.clip(0.5 + 0.15 * rng.normal(size=(3000, 3)) + 0.1 * (state_NL == 1), 0, 1)
    metrics = one.evaluation.metrics(
        one.evaluation.counts(probs_NL, records.y_N, records.patient_N)
    )
    areas = []
    for label, name in enumerate(one.outcome.names):
        known_N = state_NL[:, label] != UNKNOWN
        areas.append(roc_auc_score(state_NL[known_N, label], probs_NL[known_N, label]))
        assert metrics[f"auroc:{name}"].value == pytest.approx(areas[-1], abs=0.01)
    assert one.score(probs_NL, records.y_N) == pytest.approx(np.mean(areas))
    assert metrics["auroc"].value == pytest.approx(np.mean(areas), abs=0.01)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": [3]},
        {"model": "mlp", "hidden": []},
        {"positive_weights": {"flu": 1.0}},
        {"positive_weights": {"fall": 0.0}},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        task(**options)


def test_schema_and_probabilities_must_fit() -> None:
    with pytest.raises(InputError, match="targets"):
        Labels.from_options({}, replace(SCHEMA, targets=()))
    with pytest.raises(InputError, match="first of several"):
        Labels.from_options({}, replace(SCHEMA, label=Label(name="sepsis", low=0, high=1)))
    with pytest.raises(InputError, match="probabilities"):
        task().evaluation.counts(np.ones((2, 2)), np.zeros(2, dtype=np.int64), np.arange(2))
    with pytest.raises(InputError, match="counts"):
        task().evaluation.metrics(np.zeros(3))
