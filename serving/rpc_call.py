"""A call of gRPC as its handler sees it, over grpcio's core; see `serving.rpc_loop`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import grpc

# The core's latest time, in seconds, stands for a client that does not say how long it waits.
_FOREVER_S = 2.0**62


class Aborted(Exception):  # noqa: N818 - how a handler ends a call
    """A status and a line, for the client."""


class Call:
    """A call as its handler sees it: what is used here of `grpc.aio.ServicerContext`.

    Args:
        event: By which the core told of it.

    Attributes:
        method: What is called, as `/service/method`.
        task: What answers it, from when its message has come.
        watched_s: For how long it has been asked whether somebody waits; 0 before.
        over: Whether the core takes nothing more.
    """

    __slots__ = ("_core", "_deadline", "_metadata", "method", "over", "task", "watched_s")

    def __init__(self, event: Any) -> None:
        details = event.call_details
        self._core, self._metadata = event.call, event.invocation_metadata or ()
        self._deadline, self.method = details.deadline, details.method
        self.task: asyncio.Task[None] | None = None
        self.watched_s, self.over = 0.0, False

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Names and values that came before the message."""
        return self._metadata

    def peer(self) -> str:
        """The other end's address, such as `ipv4:127.0.0.1:5000`."""
        address: bytes = self._core.peer()
        return address.decode()

    def time_remaining(self) -> float | None:
        """Seconds that the client still waits; None where it does not say."""
        left_s = self._deadline - time.time()
        return None if left_s > _FOREVER_S else max(left_s, 0.0)

    async def abort(self, status: grpc.StatusCode, told: str) -> NoReturn:
        """End the call with an error."""
        raise Aborted(status, told)

    def begin(self, told: Callable[[Any], None], *operations: Any) -> None:
        """Have the core do something, and tell when it is done."""
        if not self.over:
            self._core.start_server_batch(operations, told)

    def cut(self, status: grpc.StatusCode, told: str) -> None:
        """End the call, whatever is under way; a message that is waited for does not come."""
        self._core.cancel(status.value[0], told)
