"""A served model as its clients meet it, in a process of its own, over real sockets."""

from __future__ import annotations

import gzip
import json
import signal
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learning.artefact import WEIGHTS
from tests.serving.ward import (
    ROWS,
    TYPES,
    Running,
    body,
    configure,
    expected,
    fill,
    put,
    serving,
    until,
)

INFER = "/v2/models/sepsis/infer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    fill(folder / "models")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(configure(folder)) as running:
        yield running


@pytest.fixture
def rest(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{server.rest}", trust_env=False) as client:
        yield client


def inputs(module: Any, times: int = 1) -> list[Any]:
    made = []
    for name, once in ROWS.items():
        rows = np.concatenate([once] * times)
        made.append(module.InferInput(name, list(rows.shape), TYPES[name]))
        made[-1].set_data_from_numpy(rows)
    return made


def check(result: Any, folder: Path) -> None:
    assert (result.as_numpy("probabilities") == expected(folder / "models")).all()
    assert result.as_numpy("flags").tolist() == [[0, 0, 0, 0], [1, 2, 0, 0], [3, 0, 0, 0]]
    best = expected(folder / "models").argmax(axis=1)
    label = [one.decode() for one in result.as_numpy("label").reshape(-1)]
    assert label == [("no", "yes")[one] for one in best]


class TestClientsOfTheProtocol:
    @pytest.mark.parametrize("compression", [None, "gzip"])
    def test_grpc_answers_bit_for_bit(
        self, server: Running, folder: Path, compression: str | None
    ) -> None:
        with triton_grpc.InferenceServerClient(server.grpc) as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            assert client.is_model_ready("sepsis")
            assert not client.is_model_ready("sepsis", "2")
            result = client.infer(
                "sepsis", inputs(triton_grpc), request_id="7", compression_algorithm=compression
            )
        check(result, folder)
        reply = result.get_response()
        assert (reply.model_version, reply.id) == ("1", "7")
        assert reply.parameters["intended_use"].string_param == "Research only"

    def test_a_large_message_is_answered_like_small_ones(
        self, server: Running, folder: Path
    ) -> None:
        with triton_grpc.InferenceServerClient(server.grpc) as client:
            result = client.infer("sepsis", inputs(triton_grpc, times=1000))
        assert result.get_response().outputs[0].shape == [3000, 2]
        once = expected(folder / "models")
        assert (result.as_numpy("probabilities").reshape(1000, 3, 2) == once).all()

    @pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
    def test_http_answers_bit_for_bit(
        self, server: Running, folder: Path, packed: str | None
    ) -> None:
        with triton_http.InferenceServerClient(server.rest) as client:
            assert client.is_server_live()
            assert client.is_model_ready("sepsis", "1")
            result = client.infer(
                "sepsis",
                inputs(triton_http),
                request_compression_algorithm=packed,
                response_compression_algorithm="gzip" if packed else None,
            )
        check(result, folder)
        assert result.get_response()["parameters"]["model"] == "sepsis/1"

    def test_typed_contents_say_the_same_as_raw_ones(self, server: Running, folder: Path) -> None:
        pb = triton_grpc.service_pb2
        request = pb.ModelInferRequest(model_name="sepsis")
        fields = {"FP64": "fp64_contents", "BOOL": "bool_contents", "BYTES": "bytes_contents"}
        for name, rows in ROWS.items():
            one = request.inputs.add(name=name, datatype=TYPES[name], shape=rows.shape)
            values = [
                value.encode() if isinstance(value, str) else value
                for value in rows.reshape(-1).tolist()
            ]
            getattr(one.contents, fields[TYPES[name]]).extend(values)
        with grpc.insecure_channel(server.grpc) as channel:
            stub = triton_grpc.service_pb2_grpc.GRPCInferenceServiceStub(channel)
            reply = stub.ModelInfer(request, timeout=10)
        raw = reply.raw_output_contents[0]
        assert raw == expected(folder / "models").tobytes()

    def test_metadata_names_every_column(self, server: Running) -> None:
        with triton_grpc.InferenceServerClient(server.grpc) as client:
            told = client.get_model_metadata("sepsis", as_json=True)
            assert client.get_server_metadata(as_json=True)["name"] == "fedward"
        with triton_http.InferenceServerClient(server.rest) as client:
            same = client.get_model_metadata("sepsis")
            assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        assert [one["name"] for one in told["inputs"]] == list(ROWS)
        assert same["inputs"][3] == {"name": "pulse", "datatype": "FP64", "shape": [-1, 4, 2]}

    def test_the_health_probe_of_grpc(self, server: Running) -> None:
        with grpc.insecure_channel(server.grpc) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for service in ("", "sepsis"):
                status = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
                assert status.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.RpcError) as caught:
                stub.Check(health_pb2.HealthCheckRequest(service="asthma"), timeout=10)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    def test_errors_of_grpc_have_their_status(self, server: Running) -> None:
        with triton_grpc.InferenceServerClient(server.grpc) as client:
            for name, told in (("asthma", "NOT_FOUND"), ("age", "INVALID_ARGUMENT")):
                with pytest.raises(triton_grpc.InferenceServerException) as caught:
                    client.infer(name, inputs(triton_grpc))
                assert caught.value.status() == f"StatusCode.{told}"


