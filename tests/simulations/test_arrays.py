"""Archives of arrays that simulations read and write, and the two commented simulations of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocol.errors import InputError
from simulations.arrays import Cells, load_npz, rows_of, save_npz, texts_of
from simulations.config import DataConfig, Simulation, read_simulation
from simulations.data import load_data
from simulations.sweep import run

CONFIGS = Path(__file__).parents[2] / "configs" / "simulations"


def test_an_archive_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written: Cells = {
        "image": rng.integers(255, size=(4, 3, 5, 2)).astype(np.uint8),
        "series": rng.normal(size=(4, 6, 2)),
        "label": ["yes", "no", "", "yes"],
        "age": np.array([61, 70, 2, 3]),
    }
    save_npz(tmp_path / "data.npz", written)
    found = load_npz(tmp_path / "data.npz")
    assert {*found} == {*written}
    for name in ("image", "series", "age"):
        assert np.array_equal(np.asarray(found[name]), np.asarray(written[name]))
    assert found["label"] == written["label"]
    some = rows_of(found, [3, 0])
    assert texts_of(some["age"]) == ["3", "61"]
    assert np.array_equal(np.asarray(some["image"]), np.asarray(written["image"])[[3, 0]])


def test_medmnists_layout_is_read(tmp_path: Path) -> None:
    parts = {
        "train_images": np.zeros((3, 28, 28), dtype=np.uint8),
        "train_labels": np.array([[0], [1], [0]]),
        "test_images": np.ones((2, 28, 28), dtype=np.uint8),
        "test_labels": np.array([[1], [1]]),
    }
    np.savez(tmp_path / "pneumoniamnist.npz", allow_pickle=False, **parts)
    data = load_data(DataConfig(path=tmp_path / "pneumoniamnist.npz"))
    assert len(data) == 5
    assert np.shape(data.table["image"]) == (5, 1, 28, 28)
    assert texts_of(data.table["label"]) == ["0", "1", "0", "1", "1"]


def test_an_archive_without_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(InputError, match="no records"):
        load_data(DataConfig(path=tmp_path / "empty.npz"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["imaging", "signals"])
def test_the_commented_simulation_learns_under_privacy(name: str) -> None:
    read = read_simulation(CONFIGS / f"{name}.yaml")
    arms = tuple(arm for arm in read.config.arms if arm.arm == "distributed")
    result = run(Simulation(replace(read.config, arms=arms, seeds=1), read.request))
    assert result.rows[0].mean > 0.7
