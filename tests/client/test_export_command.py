"""`fedward client models export`, as an administrator types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from learning.artefact import WEIGHTS, save
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Named
from protocol.signing import SigningKey
from tests.client.test_models_command import folder, run
from tests.consortium import DATASET, ROWS, make_consortium, schema
from tests.learning.test_readouts import model_of

__all__ = ["folder"]


def test_a_copy_is_whole_and_has_a_page(folder: Path) -> None:
    run("export sepsis/2 --to out")
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "CARD.md", "SHA256SUMS", "card.json", "signature.json", "weights.safetensors",
    ]  # fmt: skip
    with pytest.raises(InputError, match="exists already"):
        run("export sepsis/2 --to out")
    with pytest.raises(InputError, match="cannot be written"):
        run("export sepsis/2 --to nowhere/out")


def test_an_export_tells_how_far_it_is_off(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("export sepsis/2 --to out --format onnx")
    told = capsys.readouterr().out
    assert "exported sepsis/2 to out" in told
    assert "largest difference" in told
    assert "allowed 1e-05" in told
    assert (folder / "out" / "model.onnx").exists()
    assert sorted(path.name for path in folder.iterdir()) == [
        "hospital.yaml", "keys", "models", "out",
    ]  # fmt: skip


def test_what_8_bits_change_is_told_and_printed_as_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("export sepsis/2 --to out --format int8")
    assert "no patient is among them: differences up to" in capsys.readouterr().out
    run("export sepsis/2 --to other --format int8 --json")
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((folder / "other" / "export.json").read_text())
    run("export sepsis/2 --to copy --json")
    assert json.loads(capsys.readouterr().out) == {"model": "sepsis/2", "format": "copy"}


def test_what_is_wrong_leaves_nothing_behind(folder: Path) -> None:
    with pytest.raises(InputError, match="found 'pickle'"):
        run("export sepsis/2 --to out --format pickle")
    with pytest.raises(InputError, match="belongs to --format int8"):
        run("export sepsis/2 --to out --format onnx --held-out icu")
    path = folder / "models" / "sepsis" / "2" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError, match="was changed"):
        run("export sepsis/2 --to out --format onnx")
    assert not (folder / "out").exists()


def test_held_out_patients_are_counted_inside_the_hospital(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_consortium(tmp_path, hospitals=2)
    home = tmp_path / made.names[0]
    model = model_of(Named(name="diagnosis", options={}), schema())
    key = SigningKey.load(home / "keys" / "signing.key")
    save(home / "models", model.card, model.weights_P, key)
    monkeypatch.chdir(home)
    run(f"export sepsis --to out --format int8 --held-out {DATASET}")
    told = capsys.readouterr().out
    assert "must not leave the hospital" in told
    change = json.loads((home / "out" / "export.json").read_text())["int8"]
    assert f"AUROC {change['measure_single']:.4f} -> {change['measure_int8']:.4f}" in told
    assert 0 < change["rows"] < ROWS
    with pytest.raises(InputError, match=f"expected {DATASET}"):
        run("export sepsis --to other --format int8 --held-out icu")
