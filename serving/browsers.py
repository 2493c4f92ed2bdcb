"""What no page of elsewhere may make a browser ask in the name of whoever sits before it.

A server without tokens knows its clients by where they are or by their certificate, and so a
browser there is one of them, whatever page it shows. Who has a token means to ask.
"""

from __future__ import annotations

import re
from functools import lru_cache

from starlette.types import Scope

from serving.config import is_loopback
from serving.refusal import Kind, Refusal

_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:[0-9]*)?")


def misled(scope: Scope, *, local: bool) -> Refusal | None:
    """Why a request is not answered, if a page of elsewhere may be behind it.

    Args:
        scope: Of the request.
        local: Whether the server is for this machine alone, and has no tokens.
    """
    host = _header(scope, b"host")
    # Another name that was made to lead here is what a page of elsewhere could use.
    if local and not _of_this_machine(host):
        return Refusal(Kind.FORBIDDEN, "without tokens the server is for this machine alone")
    # A browser says of which page a request is that changes something; others say nothing.
    origin = _header(scope, b"origin")
    if not origin or _header(scope, b"authorization"):
        return None
    place = origin.partition(b"://")[2]
    if place == host or (local and _of_this_machine(place)):
        return None
    return Refusal(Kind.FORBIDDEN, "a page of elsewhere may ask nothing without a token")


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


@lru_cache(maxsize=64)
def _of_this_machine(host: bytes) -> bool:
    match = _HOST.fullmatch(host.decode("latin-1"))
    return match is not None and is_loopback(match[1].strip("[]"))
