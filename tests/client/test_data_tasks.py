"""One image, whichever source it comes from, is one record of the task `imaging`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.data.config import SourceConfig
from client.data.gathering import gather_sides
from client.data.opening import open_source
from learning.task import Records, Task, load_task
from protocol.config import parse
from protocol.jobs import Named
from tests import dicom
from tests.contracts.test_sources import Holder

CLASSES = ("clear", "ill")
LABELS = [CLASSES[row % 2] for row in range(6)]
PIXELS_NHW = np.random.default_rng(0).integers(256, size=(6, 6, 5), dtype=np.uint8)


def task() -> Task:
    image = {"name": "image", "kind": "array", "shape": [1, 6, 5], "low": 0, "high": 255}
    schema = {"columns": [image], "label": {"name": "label", "classes": [*CLASSES]}}
    return load_task(Named(name="imaging", options={"widths": [2]}), schema)


def write_index(folder: Path, files: list[str]) -> None:
    lines = [f"{file},{label}" for file, label in zip(files, LABELS, strict=True)]
    (folder / "index.csv").write_text("\n".join(["file,label", *lines]) + "\n", encoding="utf-8")


def as_npz(folder: Path) -> dict[str, Any]:
    parts = {
        "train_images": PIXELS_NHW[:4],
        "test_images": PIXELS_NHW[4:],
        "train_labels": np.array(LABELS[:4])[:, None],
        "test_labels": np.array(LABELS[4:])[:, None],
    }
    np.savez(folder / "data.npz", allow_pickle=False, **parts)
    return {"kind": "npz", "path": "data.npz"}


def as_images(folder: Path) -> dict[str, Any]:
    files = [f"{row}.png" for row in range(len(LABELS))]
    for file, pixel_HW in zip(files, PIXELS_NHW, strict=True):
        Image.fromarray(pixel_HW).save(folder / file)
    write_index(folder, files)
    return {"kind": "images", "path": ".", "index": "index.csv", "size": [6, 5]}


def as_dicom(folder: Path) -> dict[str, Any]:
    files = [f"{row}.dcm" for row in range(len(LABELS))]
    for file, pixel_HW in zip(files, PIXELS_NHW, strict=True):
        dicom.save(dicom.image(pixel_HW), folder / file)
    write_index(folder, files)
    return {"kind": "dicom", "path": ".", "index": "index.csv", "size": [6, 5]}


def records(written: dict[str, Any], folder: Path) -> Records:
    config: SourceConfig = parse(Holder, {"source": written}, "").source
    sides = gather_sides(
        open_source(config, folder),
        task(),
        identity=("label",),
        held_out=lambda who: np.zeros(len(who), dtype=np.bool_),
        units={},
    )
    return sides[0][0]


@pytest.mark.parametrize("write", [as_npz, as_images, as_dicom])
def test_every_source_gives_the_task_the_same_record(
    write: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    found = records(write(tmp_path), tmp_path)
    expected, report = task().records({"image": PIXELS_NHW[:, None], "label": LABELS})
    assert report.findings == ()
    assert (found.x_NF == expected.x_NF).all()
    assert found.y_N.tolist() == expected.y_N.tolist()
