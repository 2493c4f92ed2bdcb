"""Imaging: layouts, predictions against torch, gradients per record, memory, backbones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from learning.imaging import Imaging
from learning.networks import set_weights
from learning.pretrained import ENVIRONMENT
from learning.schema import Column, Label, Schema
from learning.task import Records, Table
from learning.trainer import CHUNK, chunk_of
from privacy.engine import Engine
from privacy.guards import run_guards
from privacy.probes import single_gradients
from protocol.errors import InputError, IntegrityError

AGE = Column(name="age", kind="number", low=0, high=100)
ILL = Label(name="ill", classes=("no", "yes"))


def schema(channels: int = 1, height: int = 9, width: int = 7, **changes: Any) -> Schema:
    image = Column(
        name="image", kind="array", shape=(channels, height, width), low=0, high=255, **changes
    )
    return Schema(columns=(AGE, image), label=ILL)


def make(of: Schema | None = None, **options: Any) -> Imaging:
    return Imaging.from_options({"widths": [4, 6], **options}, of or schema())


def weights_of(task: Imaging, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(size=task.layout().size)


def made(task: Imaging, n: int, seed: int = 0) -> Records:
    return task.generate(n, np.random.default_rng(seed))


@pytest.mark.parametrize(("height", "width"), [(9, 7), (8, 8), (3, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_numpy_predicts_what_torch_does(channels: int, height: int, width: int) -> None:
    task = make(schema(channels, height, width), centres=[99] * channels)
    weights_P, x_NF = weights_of(task), made(task, 11).x_NF
    model = task.model()
    set_weights(model, task.layout(), weights_P)
    with torch.no_grad():
        expected_NO = model(torch.from_numpy(x_NF)).numpy()
    found_NO = task.network.logits(task.layout().split(weights_P), x_NF)
    np.testing.assert_allclose(found_NO, expected_NO, rtol=1e-11, atol=1e-11)


def test_channels_are_scaled_by_public_constants() -> None:
    task = make(schema(2), centres=[10, 200], spreads=[5, 50])
    both_CHW = np.stack([np.full((9, 7), 15.0), np.full((9, 7), 150.0)])
    table: Table = {"image": both_CHW[None], "age": [50]}
    image = task.network.images(task.features(table)[0], np.array)
    assert image.shape == (1, 2, 9, 7)
    assert np.unique(image[0, 0]).tolist() == pytest.approx([1.0])
    assert np.unique(image[0, 1]).tolist() == pytest.approx([-1.0])


def test_clipped_sums_are_those_of_each_record_alone() -> None:
    task = make()
    records = made(task, 7)
    engine = Engine(task.model(), task.loss, clip=1.0, max_batch=3)
    engine.load(weights_of(task))
    rows_NP = single_gradients(engine.model, task.loss, records.x_NF, records.y_N)
    norm_N1 = np.linalg.norm(rows_NP, axis=1, keepdims=True)
    expected_P = (rows_NP / np.maximum(norm_N1, 1.0)).sum(axis=0)
    found_P = engine.clipped_sum(records.x_NF, records.y_N)
    np.testing.assert_allclose(found_P, expected_P, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_guards_pass(unit: Any) -> None:
    task = make()
    run_guards(task.model, task.loss, task.generate, clip=1.0, unit=unit)


def test_large_images_go_through_in_small_parts() -> None:
    task = make(schema(3, 224, 224), widths=[16, 32])
    engine = Engine(task.model(), task.loss, clip=1.0, max_batch=4096)
    assert engine._batch(np.zeros((1, task.schema.num_features))) == 16
    assert chunk_of(task.model(), task.schema.num_features) < 64
    assert chunk_of(make(widths=[2]).model(), 64) == CHUNK


def test_several_labels_are_learnt_where_the_schema_has_targets() -> None:
    flags = (Column(name="effusion", kind="flag"),)
    several = Schema(columns=schema().columns, label=ILL, targets=flags)
    task = make(several, positive_weights={"effusion": 3.0})
    assert task.predict(task.initial(0), made(task, 3).x_NF).tolist() == [[0.5, 0.5]] * 3


@pytest.mark.parametrize(
    ("of", "options", "told"),
    [
        (Schema(columns=(AGE,), label=ILL), {}, "one array with axes channel x height x width"),
        (schema(), {"centres": [1, 2]}, "centres; expected 1 numbers"),
        (schema(), {"spreads": [0]}, "spreads; expected positive"),
        (schema(), {"widths": []}, "widths"),
        (schema(), {"widths": [1]}, "widths"),
        (schema(), {"positive_weights": {"ill": 1}}, "use class_weights"),
        (schema(), {"backbone": "a" * 63}, "SHA-256"),
        (Schema(columns=schema().columns, label=Label(name="y", low=0, high=1)), {}, "classes"),
    ],
)
def test_what_makes_no_sense_is_refused(of: Schema, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        make(of, **options)


def save_backbone(folder: Path, tensors: dict[str, Any]) -> str:
    data = save({name: np.ascontiguousarray(one) for name, one in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    (folder / f"{digest}.safetensors").write_bytes(data)
    return digest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    return tmp_path


def test_a_backbone_is_neither_learnt_nor_exchanged(folder: Path) -> None:
    whole = make()
    trained_P = weights_of(whole)
    arrays = whole.layout().split(trained_P)
    task = make(backbone=save_backbone(folder, arrays))
    assert [name for name, _ in task.layout().entries] == ["output.weight", "output.bias"]
    model = task.model()
    assert [name for name, _ in model.named_parameters()] == ["output.weight", "output.bias"]
    head_P = task.layout().join({name: arrays[name] for name in ("output.weight", "output.bias")})
    x_NF = made(task, 5).x_NF
    assert (task.predict(head_P, x_NF) == whole.predict(trained_P, x_NF)).all()
    set_weights(model, task.layout(), head_P)
    with torch.no_grad():
        logits_NO = model(torch.from_numpy(x_NF)).numpy()
    expected_NO = whole.network.logits(arrays, x_NF)
    np.testing.assert_allclose(logits_NO, expected_NO, rtol=1e-11, atol=1e-11)
    run_guards(task.model, task.loss, task.generate, clip=1.0)
    x = torch.from_numpy(x_NF).requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None
    assert x.grad[:, 1:].any()  # an explanation asks for the slope in the pixels


def test_a_backbone_that_is_missing_or_another_one_is_refused(folder: Path) -> None:
    task = make(backbone="0" * 64)
    assert task.initial(0).shape == (task.layout().size,)  # the coordinator needs no file
    with pytest.raises(InputError, match="no backbone 000000000000 here"):
        task.model()
    (folder / f"{'0' * 64}.safetensors").write_bytes(b"something else")
    with pytest.raises(IntegrityError, match="another file"):
        task.model()
    arrays = make().layout().split(weights_of(make()))
    with pytest.raises(InputError, match=r"tensor 'stem.weight'; expected real numbers, 8x1x3x3"):
        make(backbone=save_backbone(folder, arrays), widths=[8, 6]).model()
    arrays["stem.weight"][0] = np.nan
    with pytest.raises(InputError, match="finite"):
        make(backbone=save_backbone(folder, arrays)).model()
    garbage = b"no tensors"
    digest = hashlib.sha256(garbage).hexdigest()
    (folder / f"{digest}.safetensors").write_bytes(garbage)
    with pytest.raises(InputError, match="no readable safetensors"):
        make(backbone=digest).model()
