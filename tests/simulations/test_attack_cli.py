"""`fedward attack` as a person runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import fedward
from simulations import attacks as attacks_module
from simulations.attack_config import AttackConfig
from simulations.attack_results import Attacks
from tests.simulations.attacked import BOTH, NONE
from tests.simulations.invented_attacks import RECORDS, invented, line

CONFIG = """
name: tiny
epsilons: [1.0]
inversion: {records: [1], updates: 2, hidden: [16]}
matching: null
imprint: null
membership: null
"""


def fedward_attack(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["fedward", "attack", *args])
    with pytest.raises(SystemExit) as end:
        fedward.main()
    return int(end.value.code or 0)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


def test_prints_a_table_and_says_what_it_saved(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fedward_attack(monkeypatch, str(config)) == 0
    told = capsys.readouterr()
    assert "inversion" in told.out
    assert "100 %" in told.out
    assert "PASS" in told.out
    assert "results/tiny/attacks.json" in told.err.replace("\n", "")
    assert (config.parent / "results" / "tiny" / "records.png").exists()


def test_json_is_one_object_and_nothing_else(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = config.parent / "out"
    assert fedward_attack(monkeypatch, str(config), "--json", "--out", str(out)) == 0
    told = capsys.readouterr()
    assert told.err == ""
    printed = json.loads(told.out)
    assert printed == json.loads((out / "attacks.json").read_text())
    assert printed["records"][0]["outcomes"][0]["recovered"] == 1.0


def test_an_attack_that_gets_through_ends_with_1(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: AttackConfig, **__: object) -> Attacks:
        return invented(line({NONE: RECORDS, BOTH: RECORDS}))

    monkeypatch.setattr(attacks_module, "attack", broken)
    assert fedward_attack(monkeypatch, str(config), "--quiet") == 1
    told = capsys.readouterr()
    assert "FAULT" in told.out
    assert told.err == ""


def test_a_wrong_key_ends_with_2(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text("name: a\nhospital: 4\n")
    assert fedward_attack(monkeypatch, str(config)) == 2
    assert "hospitals" in capsys.readouterr().err
