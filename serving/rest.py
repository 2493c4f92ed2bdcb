"""The Open Inference Protocol over HTTP: one thin translator, nothing is decided here."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from protocol.errors import FedwardError
from serving.bodies import pack, read_document, read_request, unpack, write_reply
from serving.config import is_loopback
from serving.dataplane import EXTENSIONS, Caller, DataPlane
from serving.metrics import CONTENT_TYPE
from serving.openapi import document
from serving.page import HEADERS, page
from serving.refusal import Kind, Refusal, invalid

log = logging.getLogger("fedward.serving")
LENGTH = "Inference-Header-Content-Length"
STATUS = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.UNKNOWN: 404,
    Kind.TOO_LARGE: 413,
    Kind.TOO_MANY: 429,
    Kind.UNAVAILABLE: 503,
    Kind.DEADLINE: 504,
}
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:[0-9]*)?")
_Handler = Callable[[Request], Awaitable[Response]]


def make_app(plane: DataPlane, most_bytes: int, *, local: bool = False) -> Starlette:
    """The application.

    Args:
        plane: What answers.
        most_bytes: Largest body, unpacked.
        local: Whether only this machine reaches it, without tokens: then the page needs none.
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
    for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        gets |= {model: rest.model, f"{model}/ready": rest.model_ready}
    # Routes are tried in order: what is asked most stands first.
    routes = [
        Route(f"{model}/infer", _answered(rest.infer), methods=["POST"])
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    ]
    routes += [
        Route(f"{model}/feedback", _answered(rest.feedback), methods=["POST"])
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    ]
    routes += [Route(path, _answered(handler), methods=["GET"]) for path, handler in gets.items()]
    return Starlette(routes=routes, exception_handlers={HTTPException: _unrouted})


class _Rest:
    """One handler for each route."""

    def __init__(self, plane: DataPlane, most_bytes: int, *, local: bool) -> None:
        self._plane = plane
        self._most = most_bytes
        self._local = local

    async def page(self, request: Request) -> Response:
        plane, caller = self._plane, _browser(request)
        if self._local:
            _check_host(request.headers.get("host", ""))
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
        ready = self._plane.model_ready(model, version)
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
        self._plane.admit(_caller(request), "monitor")
        return Response(self._plane.metrics.text(), media_type=CONTENT_TYPE)

    async def feedback(self, request: Request) -> Response:
        caller, (model, version) = _caller(request), _model(request)
        self._plane.admit(caller, "feedback", model)
        told = read_document(await self._body(request))
        taken = self._plane.feedback(caller, model, version, told)
        return JSONResponse({"model_name": model, "labels": taken})

    async def infer(self, request: Request) -> Response:
        with self._plane.metered(request.path_params["model"], "rest"):
            return await self._infer(request)

    async def _infer(self, request: Request) -> Response:
        caller, (model, version) = _caller(request), _model(request)
        # Before the body is read: whoever may not ask shall not make the server work.
        self._plane.admit(caller, "predict", model)
        body = unpack(
            await self._body(request), request.headers.get("content-encoding", ""), self._most
        )
        asked, binary = read_request(model, version, body, request.headers.get(LENGTH, ""))
        reply = await self._plane.infer(caller, asked)
        answer, length = write_reply(reply, binary)
        headers = {} if length is None else {LENGTH: str(length)}
        answer, encoding = pack(answer, request.headers.get("accept-encoding", ""))
        if encoding:
            headers["content-encoding"] = encoding
        kind = "application/json" if length is None else "application/octet-stream"
        return Response(answer, headers=headers, media_type=kind)

    async def _body(self, request: Request) -> bytes:
        """The body as it came; refused as soon as it is too long or takes too long."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._plane.deadline_s):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    if size > self._most:
                        raise Refusal(
                            Kind.TOO_LARGE, "a body", expected=f"at most {self._most} bytes"
                        )
        except TimeoutError:
            raise Refusal(Kind.DEADLINE, "the body did not arrive in time") from None
        return b"".join(parts)


def _caller(request: Request) -> Caller:
    peer = request.client.host if request.client else ""
    return Caller(authorization=request.headers.get("authorization", ""), peer=peer)


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


def _check_host(host: str) -> None:
    """A page that needs no token is for who asks this machine by its own name.

    Raises:
        Refusal: Another name was made to lead here, as a foreign page in a browser can do.
    """
    match = _HOST.fullmatch(host)
    if match is None or not is_loopback(match[1].strip("[]")):
        raise Refusal(Kind.FORBIDDEN, "the page is for this machine alone")


def _model(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")


def _answered(handler: _Handler) -> _Handler:
    """Every error as a status and one line; what nobody foresaw may quote a value, so is unsaid."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            return _refused(STATUS[refusal.kind], str(refusal))
        except ClientDisconnect:
            return _refused(400, "the client went away")
        except FedwardError as error:
            log.error("%s", error)  # noqa: TRY400 - the message is the whole story
            return _refused(500, "the server cannot answer; its log says why")
        except Exception as error:  # noqa: BLE001
            log.error("%s, a defect", type(error).__name__)  # noqa: TRY400 - see above
            return _refused(500, f"{type(error).__name__}, a defect")

    return answer


async def _unrouted(_: Request, error: Exception) -> Response:
    """What no handler was found for, in the words of the others."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    allowed = (error.headers or {}) if isinstance(error, HTTPException) else {}
    told = "no such path" if status == 404 else "not this method"
    return JSONResponse({"error": told}, status, headers=dict(allowed))


def _refused(status: int, problem: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": problem}, status, headers=headers)