class TestRest:
    def test_plain_json(self, rest: httpx.Client, folder: Path) -> None:
        answer = rest.post(INFER, json=body()).json()
        (probabilities,) = [one for one in answer["outputs"] if one["name"] == "probabilities"]
        found = np.array(probabilities["data"]).reshape(probabilities["shape"])
        assert (found == expected(folder / "models")).all()
        assert answer["id"] == "7"

    def test_a_matrix_of_all_columns(self, rest: httpx.Client) -> None:
        matrix = {"name": "columns", "datatype": "FP64", "shape": [2, 1], "data": [[60], [999]]}
        one = {**matrix, "name": "age", "shape": [2]}
        answers = [
            rest.post("/v2/models/age/infer", json={"inputs": [entry]}).json()["outputs"]
            for entry in (matrix, one)
        ]
        assert answers[0] == answers[1]
        assert answers[0][2]["data"] == [0, 3]

    def test_no_answer_waits_for_an_acknowledgement(self, server: Running) -> None:
        connection = HTTPConnection(server.rest)
        times = []
        for _ in range(9):
            start = time.perf_counter()
            connection.request("POST", INFER, json.dumps(body()))
            assert connection.getresponse().read()
            times.append(time.perf_counter() - start)
        connection.close()
        assert min(times) < 0.035

    def test_only_the_outputs_that_were_asked_for(self, rest: httpx.Client) -> None:
        answer = rest.post(INFER, json=body(outputs=[{"name": "label"}])).json()
        assert [one["name"] for one in answer["outputs"]] == ["label"]
        assert "unknown output" in rest.post(INFER, json=body(outputs=[{"name": "x"}])).text

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/v2/models/asthma", 404),
            ("/v2/models/sepsis/versions/2", 404),
            ("/v2/models/sepsis/versions/x/ready", 503),
            ("/v2/models/asthma/ready", 503),
            ("/v2/health/live", 200),
            ("/v2/health/ready", 200),
            ("/v3", 404),
        ],
    )
    def test_status_of_paths(self, rest: httpx.Client, path: str, status: int) -> None:
        assert rest.get(path).status_code == status

    @pytest.mark.parametrize(
        ("place", "change", "told"),
        [
            (0, {"datatype": "BYTES"}, "input 'age': data"),
            (0, {"datatype": "FP65"}, "tensor 'age': datatype"),
            (0, {"shape": [4]}, "tensor 'age'; expected 4 values; found 3"),
            (0, {"shape": [3, 1, 1]}, "input 'age': shape; expected N; found 3 x 1 x 1"),
            (0, {"name": "agee"}, "missing inputs; expected 'age'"),
            (1, {"datatype": "BOOL", "data": [True] * 3}, "input 'ward': datatype"),
            (3, {"shape": [3, 8]}, "input 'pulse': shape; expected N x 4 x 2; found 3 x 8"),
        ],
    )
    def test_a_wrong_field_is_named_and_no_value_is(
        self, rest: httpx.Client, place: int, change: dict[str, Any], told: str
    ) -> None:
        wrong = body()
        wrong["inputs"][place] |= change
        answer = rest.post(INFER, json=wrong)
        assert answer.status_code == 400
        assert told in answer.json()["error"]
        assert "300" not in answer.text

    def test_bodies_that_are_too_large_or_damaged(self, rest: httpx.Client) -> None:
        assert rest.post(INFER, content=bytes(17_000_000)).status_code == 413
        packed = gzip.compress(bytes(17_000_000))
        gz = {"content-encoding": "gzip"}
        assert rest.post(INFER, content=packed, headers=gz).status_code == 413
        assert rest.post(INFER, content=packed[:-9], headers=gz).status_code in {400, 413}
        assert rest.post(INFER, content=b"x", headers=gz).status_code == 400
        assert rest.post(INFER, content=b"x", headers={"content-encoding": "br"}).status_code == 400

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_nonsense_is_answered_with_400(self, rest: httpx.Client, data: st.DataObject) -> None:
        junk = st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        )
        wrong = body()
        entry = wrong["inputs"][data.draw(st.integers(0, 3))]
        key = data.draw(st.sampled_from(["name", "datatype", "shape", "data", "parameters"]))
        entry[key] = data.draw(junk)
        headers = {"Inference-Header-Content-Length": data.draw(st.sampled_from(["", "9", "-1"]))}
        answer = rest.post(INFER, json=wrong, headers=headers if headers else None)
        assert answer.status_code in {200, 400}, answer.text


