"""`fedward client models`, as an administrator types it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import fedward
from learning.artefact import SUMS, WEIGHTS, save
from learning.promotion import load_record
from protocol.errors import InputError
from protocol.signing import SigningKey
from tests.learning.test_artefact import WEIGHTS_P, finished


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "keys").mkdir()
    key = SigningKey.generate()
    key.save(tmp_path / "keys" / "signing.key")
    (tmp_path / "hospital.yaml").write_text("name: north\ndatasets: {}\npopulations: {}\n")
    for version in (1, 2, 3):
        save(tmp_path / "models", finished(WEIGHTS_P, version), WEIGHTS_P, key)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


def run(line: str) -> Any:
    words = shlex.split(line)
    arguments = ["client", "models", words[0], "hospital.yaml", *words[1:]]
    return typer.main.get_command(fedward.app)(args=arguments, standalone_mode=False)


def test_list_says_what_is_in_use_and_what_is_damaged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("promote sepsis/2")
    path = folder / "models" / "sepsis" / "3" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    capsys.readouterr()
    run("list --json")
    rows = json.loads(capsys.readouterr().out)
    assert [(row["version"], row["in_use"]) for row in rows] == [(1, False), (2, True), (3, False)]
    assert rows[0]["state"] == "verified"
    assert "weights.safetensors or SHA256SUMS was changed" in rows[2]["state"]
    run("list")
    assert "sepsis/2" in capsys.readouterr().out


def test_verify_leaves_with_one_for_a_flipped_byte(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not run("verify")
    path = folder / "models" / "sepsis" / "1" / WEIGHTS
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    capsys.readouterr()
    assert run("verify") == 1
    told = capsys.readouterr()
    assert "refused sepsis/1" in told.err
    assert "verified sepsis/2" in told.out
    assert not run("verify sepsis/2")


def test_a_damaged_version_is_not_promoted(folder: Path) -> None:
    (folder / "models" / "sepsis" / "3" / SUMS).write_text("")
    with pytest.raises(Exception, match="was changed"):
        run("promote sepsis")
    assert load_record(folder / "models", "sepsis").promoted is None


def test_promote_without_a_version_takes_the_newest_and_rollback_returns(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("promote sepsis/1")
    run("promote sepsis")
    assert capsys.readouterr().out.splitlines()[-1] == "in use: sepsis/3"
    run("rollback sepsis")
    assert capsys.readouterr().out.strip() == "in use: sepsis/1, no longer sepsis/3"


def test_show_takes_what_is_in_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("promote sepsis/1")
    capsys.readouterr()
    run("show sepsis --json")
    assert json.loads(capsys.readouterr().out)["version"] == 1
    run("show sepsis/2")
    assert "Model sepsis/2" in capsys.readouterr().out


def test_remove_keeps_what_is_in_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("promote sepsis/1")
    run("remove sepsis --keep 1 --yes")
    assert capsys.readouterr().out.splitlines()[-1] == "removed sepsis/2"
    run("remove sepsis --keep 1 --yes")
    assert capsys.readouterr().out.strip() == "removed nothing"
    with pytest.raises(InputError, match="is in use"):
        run("remove sepsis/1 --yes")
    run("remove sepsis/3 --yes")
    with pytest.raises(InputError, match="either"):
        run("remove sepsis")


@pytest.mark.parametrize("name", ["asthma", "Sepsis", "../sepsis", "sepsis/0"])
def test_names_that_mean_no_model(folder: Path, name: str) -> None:
    with pytest.raises(InputError):
        run(f"show {name}")
    with pytest.raises(InputError):
        run(f"promote {name}")


def test_an_empty_store_is_no_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "models").rename(folder / "elsewhere")
    run("list")
    assert "no job has finished yet" in capsys.readouterr().out
