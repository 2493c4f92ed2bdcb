"""What three hospitals learnt together answers the same at each of them, to clients of Triton."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import yaml

from learning.artefact import load
from tests.end_to_end.federation import HOSPITALS, Federation, shares
from tests.serving.ward import Running, serving

JOB = "bedside"
ROWS = 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def servers(place: Federation) -> Iterator[dict[str, Running]]:
    """A server at each hospital, over the model that a job has just left there."""
    job = place.job(JOB, training={"rounds": 2}, evaluation={"enabled": False})
    assert place.complete(job)["status"] == "completed"
    with ExitStack() as stack:
        yield {name: stack.enter_context(serving(configured(place, name))) for name in HOSPITALS}


def configured(place: Federation, name: str) -> Path:
    """Promote the model and write a server's configuration, as the hospital's administrator."""
    config = place.config(name)
    place.run("client", "models", "promote", config, JOB)
    (signer,) = [
        line.removeprefix("signer ")
        for line in place.run("client", "models", "verify", config).splitlines()
        if line.startswith("signer ")
    ]
    path = config.parent / "serving.yaml"
    document = {
        "store": "models",
        "signers": [signer],
        "models": [{"name": JOB}],
        "rest": "127.0.0.1:0",
        "grpc": "127.0.0.1:0",
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def records() -> dict[str, Any]:
    """Raw values of one hospital's first records, without their labels."""
    table = shares()[HOSPITALS[0]]
    return {
        name: np.array([float(cell) for cell in cells[:ROWS]])
        for name, cells in table.items()
        if name != "diagnosis"
    }


def asked(module: Any, address: str) -> Any:
    """What a client of Triton is answered."""
    rows = records()
    with module.InferenceServerClient(address) as client:
        names = [one["name"] for one in metadata(client)["inputs"]]
        inputs = [module.InferInput(name, [ROWS], "FP64") for name in names]
        for one, name in zip(inputs, names, strict=True):
            one.set_data_from_numpy(rows[name])
        return client.infer(JOB, inputs)


def metadata(client: Any) -> Any:
    if isinstance(client, triton_grpc.InferenceServerClient):
        return client.get_model_metadata(JOB, as_json=True)
    return client.get_model_metadata(JOB)


def test_the_same_answers_at_all_three(place: Federation, servers: dict[str, Running]) -> None:
    answers = {
        name: [asked(triton_grpc, server.grpc), asked(triton_http, server.rest)]
        for name, server in servers.items()
    }
    model = load(place.folder / HOSPITALS[0] / "models" / JOB / "1")
    wanted = model.predict(model.task.features(records())[0])
    assert wanted.shape == (ROWS, 2)
    assert len(np.unique(wanted[:, 1])) == ROWS
    for name in HOSPITALS:
        for answer in answers[name]:
            assert (answer.as_numpy("probabilities") == wanted).all()
            assert (answer.as_numpy("label") == answers["north"][0].as_numpy("label")).all()
            assert not answer.as_numpy("flags").any()
    digests = {
        answer[0].get_response().parameters["weights_sha256"].string_param
        for answer in answers.values()
    }
    assert digests == {model.card.digests.weights}
