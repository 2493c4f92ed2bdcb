"""What follows from results."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from simulations.attack_jobs import Defence
from simulations.attack_results import SEEDED_NOTE
from tests.simulations.attacked import BOTH, ENCRYPTION, NOISE, NONE
from tests.simulations.invented_attacks import RECORDS, invented, line


def test_nothing_that_gets_through_both_defences_is_a_pass() -> None:
    assert invented().passed
    assert invented().verdict == (
        "PASS: noise and encryption together: no attack recovers a record; guesses of membership "
        "stay within what epsilon allows; nodes refuse planted weights"
    )


def test_a_pass_says_no_more_than_was_tried() -> None:
    few = replace(invented(), told=(), refused={})
    assert few.verdict == "PASS: noise and encryption together: no attack recovers a record"
    other = replace(invented(), lines=(), refused={})
    assert other.verdict == "PASS: guesses of membership stay within what epsilon allows"


@pytest.mark.parametrize("defence", [NONE, NOISE, ENCRYPTION], ids=lambda one: one.label)
def test_records_that_come_back_behind_less_are_no_fault(defence: Defence) -> None:
    assert invented(line({NONE: RECORDS, defence: RECORDS})).passed


def test_one_record_behind_both_is_a_fault() -> None:
    found = invented(line({NONE: RECORDS, BOTH: 1}))
    assert not found.passed
    assert found.verdict == (
        "FAULT: inversion (1, coordinator) recovers 12.5% of the records behind both, epsilon 3"
    )


def test_guesses_beyond_the_bound_are_a_fault_where_there_is_a_bound() -> None:
    assert invented(told={NONE: 4.0, ENCRYPTION: 4.0, NOISE: 0.2}).passed
    found = invented(told={NOISE: 4.0})
    assert not found.passed
    assert "guesses of membership (coordinator) reach 0.99" in found.verdict
    assert "behind noise, epsilon 3, which allows 0.694" in found.verdict


def test_a_node_that_takes_weights_is_a_fault() -> None:
    found = invented(refused={"both, epsilon 3": {"weights named in the job": ""}})
    assert found.verdict == "FAULT: a node takes weights named in the job behind both, epsilon 3"


def test_a_weak_attack_and_seeded_noise_are_noted() -> None:
    found = invented(line({NONE: 3}), line({NONE: 3}, colluders=1), seeded_noise=True)
    assert found.notes == (
        SEEDED_NOTE,
        "weak without any defence, so that its zeros say little: inversion of 1",
    )
    assert invented(line({NONE: 4})).notes == ()


def test_json_has_every_number() -> None:
    found = json.loads(json.dumps(invented().to_json(), allow_nan=False))
    assert found["passed"] is True
    (record,) = found["records"]
    kinds = [(one["defence"], one["epsilon"], one["encrypted"]) for one in record["outcomes"]]
    assert kinds == [
        ("none", None, False),
        ("noise", 3.0, False),
        ("encryption", None, True),
        ("both", 3.0, True),
    ]
    assert record["outcomes"][0]["recovered"] == 1.0
    assert record["outcomes"][3]["recovered_high"] == pytest.approx(1 - 0.05 ** (1 / RECORDS))
    assert record["records"] == RECORDS
    (told,) = found["membership"]
    assert "auroc_bound" not in told["outcomes"][0]
    assert told["outcomes"][1]["auroc_bound"] == pytest.approx(0.694, abs=1e-3)
    assert told["outcomes"][1]["detected_bound"] == pytest.approx(0.054, abs=1e-3)
    assert found["planted_weights"]["both, epsilon 3"]["weights named in the job"] == "no"
