"""The page: what it tells, whom, and that nothing in a card becomes markup."""

from __future__ import annotations

import asyncio
import base64
import html
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from learning.artefact import Model, save, verify
from learning.card import Guarantee
from learning.task import Metric
from protocol.config import read
from serving.config import ServingConfig
from serving.monitor import Monitor, Watched
from serving.page import page
from serving.rest import make_app
from serving.server import Listening, make_plane
from serving.tokens import Scope, create_token
from tests.serving.test_inside import served
from tests.serving.ward import KEY, SCHEMA, add, configure, fill, put, weights_of

HOSTILE = '<script>alert(1)</script> & "quoted"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = tmp_path / "models"
    fill(store)
    card = replace(
        verify(add(store, "sepsis", SCHEMA, 8)),
        version=9,
        intended_use=HOSTILE,
        metrics={"auroc": Metric(0.812, 0.79, 0.83)},
        privacy=Guarantee(mode="distributed", unit="patient", delta=1e-6, epsilon=2.5),
    )
    save(store, card, weights_of(SCHEMA, 8), KEY)
    put(store, "sepsis", 9)
    return tmp_path


def got(config: Path, paths: list[tuple[str, dict[str, str]]], *, local: bool) -> list[Any]:
    plane = make_plane(read(ServingConfig, config), config.parent)
    app = make_app(plane, 1000, local=local)

    async def ask() -> list[Any]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await client.post("/v2/models/age/infer", json={"inputs": []})
            return [await client.get(path, headers=headers) for path, headers in paths]

    return asyncio.run(ask())


def test_a_version_that_goes_while_the_page_is_made_is_still_on_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, models = folder / "models", [{"name": "sepsis", "versions": [1]}]
    config = read(ServingConfig, configure(folder, models=models))
    plane, watch = make_plane(config, folder), Monitor.watch

    def promoted_meanwhile(monitor: Monitor, model: Model) -> Watched:
        if model.card.version == 1:
            put(store, "sepsis", 2)
            plane.catalogue.refresh()
        return watch(monitor, model)

    monkeypatch.setattr(Monitor, "watch", promoted_meanwhile)
    assert "sepsis/9" in page(plane, lambda _: True)
    assert plane.catalogue.versions("sepsis") == (1, 2)


def test_everything_is_told_and_escaped(folder: Path) -> None:
    (answer,) = got(configure(folder), [("/", {})], local=True)
    assert answer.status_code == 200
    text = answer.text
    assert "<script" not in text
    assert html.escape(HOSTILE, quote=True).replace("&quot;", "&#34;") in text
    for told in (
        "sepsis/9", "age/1", "0.812", "Privacy of one patient: epsilon 2.5 at delta 1e-06",
        "Trained without differential privacy.", "0 to 120", "1 invalid",
        "No labels have come back",
    ):  # fmt: skip
        assert told in text, told
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert "http" not in text.replace("http-equiv", "")


def test_only_this_machines_own_name_leads_to_a_server_without_tokens(folder: Path) -> None:
    hosts = {"127.0.0.1:8080": 200, "[::1]:1": 200, "[::1]": 200, "localhost": 200}
    hosts |= {"evil.example": 403, "127.0.0.1.evil.example:80": 403, "": 403, "[": 403}
    for path in ("/", "/v2/health/live", "/v2/models/age"):
        answers = got(configure(folder), [(path, {"host": host}) for host in hosts], local=True)
        assert [one.status_code for one in answers] == [*hosts.values()], path


def test_elsewhere_a_token_is_needed_and_a_browser_may_send_it(folder: Path) -> None:
    config = configure(folder, tokens="tokens.json")
    until = datetime.now(UTC) + timedelta(days=1)
    given: dict[Scope, tuple[str, ...]] = {"monitor": ("age",), "read": ()}
    secrets = {
        scope: create_token(folder / "tokens.json", scope, (scope,), models, until)
        for scope, models in given.items()
    }
    basic = {
        scope: "Basic " + base64.b64encode(f"me:{secret}".encode()).decode()
        for scope, secret in secrets.items()
    }
    headers = [
        {}, {"authorization": "Basic !"}, {"authorization": basic["read"]},
        {"authorization": basic["monitor"]},
        {"authorization": f"Bearer {secrets['monitor']}"},
    ]  # fmt: skip
    answers = got(config, [("/", one) for one in headers], local=False)
    assert [one.status_code for one in answers] == [401, 400, 403, 200, 200]
    assert answers[0].headers["www-authenticate"].startswith("Basic realm")
    assert "age/1" in answers[3].text
    assert "sepsis" not in answers[3].text
    metrics = got(config, [("/metrics", one) for one in (headers[0], headers[4])], local=True)
    assert [one.status_code for one in metrics] == [401, 200]


def test_where_there_are_tokens_the_page_needs_one_on_this_machine_too(folder: Path) -> None:
    async def ask(listening: Listening) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://{listening.rest}/")
        assert answer.status_code == 401

    served(configure(folder, tokens="tokens.json"), ask)
