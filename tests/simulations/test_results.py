"""Rows and results: their statistics, and the JSON that other programs read."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InputError
from simulations.results import HospitalSummary, Result, Row

ROW = Row(
    arm="distributed",
    scores=(0.98, 0.99, 1.0),
    epsilon=1.0,
    epsilon_worst=2.5,
    seconds_per_round=0.25,
    bytes_up_per_round=4096,
)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_mean_and_deviation_are_those_of_a_sample(scores: list[float]) -> None:
    row = Row(arm="pooled", scores=tuple(scores))
    assert row.mean == pytest.approx(np.mean(scores), abs=1e-12)
    assert row.sd == pytest.approx(np.std(scores, ddof=1), abs=1e-12)


def test_one_model_has_no_deviation() -> None:
    assert Row(arm="pooled", scores=(0.75,)).sd == 0.0


def test_an_arm_without_a_model_is_no_row() -> None:
    with pytest.raises(InputError, match="'pooled' gave no model"):
        Row(arm="pooled", scores=())


@pytest.mark.parametrize(("rows", "seeds", "what"), [((), (0,), "rows"), ((ROW,), (), "seeds")])
def test_an_empty_result_is_refused(
    rows: tuple[Row, ...], seeds: tuple[int, ...], what: str
) -> None:
    with pytest.raises(InputError, match=f"a result without {what}"):
        Result(name="x", rows=rows, delta=1e-5, seeds=seeds)


def test_json_has_every_key_and_the_values() -> None:
    result = Result(
        name="demo",
        rows=(ROW, Row(arm="pooled", scores=(0.5,))),
        delta=1e-5,
        seeds=(3, 4),
        model_sha256="ab",
        hospitals=(HospitalSummary(name="north", train_size=1, test_size=1, positives=0.5),),
        notes=("noise was seeded",),
    )
    assert json.loads(json.dumps(result.to_json(), allow_nan=False)) == {
        "name": "demo",
        "measure": "AUROC",
        "delta": 1e-5,
        "seeds": [3, 4],
        "model_sha256": "ab",
        "notes": ["noise was seeded"],
        "subgroups": [],
        "rows": [
            {
                "arm": "distributed",
                "epsilon": 1.0,
                "epsilon_worst": 2.5,
                "mean": pytest.approx(0.99),
                "sd": pytest.approx(0.01),
                "scores": [0.98, 0.99, 1.0],
                "seconds_per_round": 0.25,
                "bytes_up_per_round": 4096,
                "epsilon_table": None,
                "epsilon_both": None,
                "epsilon_both_worst": None,
            },
            {
                "arm": "pooled",
                "epsilon": None,
                "epsilon_worst": None,
                "mean": 0.5,
                "sd": 0.0,
                "scores": [0.5],
                "seconds_per_round": None,
                "bytes_up_per_round": None,
                "epsilon_table": None,
                "epsilon_both": None,
                "epsilon_both_worst": None,
            },
        ],
    }


def test_an_infinite_epsilon_is_null_in_json() -> None:
    row = Row(arm="local", scores=(0.5,), epsilon=1.0, epsilon_worst=math.inf)
    assert row.to_json()["epsilon_worst"] is None
