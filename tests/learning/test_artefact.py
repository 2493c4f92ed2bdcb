"""Tests of the store: models come whole or not at all, and one changed bit is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from learning import artefact
from learning.artefact import CARD, SUMS, WEIGHTS, load, models, save, verify, versions
from learning.card import ModelCard
from learning.task import FloatVector, load_task
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Named
from tests.models import card_of, invented_weights

SCHEMA: dict[str, Any] = {
    "columns": [{"name": "age", "kind": "number", "low": 0, "high": 120}],
    "label": {"name": "ill", "classes": ["no", "yes"]},
}
TASK = Named(name="diagnosis", options={"model": "mlp", "hidden": [3, 2]})
BUILT = load_task(TASK, SCHEMA)
WEIGHTS_P = invented_weights(TASK, SCHEMA)


def finished(weights_P: FloatVector, version: int = 1) -> ModelCard:
    return card_of(TASK, SCHEMA, weights_P, version=version)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return save(tmp_path, finished(WEIGHTS_P), WEIGHTS_P)


def test_a_model_reads_back_to_the_last_bit_and_predicts(place: Path) -> None:
    model = load(place)
    assert (model.weights_P == WEIGHTS_P).all()
    assert model.card == finished(WEIGHTS_P)
    x_NF = np.array([[0.5], [-1.0]])
    assert (model.predict(x_NF) == BUILT.predict(WEIGHTS_P, x_NF)).all()


def test_the_checksums_are_sha256sums(place: Path) -> None:
    tool = shutil.which("sha256sum")
    assert tool is not None
    subprocess.run([tool, "--check", "--strict", SUMS], cwd=place, check=True, capture_output=True)


@pytest.mark.parametrize("name", [CARD, WEIGHTS, SUMS])
def test_every_flipped_bit_is_refused(place: Path, name: str) -> None:
    path = place / name
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        path.write_bytes(
            data[:position] + bytes([data[position] ^ (1 << position % 8)]) + data[position + 1 :]
        )
        with pytest.raises(IntegrityError, match=rf"model sepsis/1: .*{name}.*was changed"):
            load(place)
    path.write_bytes(data)
    assert verify(place).label == "sepsis/1"


@pytest.mark.parametrize("name", [CARD, WEIGHTS, SUMS])
def test_bytes_more_or_less_are_refused(place: Path, name: str) -> None:
    data = (place / name).read_bytes()
    for other in (data + b"\n", data[:-1], b""):
        (place / name).write_bytes(other)
        with pytest.raises(IntegrityError, match="sepsis/1"):
            verify(place)


def test_a_missing_file_or_model_is_an_input_error(place: Path, tmp_path: Path) -> None:
    (place / CARD).unlink()
    with pytest.raises(InputError, match=r"lacks card\.json"):
        load(place)
    with pytest.raises(InputError, match="is not in the store"):
        verify(tmp_path / "sepsis" / "9")
    (place / CARD).mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        load(place)


def test_a_model_under_another_name_is_refused(place: Path) -> None:
    moved = place.rename(place.with_name("2"))
    with pytest.raises(IntegrityError, match="sepsis/2 is another one; found sepsis/1"):
        verify(moved)


def forge(place: Path, **files: bytes) -> None:
    """Change files and their checksums, as someone who may write to the store could."""
    kept = {name: (place / name).read_bytes() for name in (CARD, WEIGHTS)} | files
    for name, data in {**kept, SUMS: artefact._sums(kept)}.items():
        (place / name).write_bytes(data)


def test_weights_that_are_not_the_cards_are_refused(place: Path) -> None:
    other = save(place.parent.parent, finished(WEIGHTS_P + 1, version=2), WEIGHTS_P + 1)
    forge(place, **{WEIGHTS: (other / WEIGHTS).read_bytes()})
    with pytest.raises(IntegrityError, match="other weights than the card states"):
        load(place)
    forge(place, **{WEIGHTS: b"no tensors"})
    with pytest.raises(IntegrityError, match="does not fit the task"):
        load(place)


def test_a_model_of_another_preprocessing_is_refused(place: Path) -> None:
    forge(place, **{CARD: replace(finished(WEIGHTS_P), preprocessing=99).to_bytes()})
    assert verify(place).preprocessing == 99
    with pytest.raises(InputError, match="found version 99"):
        load(place)


def test_a_card_of_other_weights_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="states other weights"):
        save(tmp_path, finished(WEIGHTS_P), WEIGHTS_P + 1)
    assert list(tmp_path.iterdir()) == []


def test_saving_again_changes_nothing_and_another_model_never_replaces(place: Path) -> None:
    before = (place / CARD).stat()
    assert save(place.parent.parent, finished(WEIGHTS_P), WEIGHTS_P) == place
    assert (place / CARD).stat() == before
    with pytest.raises(InputError, match="exists and is another one"):
        save(place.parent.parent, finished(WEIGHTS_P + 1), WEIGHTS_P + 1)
    assert (load(place).weights_P == WEIGHTS_P).all()


def test_of_two_who_save_at_once_one_wins_and_both_see_it(tmp_path: Path) -> None:
    vectors = [WEIGHTS_P + index for index in range(8)]

    def attempt(weights_P: FloatVector) -> str:
        try:
            save(tmp_path, finished(weights_P), weights_P)
        except InputError as error:
            return error.problem
        return ""

    with ThreadPoolExecutor(8) as pool:
        problems = list(pool.map(attempt, vectors))
    won = [not problem for problem in problems]
    assert sum(won) == 1
    assert set(problems) == {"", "model sepsis/1 exists and is another one"}
    assert (load(tmp_path / "sepsis" / "1").weights_P == vectors[won.index(True)]).all()
    assert [path.name for path in (tmp_path / "sepsis").iterdir()] == ["1"]


KILLED = """
import os, sys
from pathlib import Path
from tests.learning.test_artefact import WEIGHTS_P, finished
from learning import artefact
calls = 0
def dying(handle, fsync=os.fsync):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os._exit(9)
    fsync(handle)
