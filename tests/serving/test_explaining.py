"""What moved a prediction, asked for by the protocol's own clients."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from learning.artefact import load
from learning.explanation import TOLERANCE, Explainer
from protocol.config import read
from protocol.errors import InputError
from serving.config import ServingConfig
from serving.dataplane import Admitted, Caller
from serving.explaining import MOST_ROWS, Explaining
from serving.payloads import Request, Tensor
from serving.refusal import Kind, Refusal
from serving.server import Listening, make_plane
from tests.serving.test_inside import served
from tests.serving.test_server import check, inputs
from tests.serving.ward import ROWS, SCHEMA, configure, expected, fill

NAMES = ("explanation", "explained", "explanation_start", "explanation_gap", "explanation:pulse")
ALLOWED = [{"name": "sepsis", "explain": True}, {"name": "age"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    fill(folder / "models")
    return folder


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of torch's threads is the process' own, which is this one here."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def asked(module: Any, address: str) -> tuple[Any, Any]:
    """What a client of Triton is answered that names the explanation, and one that does not."""
    wanted = [module.InferRequestedOutput(name) for name in ("probabilities", *NAMES)]
    with module.InferenceServerClient(address) as client:
        return (
            client.infer("sepsis", inputs(module), outputs=wanted),
            client.infer("sepsis", inputs(module)),
        )


def check_explained(result: Any, folder: Path) -> None:
    probabilities = result.as_numpy("probabilities")
    assert (probabilities == expected(folder / "models")).all()
    given, start, gap = (
        result.as_numpy(name) for name in ("explanation", "explanation_start", "explanation_gap")
    )
    assert given.shape == (3, len(SCHEMA["columns"]))
    assert result.as_numpy("explained").tolist() == [1, 1, 1]
    np.testing.assert_allclose(start + given.sum(axis=1) + gap, probabilities[:, 1], atol=1e-12)
    assert np.abs(gap).max() <= TOLERANCE
    pulse = result.as_numpy("explanation:pulse")
    assert pulse.shape == ROWS["pulse"].shape
    np.testing.assert_allclose(pulse.sum(axis=(1, 2)), given[:, 3], atol=1e-12)
    model = load(folder / "models" / "sepsis" / "1")
    table = {
        name: rows if name == "pulse" else rows.reshape(-1).tolist() for name, rows in ROWS.items()
    }
    own = Explainer(model).explain(model.task.features(table)[0])
    np.testing.assert_allclose(given, own.columns_NK, atol=1e-12)


def refused(address: str) -> str:
    """What a client is told that wants an explanation where none is allowed."""
    age = triton_http.InferInput("age", [1], "FP64")
    age.set_data_from_numpy(np.array([60.0]))
    wanted = [triton_http.InferRequestedOutput("explanation")]
    with (
        triton_http.InferenceServerClient(address) as client,
        pytest.raises(triton_http.InferenceServerException) as caught,
    ):
        client.infer("age", [age], outputs=wanted)
    return str(caught.value)


def listed(address: str, model: str) -> dict[str, list[int]]:
    """Shapes of the outputs in a model's metadata."""
    with triton_http.InferenceServerClient(address) as client:
        outputs = client.get_model_metadata(model)["outputs"]
    return {one["name"]: one["shape"] for one in outputs}


@pytest.mark.usefixtures("threads")
def test_an_explanation_comes_beside_the_prediction_where_it_is_allowed(folder: Path) -> None:
    async def ask(listening: Listening) -> None:
        assert listening.rest is not None
        assert listening.grpc is not None
        for module, address in ((triton_grpc, listening.grpc), (triton_http, listening.rest)):
            result, plain = await asyncio.to_thread(asked, module, address)
            check_explained(result, folder)
            check(plain, folder)
            assert plain.as_numpy("explanation") is None
        told = await asyncio.to_thread(refused, listening.rest)
        assert "unknown output 'explanation'" in told
        allowed = await asyncio.to_thread(listed, listening.rest, "sepsis")
        assert allowed["explanation"] == [-1, 4]
        assert allowed["explanation:pulse"] == [-1, 4, 2]
        assert set(NAMES) <= set(allowed)
        assert not set(NAMES) & set(await asyncio.to_thread(listed, listening.rest, "age"))

    served(configure(folder, models=ALLOWED), ask)


@pytest.mark.usefixtures("threads")
def test_in_this_process(folder: Path) -> None:
    config = read(ServingConfig, configure(folder, models=[{"name": "age", "explain": True}]))
    plane = make_plane(config, folder)

    def ask(rows: int) -> dict[str, Tensor]:
        age = Tensor("age", "FP64", np.full(rows, 90.0))
        wanted = ("explanation", "explanation_gap")
        request = Request(inputs=(age,), outputs=wanted)
        reply = asyncio.run(plane.infer(Admitted("age"), request))
        return {tensor.name: tensor for tensor in reply.outputs}

    assert list(ask(2)) == ["explanation", "explanation_gap"]
    assert "explanation" in {name for name, _, _ in plane.describe(Caller(), "age").outputs}
    with pytest.raises(Refusal, match=f"1 to {MOST_ROWS}; found {MOST_ROWS + 1}") as caught:
        ask(MOST_ROWS + 1)
    assert caught.value.kind == Kind.TOO_LARGE
    drift = plane.monitor.watched["age/1"].drift
    drift.settle()
    assert drift.rows == 2, "what was refused is not counted"


def test_a_server_whose_extra_is_missing_does_not_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    config = read(ServingConfig, configure(folder, models=ALLOWED))
    with pytest.raises(InputError, match=r"fedward\[explain\]"):
        make_plane(config, folder)
    with pytest.raises(InputError, match=r"fedward\[explain\]"):
        Explaining(load(folder / "models" / "age" / "1"))
