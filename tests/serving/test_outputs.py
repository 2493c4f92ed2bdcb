"""Each task answers with its own outputs, by both protocols, bit for bit what it predicts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import torch
from tritonclient.grpc import InferResult, service_pb2, service_pb2_grpc

from learning.artefact import load
from learning.networks import set_weights
from learning.task import Metric
from protocol.jobs import Named
from serving.server import Listening
from tests.serving.test_inside import served
from tests.serving.ward import PLAIN, add, configure, put

YES_NO = ["no", "yes"]
MODELS: Mapping[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "relapse": (
        "survival",
        {
            "label": {"name": "relapsed", "classes": YES_NO},
            "targets": [{"name": "days", "kind": "number", "unit": "d", "low": 0, "high": 900}],
        },
        {"cuts": [30, 365, 900]},
    ),
    "drug": (
        "treatment",
        {
            "label": {"name": "better", "classes": YES_NO},
            "targets": [{"name": "drug", "kind": "category", "categories": ["old", "new"]}],
        },
        {"scarce": 0.4},
    ),
    "beds": ("demand", {"label": {"name": "beds", "low": 0, "high": 90}}, {"naive": "age"}),
    "many": ("labels", {"targets": [{"name": "stroke, old", "kind": "flag"}]}, {}),
}
COLUMNS = {
    "relapse": {"survival": ["30", "365", "900"]},
    "drug": {key: ["old", "new"] for key in ("outcomes", "effects", "overlap")},
    "beds": {"quantiles": ["0.1", "0.5", "0.9"]},
    "many": {"probabilities": ["ill", "stroke, old"]},
    "sure": {"probabilities": YES_NO, "calibrated": YES_NO},
}
AGES = [5.0, 40.0, float("nan"), 119.0]


def fill(store: Path) -> None:
    for name, (task, changes, options) in MODELS.items():
        add(store, name, {**PLAIN, **changes}, 1, Named(name=task, options=options))
        put(store, name, 1)
    sure = {"temperature": Metric(2.0, 1.5, 2.5)}
    add(store, "sure", PLAIN, 1, Named(name="diagnosis", options={}), sure)
    put(store, "sure", 1)


def expected(store: Path, name: str) -> Mapping[str, npt.NDArray[Any]]:
    model = load(store / name / "1")
    return model.answers(model.predict(model.task.features({"age": AGES})[0]))


def message(name: str) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=name)
    one = request.inputs.add(name="age", datatype="FP64", shape=[len(AGES)])
    one.contents.fp64_contents.extend(AGES)
    return request


def test_every_task_answers_with_its_outputs(tmp_path: Path) -> None:
    store = tmp_path / "models"
    fill(store)

    async def ask(listening: Listening) -> None:
        data = [None if np.isnan(age) else age for age in AGES]
        body = {"inputs": [{"name": "age", "datatype": "FP64", "shape": [4], "data": data}]}
        base = f"http://{listening.rest}"
        async with (
            httpx.AsyncClient(base_url=base, trust_env=False) as client,
            grpc.aio.insecure_channel(str(listening.grpc)) as channel,
        ):
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for name, columns_told in COLUMNS.items():
                wanted = expected(store, name)
                by_grpc = InferResult(await stub.ModelInfer(message(name)))
                reply = (await client.post(f"/v2/models/{name}/infer", json=body)).json()
                described = (await client.get(f"/v2/models/{name}")).json()
                told = {one["name"]: one["shape"][1:] for one in described["outputs"]}
                assert [*told] == [*wanted, "flags"]
                found = {one["name"]: one for one in reply["outputs"]}
                for output, array in wanted.items():
                    assert told[output] == list(array.shape[1:])
                    raw = by_grpc.as_numpy(output)
                    same(np.char.decode(raw.astype("S")) if raw.dtype == object else raw, array)
                    values = np.array(found[output]["data"], dtype=array.dtype)
                    same(values.reshape(found[output]["shape"]), array)
                columns = {
                    key.removesuffix("_columns"): json.loads(value)
                    for key, value in reply["parameters"].items()
                    if key.endswith("_columns")
                }
                assert columns == columns_told

    served(configure(tmp_path, models=[{"name": name} for name in COLUMNS]), ask)


def same(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
    np.testing.assert_array_equal(found, wanted)


def test_what_the_outputs_mean(tmp_path: Path) -> None:
    store = tmp_path / "models"
    fill(store)
    relapse, drug, beds = (expected(store, name) for name in ("relapse", "drug", "beds"))
    for curve, median in zip(relapse["survival"], relapse["median"], strict=True):
        reached = [cut for cut, alive in zip((30, 365, 900), curve, strict=True) if alive <= 0.5]
        assert median == (reached[0] if reached else median)
        assert bool(reached) == (median == median)  # noqa: PLR0124 - NaN is no number
    assert (drug["effects"][:, 0] == 0).all()
    best = [("old", "new")[int(row[1] > row[0])] for row in drug["outcomes"]]
    assert drug["arm"].tolist() == best
    assert (np.diff(beds["quantiles"], axis=1) >= 0).all()
    np.testing.assert_allclose(beds["naive"], [5.0, 40.0, 60.0, 90.0])
    sure = expected(store, "sure")
    logits, right = (
        np.log(one[:, 1] / one[:, 0]) for one in (sure["probabilities"], sure["calibrated"])
    )
    np.testing.assert_allclose(right, logits / 2)


def test_served_probabilities_are_torchs_to_single_precision(tmp_path: Path) -> None:
    store = tmp_path / "models"
    fill(store)
    model = load(store / "many" / "1")
    module: torch.nn.Module = model.task.model()
    set_weights(module, model.task.layout(), model.weights_P)
    with torch.no_grad():
        z_NL = module(torch.from_numpy(model.task.features({"age": AGES})[0]))
    wanted = torch.sigmoid(z_NL).to(torch.float32).numpy()
    assert (expected(store, "many")["probabilities"].astype(np.float32) == wanted).all()
