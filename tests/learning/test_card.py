"""Tests of the model card: its bytes, and what it refuses."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import pytest

from learning.card import Digests, Guarantee, ModelCard
from learning.task import Metric
from protocol.errors import InputError
from protocol.jobs import Named

CARD = ModelCard(
    name="sepsis-2",
    version=3,
    created="2026-11-20T10:00:00Z",
    intended_use="Research only",
    task=Named(name="diagnosis", options=OrderedDict(model="mlp", hidden=(4, 2))),
    schema={"columns": [{"name": "age", "kind": "number", "low": 0.1, "high": 120}]},
    strategy=Named(name="fedsgd", options={}),
    rounds=20,
    cohort_size=5,
    privacy=Guarantee(mode="distributed", unit="patient", delta=1e-5, epsilon=0.1 + 0.2),
    metrics={"auroc": Metric(1 / 3, 0.1, 0.5)},
    digests=Digests(job="a" * 64, roster="b" * 64, layout="c" * 64, weights="d" * 64),
)


def test_a_card_reads_back_exactly() -> None:
    again = ModelCard.from_bytes(CARD.to_bytes())
    assert again.to_bytes() == CARD.to_bytes()
    assert again.privacy == CARD.privacy
    assert again.metrics == CARD.metrics
    assert again.task.options == {"model": "mlp", "hidden": [4, 2]}
    assert again.label == "sepsis-2/3"
    assert ModelCard.from_bytes(replace(CARD, importance={"age": 0.5}).to_bytes()).importance == {
        "age": 0.5
    }


def test_a_card_that_was_written_before_importance_reads() -> None:
    older = json.loads(CARD.to_bytes())
    del older["importance"]
    assert ModelCard.from_bytes(json.dumps(older).encode()) == ModelCard.from_bytes(CARD.to_bytes())


def test_a_card_is_json_for_people() -> None:
    text = CARD.to_bytes().decode()
    assert json.loads(text)["privacy"]["epsilon"] == 0.1 + 0.2
    assert text.count("\n") > 30


@pytest.mark.parametrize("change", [{"name": "../x"}, {"name": ""}, {"name": "A"}, {"version": 0}])
def test_names_that_are_no_folders_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="name and version"):
        replace(CARD, **change)


def test_other_bytes_are_refused() -> None:
    with pytest.raises(InputError, match="expected JSON"):
        ModelCard.from_bytes(b"\xff{")
    newer = json.loads(CARD.to_bytes()) | {"colour": "red"}
    with pytest.raises(InputError, match=r"card\.colour: unknown key"):
        ModelCard.from_bytes(json.dumps(newer).encode())


def test_numbers_that_are_not_finite_are_never_written() -> None:
    broken = replace(CARD, metrics={"auroc": Metric(float("nan"), 0.0, 1.0)})
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.to_bytes()
