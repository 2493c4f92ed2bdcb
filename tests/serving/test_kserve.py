"""Clients that nobody here wrote get torch's numbers, from the server and from the ONNX file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from learning.artefact import load
from learning.export import export
from learning.readouts import whole
from tests.serving import kserve_client
from tests.serving.test_server import inputs
from tests.serving.ward import ROWS, SCHEMA, Running, configure, expected, fill, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    fill(folder / "models")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(configure(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def torchs(folder: Path) -> Any:
    """What torch computes in double precision, rounded to single."""
    model = load(folder / "models" / "sepsis" / "1")
    table = {
        name: rows if name == "pulse" else rows.reshape(-1).tolist() for name, rows in ROWS.items()
    }
    x = torch.from_numpy(model.task.features(table)[0])
    return whole(model)(x).to(torch.float32).numpy()


@pytest.fixture(scope="module")
def onnxs(folder: Path) -> Any:
    """What onnxruntime computes from the exported model."""
    place = folder / "exported"
    place.mkdir()
    export(load(folder / "models" / "sepsis" / "1"), "onnx", place)
    categories = [str(one) for one in SCHEMA["columns"][1]["categories"]]
    codes = [categories.index(one) if one in categories else -1 for one in ROWS["ward"][:, 0]]
    values = {
        "age": ROWS["age"],
        "ward": np.array(codes)[:, None],
        "smoker": ROWS["smoker"].astype(np.int64),
        "pulse": ROWS["pulse"],
    }
    run = onnxruntime.InferenceSession(place / "model.onnx", providers=["CPUExecutionProvider"])
    return run.run(["probabilities"], values)[0]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of its own: kserve's stubs and ours cannot live in one process."""
    place = tmp_path_factory.mktemp("kserve") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    made = place / "bin" / "python"
    done = subprocess.run(
        [made, "-m", "pip", "install", "--quiet", "kserve>=0.21,<0.22"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode:
        pytest.skip(f"KSERVE'S CLIENTS WERE NOT TRIED, pip cannot get them: {done.stderr[-300:]}")
    return made


def check(found: Any, folder: Path, torchs: Any, onnxs: Any) -> None:
    assert found.dtype == np.float64
    assert (found == expected(folder / "models")).all()
    assert (found.astype(np.float32) == torchs).all()
    assert np.abs(found - onnxs).max() <= 1e-6


@pytest.mark.parametrize("module", [triton_grpc, triton_http], ids=["grpc", "http"])
def test_clients_of_triton(
    module: Any, server: Running, folder: Path, torchs: Any, onnxs: Any
) -> None:
    address = server.grpc if module is triton_grpc else server.rest
    with module.InferenceServerClient(address) as client:
        result = client.infer("sepsis", inputs(module))
    check(result.as_numpy("probabilities"), folder, torchs, onnxs)


def test_clients_of_kserve(
    python: Path, server: Running, folder: Path, torchs: Any, onnxs: Any, tmp_path: Path
) -> None:
    rows = {name: one.astype(str) if one.dtype == object else one for name, one in ROWS.items()}
    np.savez(tmp_path / "rows.npz", **rows)
    words = [str(tmp_path / "rows.npz"), server.rest, server.grpc, str(tmp_path / "answers.npz")]
    done = subprocess.run(
        [python, "-P", kserve_client.__file__, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = np.load(tmp_path / "answers.npz")
    assert sorted(answers.files) == ["binary", "grpc", "json"]
    for way in answers.files:
        check(answers[way], folder, torchs, onnxs)