os.fsync = dying
artefact.save(Path(sys.argv[1]), finished(WEIGHTS_P), WEIGHTS_P)
"""


@pytest.mark.parametrize("call", [1, 3, 4, 5])
def test_a_process_that_dies_leaves_a_whole_model_or_none(tmp_path: Path, call: int) -> None:
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(call)], cwd=root, check=False
    )
    assert run.returncode == 9
    assert models(tmp_path) == ((("sepsis", 1),) if call == 5 else ())
    assert (load(save(tmp_path, finished(WEIGHTS_P), WEIGHTS_P)).weights_P == WEIGHTS_P).all()


def test_a_full_disk_is_an_input_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written; found No space left"):
        save(tmp_path, finished(WEIGHTS_P), WEIGHTS_P)
    assert list((tmp_path / "sepsis").iterdir()) == []


def test_only_the_owner_reads_a_model(place: Path) -> None:
    assert place.stat().st_mode & 0o077 == 0


def test_the_store_lists_its_models(place: Path) -> None:
    store = place.parent.parent
    for version in (10, 2):
        save(store, finished(WEIGHTS_P, version), WEIGHTS_P)
    (store / "sepsis" / ".incoming-dead").mkdir()
    (store / "sepsis" / "007").mkdir()
    (store / "notes.txt").write_text("mine")
    assert versions(store, "sepsis") == (1, 2, 10)
    assert models(store) == (("sepsis", 1), ("sepsis", 2), ("sepsis", 10))
    assert versions(store, "flu") == ()
    assert models(store / "nowhere") == ()


def test_what_a_killed_process_left_is_removed_and_nothing_else(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.parent.parent
    stale = place.parent / f"{artefact.INCOMING}dead"
    stale.mkdir()
    (stale / CARD).write_bytes(b"half a card")
    (place.parent / f"{artefact.INCOMING}file").touch()
    artefact.clear_stale(store / "nowhere")
    sync = artefact._sync

    def sweep_meanwhile(folder: Path) -> None:
        # Another process of this hospital starts while this one saves.
        artefact.clear_stale(store)
        sync(folder)

    monkeypatch.setattr(artefact, "_sync", sweep_meanwhile)
    weights_P = load(place).weights_P
    second = save(store, finished(weights_P, 2), weights_P)
    assert not stale.exists()
    assert verify(second).version == 2
    assert verify(place).version == 1
