"""An HTTP request and its answer as ASGI has them, and what becomes of errors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from protocol.errors import FedwardError
from serving.bodies import to_json, unpack
from serving.dataplane import Caller
from serving.refusal import Kind, Refusal

log = logging.getLogger("fedward.serving")
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


@dataclass(frozen=True, eq=False)
class Asked:
    """Who asks, and the headers by their names in small letters, of each the first."""

    caller: Caller
    headers: Mapping[bytes, bytes]

    @classmethod
    def of(cls, scope: Scope) -> Asked:
        """What a connection's scope tells."""
        headers = dict(reversed(scope["headers"]))
        peer = scope.get("client")
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        return cls(Caller(authorization=authorization, peer=peer[0] if peer else ""), headers)

    def header(self, name: bytes) -> str:
        """A header, empty where there is none."""
        return self.headers.get(name, b"").decode("latin-1")


async def read_body(asked: Asked, receive: Receive, most: int) -> bytes:
    """The body, unpacked; refused as soon as it is too long.

    Args:
        asked: What the client says of it.
        receive: Of the request.
        most: Longest that is taken, packed or not.

    Raises:
        Refusal: It is longer, or cannot be unpacked.
        ClientDisconnect: There is nobody any more to whom an answer could go.
    """
    # The server below has refused lengths that are no number, and keeps a body to what it says.
    length = asked.header(b"content-length")
    if length and int(length) > most:
        raise _too_long(most)
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_long(most)
        more = message.get("more_body", False)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    return unpack(body, asked.header(b"content-encoding"), most)


def _too_long(most: int) -> Refusal:
    return Refusal(Kind.TOO_LARGE, "a body", expected=f"at most {most} bytes")


async def answer(
    send: Send, status: int, body: bytes, headers: Mapping[bytes, bytes] | None = None
) -> None:
    """Send a whole answer; it is JSON unless a header says otherwise."""
    told = {b"content-length": b"%d" % len(body), b"content-type": b"application/json"}
    if headers:
        told.update(headers)
    await send({"type": "http.response.start", "status": status, "headers": [*told.items()]})
    await send({"type": "http.response.body", "body": body})


def problem_of(error: Exception) -> tuple[int, bytes, Mapping[bytes, bytes]]:
    """Status, body and headers of an error; what nobody foresaw may quote a value, so is unsaid."""
    status, told = 500, "the server cannot answer; its log says why"
    if isinstance(error, Refusal):
        status, told = STATUS[error.kind], str(error)
    elif isinstance(error, ClientDisconnect):
        status, told = 400, "the client went away"
    elif isinstance(error, FedwardError):
        log.error("%s", error)
    else:
        told = f"{type(error).__name__}, a defect"
        log.error("%s", told)
    headers = {b"www-authenticate": b"Bearer"} if status == 401 else {}
    return status, to_json({"error": told}), headers
