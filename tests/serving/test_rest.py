"""What HTTP adds to a question and its answer, without a network between."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Scope

from protocol.config import read
from serving.bodies import pack, read_request
from serving.config import ServingConfig
from serving.openapi import document as told
from serving.rest import make_app
from serving.server import make_plane
from serving.tokens import create_token
from tests.serving.ward import configure, fill

AGE = {"name": "age", "datatype": "FP64", "shape": [1], "data": [60]}
INFER, FEEDBACK = "/v2/models/age/infer", "/v2/models/age/feedback"
TOLD = {"probabilities": [[0.25, 0.75]], "labels": ["yes"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path / "models")
    return tmp_path


def asked(
    config: Path,
    method: str,
    path: str,
    document: object = None,
    headers: Mapping[str, str] | None = None,
    *,
    local: bool = False,
) -> httpx.Response:
    """The answer to one request; a document of bytes is sent as it is."""
    plane = make_plane(read(ServingConfig, config), config.parent)
    transport = httpx.ASGITransport(make_app(plane, 200_000, local=local))
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, content=body, headers=headers)

    return asyncio.run(ask())


def test_metrics_tell_of_the_models_that_a_token_is_good_for(folder: Path) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    config, tokens = configure(folder, tokens="tokens.json"), folder / "tokens.json"
    seen = {}
    for name, models in (("one", ("age",)), ("all", ())):
        secret = create_token(tokens, name, ("monitor",), models, until)
        headers = {"authorization": f"Bearer {secret}"}
        answer = asked(config, "GET", "/metrics", headers=headers)
        assert "fedward_under_way 0.0" in answer.text
        seen[name] = set(re.findall(r'model="(\w+)', answer.text))
    assert seen == {"one": {"age"}, "all": {"age", "sepsis"}}
    assert asked(config, "GET", "/metrics").status_code == 401


@pytest.mark.parametrize(
    ("origin", "local", "status"),
    [
        ("http://localhost", True, 200),
        ("http://127.0.0.1:3000", True, 200),
        ("https://evil.example", True, 403),
        ("null", True, 403),
        ("http://localhost", False, 200),
        ("http://127.0.0.1:3000", False, 403),
        ("https://evil.example", False, 403),
    ],
)
def test_no_page_of_elsewhere_sends_feedback(
    folder: Path, origin: str, local: bool, status: int
) -> None:
    headers = {"origin": origin, "content-type": "text/plain"}
    taken = asked(configure(folder), "POST", FEEDBACK, TOLD, headers, local=local)
    assert taken.status_code == status
    named = {**headers, "authorization": "Bearer of somebody who means it"}
    taken = asked(configure(folder), "POST", FEEDBACK, TOLD, named, local=local)
    assert taken.status_code == 200


@pytest.mark.parametrize("goes", ["while it sends", "while it waits"])
def test_who_goes_away_is_no_defect(folder: Path, goes: str) -> None:
    plane = make_plane(read(ServingConfig, configure(folder)), folder)
    app = make_app(plane, 10_000)
    scope: Scope = {"type": "http", "method": "POST", "path": INFER, "headers": []}

    async def receive() -> Message:
        if goes == "while it sends":
            return {"type": "http.disconnect"}
        raise asyncio.CancelledError

    async def send(_: Message) -> None:
        """Nobody reads."""

    with suppress(asyncio.CancelledError):
        asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    assert plane.metrics.results() == {"age": {"cancelled": 1}}
    assert plane.turnstile.under_way == 0


@pytest.mark.parametrize(("values", "apart"), [(1, False), (20_000, True)])
def test_a_large_body_is_read_beside_the_loop(
    folder: Path, monkeypatch: pytest.MonkeyPatch, values: int, apart: bool
) -> None:
    threads = []

    def noted(*asked: Any) -> Any:
        threads.append(threading.current_thread())
        return read_request(*asked)

    monkeypatch.setattr("serving.rest.read_request", noted)
    inputs = [{**AGE, "shape": [values], "data": [None] * values}]
    status = asked(configure(folder), "POST", INFER, {"inputs": inputs}).status_code
    assert status == (413 if apart else 200), "more rows than may be asked"
    assert [one is not threading.main_thread() for one in threads] == [apart]


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("GET", "/v2", None),
        ("GET", "/v2/models/age", None),
        ("GET", "/v2/models/age/ready", None),
        ("POST", INFER, {"inputs": [AGE]}),
        ("POST", FEEDBACK, TOLD),
    ],
)
def test_the_document_names_what_answers_have(
    folder: Path, method: str, path: str, document: Any
) -> None:
    answer = asked(configure(folder), method, path, document)
    operation = told()["paths"][path.replace("age", "{model}")][method.lower()]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(schema["required"]) == set(answer.json())


@pytest.mark.parametrize("encoding", ["gzip", "GZIP"])
@pytest.mark.parametrize(("path", "document"), [(INFER, {"inputs": [AGE]}), (FEEDBACK, TOLD)])
def test_every_body_may_be_packed(folder: Path, path: str, document: Any, encoding: str) -> None:
    config, headers = configure(folder), {"content-encoding": encoding}
    packed = gzip.compress(json.dumps(document).encode())
    assert asked(config, "POST", path, packed, headers).status_code == 200
    bomb = gzip.compress(bytes(300_000))
    assert asked(config, "POST", path, bomb, headers).status_code == 413


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("deflate, GZip;q=0.5", True),
        ("br;q=1, gzip ; q=1.0", True),
        ("", False),
        ("x-gzip-like, identity", False),
        ("gzip;q=0, identity", False),
        ("identity, gzip; q=0.000", False),
    ],
)
def test_an_answer_is_packed_for_whom_it_suits(accepted: str, packed: bool) -> None:
    assert (pack(bytes(1000), accepted)[1] == "gzip") is packed
