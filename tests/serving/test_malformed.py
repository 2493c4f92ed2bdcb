"""Ten thousand wrong requests: each is refused with a reason, none is a defect, nothing grows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from tritonclient.grpc import service_pb2

from tests.serving.ward import ROWS, TYPES, Running, body, configure, expected, fill, serving

INFER = "/v2/models/sepsis/infer"
REFUSED = {400, 401, 403, 404, 405, 413, 429, 503}
CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}
MOST_GROWN_MB = 50
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=8,
)
SHAPE = st.lists(st.sampled_from([0, 1, 3, -1, 2**31, 2**63, 10**30]) | st.integers(), max_size=9)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def examples(number: int) -> settings:
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("malformed")
    fill(folder / "models")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(configure(folder, limits={"per_second": 1e6})) as running:
        yield running


def memory_mb(server: Running) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = [one for one in status.splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def check_reason(reason: str) -> None:
    assert reason
    assert "defect" not in reason
    assert len(reason) < 2000


def changed(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes as they are, cut, with others between them, or others."""
    change = draw(st.sampled_from(["none", "none", "cut", "noise", "junk"]))
    if change == "cut":
        return data[: draw(st.integers(0, len(data)))]
    if change == "noise":
        place = draw(st.integers(0, len(data)))
        return data[:place] + draw(st.binary(min_size=1, max_size=8)) + data[place:]
    return draw(st.binary(max_size=200)) if change == "junk" else data


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """A request with something wrong in it, its bytes cut or changed, and its headers."""
    document: dict[str, Any] = body()
    for _ in range(draw(st.integers(1, 3))):
        entry = document["inputs"][draw(st.integers(0, 3))]
        key = draw(st.sampled_from(["name", "datatype", "shape", "data", "parameters", "odd"]))
        entry[key] = draw(SHAPE if key == "shape" else JUNK)
    if draw(st.booleans()):
        document[draw(st.sampled_from(["id", "inputs", "outputs", "parameters"]))] = draw(JUNK)
    data = changed(draw, json.dumps(document).encode())
    headers = draw(st.sampled_from([{}, {}, {}, {"content-encoding": "gzip"}])).copy()
    if draw(st.booleans()):
        length = st.integers(-9, 2 * len(data)).map(str) | st.text("0123456789abc-. ", max_size=30)
        headers["Inference-Header-Content-Length"] = draw(length).strip()
    return data, headers


def over_rest(server: Running, number: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    with httpx.Client(base_url=f"http://{server.rest}", trust_env=False, timeout=10) as client:

        @examples(number)
        @given(bodies())
        def ask(asked: tuple[bytes, dict[str, str]]) -> None:
            answer = client.post(INFER, content=asked[0], headers=asked[1])
            seen[str(answer.status_code)] += 1
            assert answer.status_code in REFUSED | {200}, answer.text
            if answer.status_code != 200:
                check_reason(answer.json()["error"])

        ask()
    return seen


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message with something wrong in it, its bytes cut or changed."""
    request = service_pb2.ModelInferRequest(model_name=draw(st.sampled_from(["sepsis", "age", ""])))
    raw = draw(st.booleans())
    for name, rows in ROWS.items():
        one = request.inputs.add(name=name, datatype=TYPES[name], shape=rows.shape)
        if raw and TYPES[name] != "BYTES":
            request.raw_input_contents.append(rows.tobytes())
        elif name == "age":
            one.contents.fp64_contents.extend(rows.reshape(-1).tolist())
    if draw(st.booleans()):
        place = draw(st.integers(0, 3))
        one = request.inputs[place]
        one.datatype = draw(st.sampled_from([*TYPES.values(), "FP16", "INT8", "FP65", ""]))
        del one.shape[:]
        one.shape.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9)))
    if draw(st.booleans()):
        request.raw_input_contents.append(draw(st.binary(max_size=64)))
    if draw(st.booleans()):
        request.outputs.add(name=draw(st.text(max_size=9)))
    return changed(draw, request.SerializeToString())


def ended(call: Callable[..., bytes], message: bytes) -> tuple[grpc.StatusCode, str]:
    """How a call ended, and why."""
    try:
        call(message, timeout=10)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def over_grpc(server: Running, number: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    with grpc.insecure_channel(server.grpc) as channel:
        calls = [
            channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
            for name in ("ModelInfer", "ModelInfer", "ModelInfer", "ModelMetadata", "ModelConfig")
        ]

        @examples(number)
        @given(messages(), st.sampled_from(calls))
        def ask(message: bytes, call: Callable[..., bytes]) -> None:
            code, reason = ended(call, message)
            seen[code.name] += 1
            assert code in CODES, (code, reason)
            if code in CODES - {grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED}:
                check_reason(reason)

        ask()
    return seen


def over_the_document(server: Running, number: int) -> Counter[str]:
    """Requests that fit the server's own OpenAPI document, and requests that do not."""
    seen: Counter[str] = Counter()
    address = f"http://{server.rest}"
    # It takes seconds to import, and only this slow test needs it.
    import schemathesis
    from schemathesis.core.result import Ok
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    document = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [one.ok() for one in document.get_all_operations() if isinstance(one, Ok)]
    for operation in operations:
        for mode in schemathesis.GenerationMode:
            asked = operation.as_strategy(generation_mode=mode)

            @examples(number)
            @given(case=asked, model=st.sampled_from(["age", "sepsis", ""]))
            def ask(case: schemathesis.Case[Any], model: str) -> None:
                if model and "model" in case.path_parameters:
                    case.path_parameters["model"] = model
                response = case.call(base_url=address, timeout=10)
                seen[str(response.status_code)] += 1
                assert response.status_code in REFUSED | {200}, response.text
                checks = [status_code_conformance, content_type_conformance]
                case.validate_response(response, checks=[*checks, response_schema_conformance])

            # What has neither parameters nor a body cannot be asked wrongly.
            with suppress(Unsatisfiable):
                ask()
    assert len(operations) == 11
    return seen


def test_ten_thousand_wrong_requests(server: Running, folder: Path) -> None:
    over_rest(server, 300)
    over_grpc(server, 300)
    before = memory_mb(server)
    seen = {
        "rest": over_rest(server, 3700),
        "grpc": over_grpc(server, 3700),
        "document": over_the_document(server, 280),
    }
    print(seen)  # noqa: T201 - shown with -s
    assert sum(sum(one.values()) for one in seen.values()) >= 10_000
    assert seen["rest"]["400"] > 2500
    assert seen["grpc"]["INVALID_ARGUMENT"] > 2000
    assert seen["document"]["404"] > 500
    assert memory_mb(server) - before < MOST_GROWN_MB
    answer = httpx.post(f"http://{server.rest}{INFER}", json=body(), trust_env=False).json()
    assert np.reshape(answer["outputs"][0]["data"], (3, 2)).tolist() == (
        expected(folder / "models").tolist()
    )
