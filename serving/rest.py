"""The Open Inference Protocol over HTTP: one thin translator, nothing is decided here.

Predictions are asked a thousand times for each other question, so they go past the routing, whose
time would be most of theirs.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib.metadata import version as installed
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.bodies import pack, read_document, read_request, write_reply
from serving.browsers import misled
from serving.dataplane import EXTENSIONS, Caller, DataPlane
from serving.exchange import Asked, answer, problem_of, read_body
from serving.metrics import CONTENT_TYPE
from serving.openapi import document
from serving.page import HEADERS, page
from serving.payloads import LARGE
from serving.refusal import Kind, Refusal, invalid

LENGTH = b"inference-header-content-length"
_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_MODELS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
_Handler = Callable[[Request], Awaitable[Response]]


def make_app(plane: DataPlane, most_bytes: int, *, local: bool = False) -> ASGIApp:
    """The application.

    Args:
        plane: What answers.
        most_bytes: Largest body, unpacked.
        local: Whether only this machine reaches it, without tokens: then the page needs none, and
            whoever asks must call this machine by its own name.
    """
    rest = _Rest(plane, most_bytes, local=local)
    gets = {
        "/": rest.page,
        "/openapi.json": rest.openapi,
        "/metrics": rest.metrics,
        "/v2/health/live": rest.live,
        "/v2/health/ready": rest.ready,
        "/v2": rest.server,
    }
    for model in _MODELS:
        gets |= {model: rest.model, f"{model}/ready": rest.model_ready}
    posts = {f"{model}/feedback": rest.feedback for model in _MODELS}
    routes = [Route(path, _answered(handler), methods=["POST"]) for path, handler in posts.items()]
    routes += [Route(path, _answered(handler), methods=["GET"]) for path, handler in gets.items()]
    # What is no POST is told so.
    infer = _Infer(plane, most_bytes)
    routes += [Route(f"{model}/infer", infer, methods=["POST"]) for model in _MODELS]
    others = Starlette(routes=routes, exception_handlers={HTTPException: _unrouted})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if refusal := misled(scope, local=local):
            await answer(send, *problem_of(refusal))
        elif scope["method"] == "POST" and _INFER.fullmatch(scope["path"]):
            await infer(scope, receive, send)
        else:
            await others(scope, receive, send)

    return app


class _Infer:
    """Predictions."""

    def __init__(self, plane: DataPlane, most_bytes: int) -> None:
        self._plane = plane
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            found = _INFER.fullmatch(scope["path"])
            model, version = found.groups("") if found else ("", "")
            with self._plane.metered(model, "rest"):
                told = await self._answer(Asked.of(scope), model, version, receive)
        except Exception as error:  # noqa: BLE001 - every error is answered
            told = problem_of(error)
        await answer(send, *told)

    async def _answer(
        self, asked: Asked, model: str, version: str, receive: Receive
    ) -> tuple[int, bytes, Mapping[bytes, bytes]]:
        """Status, body and headers."""
        # Before the body is read: whoever may not ask shall not make the server work.
        async with self._plane.entered(asked.caller, "predict", model) as admitted:
            body = await read_body(asked, receive, self._most)
            read = partial(read_request, version, body, asked.header(LENGTH))
            request, binary = await asyncio.to_thread(read) if len(body) > LARGE else read()
            reply = await self._plane.infer(admitted, request)
        body, length = write_reply(reply, binary)
        headers: dict[bytes, bytes] = {}
        if length is not None:
            headers = {LENGTH: b"%d" % length, b"content-type": b"application/octet-stream"}
        body, encoding = pack(body, asked.header(b"accept-encoding"))
        if encoding:
            headers[b"content-encoding"] = encoding.encode()
        return 200, body, headers


class _Rest:
    """One handler for each other route."""

    def __init__(self, plane: DataPlane, most_bytes: int, *, local: bool) -> None:
        self._plane = plane
        self._most = most_bytes
        self._local = local

    async def page(self, request: Request) -> Response:
        plane, caller = self._plane, _browser(request)
        if self._local:
            return HTMLResponse(page(plane, lambda _: True), headers=HEADERS)
        try:
            plane.admit(caller, "monitor")
        except Refusal as refusal:
            if refusal.kind is not Kind.UNAUTHENTICATED:
                raise
            # A browser asks for a password, which is the token.
            headers = {"WWW-Authenticate": 'Basic realm="fedward", charset="UTF-8"'}
            return JSONResponse({"error": str(refusal)}, 401, headers=headers)
        shown = page(plane, lambda model: plane.admits(caller, "monitor", model))
        return HTMLResponse(shown, headers=HEADERS)

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(document())

    async def live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        ready = self._plane.ready
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def server(self, request: Request) -> Response:
        self._plane.admit(_caller(request), "read")
        told = {"name": "fedward", "version": installed("fedward"), "extensions": [*EXTENSIONS]}
        return JSONResponse(told)

    async def model_ready(self, request: Request) -> Response:
        model, version = _model(request)
        ready = self._plane.model_ready(_caller(request), model, version)
        return JSONResponse({"name": model, "ready": ready}, 200 if ready else 503)

    async def model(self, request: Request) -> Response:
        told = self._plane.describe(_caller(request), *_model(request))
        metadata: dict[str, Any] = {
            "name": told.name,
            "versions": list(told.versions),
            "platform": "fedward",
            "properties": dict(told.properties),
        }
        for side in ("inputs", "outputs"):
            metadata[side] = [
                {"name": name, "datatype": datatype, "shape": list(shape)}
                for name, datatype, shape in getattr(told, side)
            ]
        return JSONResponse(metadata)

    async def metrics(self, request: Request) -> Response:
        plane, caller = self._plane, _caller(request)
        plane.admit(caller, "monitor")
        told = plane.metrics.text(lambda model: plane.admits(caller, "monitor", model))
        return Response(told, media_type=CONTENT_TYPE)

    async def feedback(self, request: Request) -> Response:
        model, version = _model(request)
        asked = Asked.of(request.scope)
        async with self._plane.entered(asked.caller, "feedback", model) as admitted:
            told = read_document(await read_body(asked, request.receive, self._most))
            taken = self._plane.feedback(admitted, version, told)
        return JSONResponse({"model_name": model, "labels": taken})


def _caller(request: Request) -> Caller:
    return Asked.of(request.scope).caller


def _browser(request: Request) -> Caller:
    """Who asks; of a browser the password is the token."""
    caller = _caller(request)
    kind, _, coded = caller.authorization.partition(" ")
    if kind.lower() != "basic":
        return caller
    try:
        _, _, token = base64.b64decode(coded, validate=True).decode().partition(":")
    except ValueError:
        raise invalid("authorization", expected="a name and a token") from None
    return Caller(authorization=f"Bearer {token}", peer=caller.peer)


def _model(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")


def _answered(handler: _Handler) -> _Handler:
    """Every error as a status and one line."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001
            status, body, headers = problem_of(error)
        told = {name.decode(): value.decode() for name, value in headers.items()}
        return Response(body, status, headers=told, media_type="application/json")

    return answered


async def _unrouted(_: Request, error: Exception) -> Response:
    """What no handler was found for, in the words of the others."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    allowed = (error.headers or {}) if isinstance(error, HTTPException) else {}
    told = "no such path" if status == 404 else "not this method"
    return JSONResponse({"error": told}, status, headers=dict(allowed))
