"""The server in this process: TLS, mutual TLS, tokens, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import httpx
import pytest
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from learning.artefact import WEIGHTS
from protocol.config import read
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Named
from serving.config import ServingConfig
from serving.refusal import Refusal
from serving.server import Listening, serve
from serving.tokens import create_token
from serving.up_command import up
from tests.serving.certificates import issue
from tests.serving.ward import (
    PLAIN,
    SCHEMA,
    add,
    body,
    catalogue,
    configure,
    expected,
    fill,
    put,
)

INFER = "/v2/models/sepsis/infer"


def served(config: Path, ask: Callable[[Listening], Awaitable[None]]) -> None:
    """Serve here, ask, and end as a service manager would."""

    async def both() -> None:
        listening: asyncio.Future[Listening] = asyncio.get_running_loop().create_future()
        settings = read(ServingConfig, config)
        server = asyncio.create_task(serve(settings, config.parent, listening.set_result))
        while not (server.done() or listening.done()):
            await asyncio.sleep(0.01)
        if server.done():
            return await server
        try:
            async with asyncio.timeout(20):
                await ask(listening.result())
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await server

    uvloop.run(both())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path / "models")
    return tmp_path


def message() -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="age")
    request.inputs.add(name="age", datatype="FP32", shape=[1]).contents.fp32_contents.append(60)
    return request


def test_tokens_over_mutual_tls(folder: Path) -> None:
    issue(folder)
    secret = create_token(
        folder / "tokens.json", "ward", ("predict",), ("age",),
        datetime.now(UTC) + timedelta(days=1),
    )  # fmt: skip
    tls = {"certificate": "server.pem", "key": "server.key", "clients": "ca.pem"}
    good, bad = {"authorization": f"Bearer {secret}"}, {"authorization": "Bearer x"}

    async def ask(listening: Listening) -> None:
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        base = f"https://{listening.rest}"
        async with httpx.AsyncClient(verify=context, base_url=base, trust_env=False) as client:
            with pytest.raises(httpx.TransportError):
                await client.get("/v2/health/live")
        context.load_cert_chain(folder / "client.pem", folder / "client.key")
        age = {"name": "age", "datatype": "FP64", "shape": [1], "data": [60]}
        async with httpx.AsyncClient(verify=context, base_url=base, trust_env=False) as client:
            statuses = [
                (await client.post(path, json={"inputs": [age]}, headers=headers)).status_code
                for path, headers in (
                    ("/v2/models/age/infer", good),
                    ("/v2/models/age/infer", bad),
                    ("/v2/models/age/infer", {}),
                    (INFER, good),
                )
            ]
            assert statuses == [200, 401, 401, 403]
            assert (await client.get("/v2/models/age", headers=good)).status_code == 403
            ready = [
                (await client.get(f"/v2/models/{model}/ready", headers=headers)).status_code
                for model, headers in (("age", good), ("age", {}), ("sepsis", good), ("odd", {}))
            ]
            assert ready == [200, 401, 403, 401], "what is served is told to whoever may use it"
            assert (await client.get("/v2/health/ready")).status_code == 200
        pem = [(folder / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem")]
        secure = grpc.ssl_channel_credentials(*pem)
        async with grpc.aio.secure_channel(str(listening.grpc), secure) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            reply = await stub.ModelInfer(message(), metadata=tuple(good.items()), timeout=10)
            assert reply.model_version == "1"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ModelInfer(message(), metadata=tuple(bad.items()), timeout=10)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ModelMetadata(
                    service_pb2.ModelMetadataRequest(name="age"), metadata=tuple(good.items())
                )
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
            health, whole = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest()
            assert (await health.Check(whole)).status == 1
            named = health_pb2.HealthCheckRequest(service="age")
            ready_of = service_pb2.ModelReadyRequest(name="age")
            for call in (stub.ModelReady(ready_of), health.Check(named)):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED

    served(configure(folder, tls=tls, tokens="tokens.json"), ask)


def test_everything_that_is_asked_without_tokens(folder: Path) -> None:
    async def ask(listening: Listening) -> None:
        base = f"http://{listening.rest}"
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            for path in ("/v2", "/v2/models/sepsis", "/v2/models/sepsis/ready"):
                assert (await client.get(path)).status_code == 200
            answer = await client.post(INFER, json=body())
            found = answer.json()["outputs"][0]["data"]
            assert found == expected(folder / "models").reshape(-1).tolist()
            described = (await client.get("/openapi.json")).json()
            assert "/v2/models/{model}/infer" in described["paths"]
            for method, path, status in (("GET", "/v3", 404), ("GET", INFER, 405)):
                refused = await client.request(method, path)
                assert refused.status_code == status
                assert refused.json()["error"]
        async with grpc.aio.insecure_channel(str(listening.grpc)) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert (await stub.ServerLive(service_pb2.ServerLiveRequest())).live
            assert (await stub.ServerReady(service_pb2.ServerReadyRequest())).ready
            assert (await stub.ModelReady(service_pb2.ModelReadyRequest(name="age"))).ready
            assert (await stub.ServerMetadata(service_pb2.ServerMetadataRequest())).name
            told = await stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="age"))
            assert [one.name for one in told.inputs] == ["age"]
            health = health_pb2_grpc.HealthStub(channel)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == 1
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(message().SerializeToString()[:-3])
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "no message" in str(caught.value.details())
            request = message()
            request.raw_input_contents.extend([b"", b""])
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ModelInfer(request)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT

    served(configure(folder), ask)


def test_limits_hold_before_a_body_is_taken(folder: Path) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ncontent-length: "
    limits = {"concurrent": 1, "deadline_s": 0.5, "request_mb": 0.001}

    async def ask(listening: Listening) -> None:
        async def first_line(length: int) -> bytes:
            reader, writer = await asyncio.open_connection(*str(listening.rest).split(":"))
            writer.write(f"{head}{length}\r\n\r\n".encode())
            line = await reader.readline()
            writer.close()
            return line

        slow = asyncio.create_task(first_line(9))
        await asyncio.sleep(0.1)
        assert b" 503 " in await first_line(9), "who sends no body holds the only place"
        assert b" 504 " in await slow
        assert b" 413 " in await first_line(1001), "nothing of it was sent"

    served(configure(folder, limits=limits), ask)


@pytest.mark.parametrize("place", ["rest", "grpc"])
def test_an_address_that_is_taken_is_an_input_error(folder: Path, place: str) -> None:
    async def never(_: Listening) -> None:
        raise AssertionError

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"{address} cannot be bound"):
            served(configure(folder, **{place: address}), never)


def test_the_command_says_where_it_serves(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    up(configure(folder))
    timer.join()
    assert capsys.readouterr().out.startswith("serving: REST 127.0.0.1:")


def test_a_flipped_byte_is_not_served(folder: Path) -> None:
    path = folder / "models" / "sepsis" / "1" / WEIGHTS
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    async def never(_: Listening) -> None:
        raise AssertionError

    with pytest.raises(IntegrityError, match=r"sepsis/1: weights\.safetensors.*SHA-256"):
        served(configure(folder), never)


def test_a_catalogue_changes_to_what_is_promoted(folder: Path) -> None:
    store = folder / "models"
    made = catalogue(store)
    before = made.find("sepsis")
    assert made.refresh() == ()
    assert made.find("sepsis") is before
    put(store, "sepsis", 2)
    assert made.refresh() == ("sepsis/2",)
    assert made.versions("sepsis") == (2,)
    assert before.model.card.version == 1
    weights = add(store, "sepsis", SCHEMA, 3) / WEIGHTS
    weights.write_bytes(b"")
    put(store, "sepsis", 3)
    assert made.refresh() == made.refresh() == ()
    assert made.find("sepsis").model.card.version == 2


def test_a_version_is_asked_by_its_number(folder: Path) -> None:
    made = catalogue(folder / "models")
    assert made.find("sepsis", "1") is made.find("sepsis")
    for odd in ("2", "01", "1" * 5000, "\u0661", "x"):
        with pytest.raises(Refusal, match="version of 'sepsis'; expected one of 1"):
            made.find("sepsis", odd)


def test_a_table_of_statistics_is_no_model_to_serve(folder: Path) -> None:
    store = folder / "models"
    add(store, "age", PLAIN, 2, Named(name="statistics", options={}))
    put(store, "age", 2)
    with pytest.raises(
        InputError, match=r"model age/2 predicts nothing; .* found task 'statistics'"
    ):
        catalogue(store)