class TestLife:
    def test_promotion_under_load_fails_no_request(self, tmp_path: Path) -> None:
        store = tmp_path / "models"
        fill(store)
        wanted = {str(one): expected(store, one).tolist() for one in (1, 2)}
        seen: list[str] = []
        with serving(configure(tmp_path)) as running:
            done = threading.Event()

            def ask() -> None:
                with httpx.Client(base_url=f"http://{running.rest}", trust_env=False) as client:
                    while not done.is_set():
                        answer = client.post(INFER, json=body())
                        assert answer.status_code == 200
                        version = answer.json()["model_version"]
                        data = answer.json()["outputs"][0]["data"]
                        assert np.reshape(data, (3, 2)).tolist() == wanted[version]
                        seen.append(version)

            threads = [threading.Thread(target=ask) for _ in range(3)]
            for thread in threads:
                thread.start()
            for version in (2, 1, 2):
                put(store, "sepsis", version)
                until(lambda version=version: seen[-1:] == [str(version)])
            alive = [thread.is_alive() for thread in threads]
            done.set()
            for thread in threads:
                thread.join(10)
            assert all(alive)
            assert running.end() == 0

    def test_a_killed_server_comes_back_with_what_is_in_use(self, tmp_path: Path) -> None:
        fill(tmp_path / "models")
        config = configure(tmp_path)
        with serving(config) as running:
            put(tmp_path / "models", "sepsis", 2)
            running.end(signal.SIGKILL)
        with serving(config) as running:
            answer = httpx.post(f"http://{running.rest}{INFER}", json=body(), trust_env=False)
            assert answer.json()["model_version"] == "2"

    def test_a_flipped_byte_keeps_what_was_in_use_and_refuses_to_start(
        self, tmp_path: Path
    ) -> None:
        store = tmp_path / "models"
        fill(store)
        config = configure(tmp_path)
        path = store / "sepsis" / "2" / WEIGHTS
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with serving(config) as running:
            put(store, "sepsis", 2)
            log = config.with_suffix(".log")
            until(lambda: "sepsis/2: weights.safetensors" in log.read_text())
            answer = httpx.post(f"http://{running.rest}{INFER}", json=body(), trust_env=False)
            assert answer.json()["model_version"] == "1"
            assert running.end() == 0
        with (
            pytest.raises(AssertionError, match=r"sepsis/2: weights\.safetensors"),
            serving(config),
        ):
            pass
