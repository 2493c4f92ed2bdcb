"""Tests of the coordinator's store: what hospitals hand over, as a hospital would keep it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from learning.artefact import load, versions
from privacy.plan import PrivacyRequest
from protocol.jobs import Publication
from protocol.signing import SigningKey
from server.finished import store_model
from server.launch import Outcome
from tests.server.test_course import Bench
from tests.simulations.runs import models

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = SigningKey.generate()


def handed(folder: Path) -> tuple[Bench, Outcome]:
    bench = Bench(
        folder / "c",
        publication=Publication(metrics=True, model=True),
        privacy=PrivacyRequest(mode="distributed", epsilon=3.0),
    )
    return bench, bench.run(lambda packet, _: packet)


def test_a_model_that_all_hand_over_is_kept_once_and_signed(tmp_path: Path) -> None:
    bench, outcome = handed(tmp_path)
    store = tmp_path / "models"
    place = store_model(store, bench.job, outcome, KEY, NOW)
    assert place is not None
    model, theirs = load(place, {KEY.fingerprint}), models(bench.consortium, bench.job)["north"]
    assert model.weights_P.tobytes() == theirs.weights_P.tobytes()
    mine, other = (json.loads(one.card.to_bytes()) for one in (model, theirs))
    ours = ("created", "privacy")
    assert {**mine, **dict.fromkeys(ours)} == {**other, **dict.fromkeys(ours)}
    settled = {"epsilon_settled": None, "epsilon_settled_worst": None}
    assert mine["privacy"] == {**other["privacy"], **settled}
    assert store_model(store, bench.job, outcome, KEY, NOW) == place
    assert versions(store, bench.job.name) == (1,)


def test_what_stayed_in_the_hospitals_or_failed_is_not_kept(tmp_path: Path) -> None:
    bench, outcome = handed(tmp_path)
    for other in (replace(outcome, model=None), replace(outcome, status="failed")):
        assert store_model(tmp_path / "models", bench.job, other, KEY, NOW) is None
    assert not (tmp_path / "models").exists()
