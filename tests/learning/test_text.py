"""Networks that read notes: in torch as in numpy, and records that do not meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from learning import encoder
from learning.networks import set_weights
from learning.places import Places
from learning.schema import Column, Label, Schema
from learning.text import Text
from learning.trainer import train
from privacy.engine import Engine
from privacy.guards import run_guards
from privacy.probes import single_gradients
from protocol.errors import InputError

SCHEMA = Schema(
    columns=(
        Column(name="age", kind="number", low=0, high=120),
        Column(name="note", kind="text", length=7, may_be_missing=True),
        Column(name="plan", kind="text", length=1),
        Column(name="smoker", kind="flag"),
    ),
    label=Label(name="ill", classes=("no", "yes")),
)
MODELS: dict[str, dict[str, Any]] = {
    "linear": {"buckets": 50},
    "bag": {"model": "bag", "buckets": 50, "width": 5, "ngrams": 3},
    "transformer": {"model": "transformer", "buckets": 30, "width": 8, "layers": 2, "heads": 4},
}
every_model = pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)


def task(options: dict[str, Any], schema: Schema = SCHEMA) -> Text:
    return Text.from_options(options, schema)


def test_places_of_words_and_of_what_stands_beside_them() -> None:
    places = Places.of(SCHEMA)
    assert places.texts == ((1, 8), (9, 10))
    assert places.rest == (0, 8, 10)
    runs = places.runs(np.ones((2, 11), dtype=np.int64), 3)
    assert [number.shape for number, _ in runs] == [(2, 7), (2, 6), (2, 5), (2, 1)]


@every_model
def test_numpy_predicts_what_torch_learns(options: dict[str, Any]) -> None:
    one, rng = task(options), np.random.default_rng(0)
    x_NF, weights_P = one.generate(40, rng).x_NF, rng.normal(size=one.layout().size)
    x_NF[0, 1:10] = 0
    module = one.model()
    set_weights(module, one.layout(), weights_P)
    with torch.no_grad():
        expected_NO = module(torch.from_numpy(x_NF)).numpy()
    found_NO = one.network.logits(one.layout().split(weights_P), x_NF)
    np.testing.assert_allclose(found_NO, expected_NO, rtol=1e-12, atol=1e-12)


@every_model
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_clipped_sums_are_those_of_single_gradients(options: dict[str, Any], unit: Any) -> None:
    one, rng = task(options), np.random.default_rng(1)
    records, weights_P = one.generate(12, rng), rng.normal(size=one.layout().size)
    patient_N = np.arange(12) // 2
    module = one.model()
    set_weights(module, one.layout(), weights_P)
    rows_NP = single_gradients(module, one.loss, records.x_NF, records.y_N)
    if unit == "patient":
        rows_NP = rows_NP.reshape(6, 2, -1).sum(axis=1)
    norm_U = np.linalg.norm(rows_NP, axis=1)
    clip = float(np.median(norm_U))
    engine = Engine(one.model(), one.loss, clip=clip / (1 - 1e-6), unit=unit)
    engine.load(weights_P)
    found_P = engine.clipped_sum(records.x_NF, records.y_N, patient_N)
    np.testing.assert_allclose(
        found_P, np.minimum(1, clip / norm_U) @ rows_NP, rtol=1e-9, atol=1e-12
    )


@every_model
def test_the_guards_let_it_pass(options: dict[str, Any]) -> None:
    one = task(options)
    run_guards(one.model, one.loss, one.generate, clip=1.0)


NEGATED = Schema(
    columns=(Column(name="note", kind="text", length=4),),
    label=Label(name="ill", classes=("no", "yes")),
)


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        ({"ngrams": 1, "buckets": 64}, 0.0, 0.8),
        ({"ngrams": 2, "buckets": 64}, 1.0, 1.0),
        ({"model": "transformer", "buckets": 64, "width": 8}, 0.95, 1.0),
    ],
)
def test_pairs_of_words_and_attention_know_what_is_denied(
    options: dict[str, Any], least: float, most: float
) -> None:
    """Fever or cough, one of them denied: single words are the same in all notes."""
    one = task(options, NEGATED)
    notes = ["no fever. cough", "fever. no cough", "cough, no fever", "no cough, fever"] * 5
    records, _ = one.records({"note": notes, "ill": ["no", "yes", "no", "yes"] * 5})
    weights_P = train(one, records, one.initial(0), steps=150, learning_rate=0.3)
    score = one.score(one.predict(weights_P, records.x_NF), records.y_N)
    assert least <= score <= most


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"width": 4}, "width of model 'linear'"),
        ({"model": "transformer", "ngrams": 2}, "ngrams of model 'transformer'"),
        ({"model": "bag", "layers": 1}, "layers of model 'bag'"),
        ({"model": "transformer", "width": 6, "heads": 4}, "heads"),
        ({"model": "transformer", "width": 5}, "heads; expected a divisor of the width; found 2"),
        ({"model": "adapted"}, "pretrained; expected for model 'adapted'"),
        ({"buckets": 1}, "buckets"),
        ({"positive_weights": {"ill": 2.0}}, "positive_weights of a single label"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        task(options)


def test_a_schema_without_notes_is_another_tasks() -> None:
    with pytest.raises(InputError, match="at least one of kind 'text'"):
        task({}, Schema(columns=SCHEMA.columns[:1], label=SCHEMA.label))


def long(words: int) -> Schema:
    note = Column(name="note", kind="text", length=words)
    return Schema(columns=(note,), label=Label(name="ill", classes=("no", "yes")))


def test_attention_over_more_pairs_of_words_than_memory_holds_is_refused() -> None:
    asked: dict[str, Any] = {"model": "transformer"}
    assert task(asked, long(2048)).network.entries
    with pytest.raises(InputError, match=r"length of all texts .* at most 2048 words with 1 x 2"):
        task(asked, long(2049))
    with pytest.raises(InputError, match="at most 512 words with 4 x 8"):
        task({**asked, "layers": 4, "heads": 8}, long(513))
    assert task({"model": "bag"}, long(2049)).network.entries


def test_rows_that_are_predicted_apart_for_their_length_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = task(MODELS["transformer"])
    weights_P = np.random.default_rng(0).normal(size=one.layout().size)
    x_NF = one.generate(40, np.random.default_rng(1)).x_NF
    together_NC = one.predict(weights_P, x_NF)
    monkeypatch.setattr(encoder, "_CHUNK_SCORES", 1)
    assert np.array_equal(one.predict(weights_P, x_NF), together_NC)
