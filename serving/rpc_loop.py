"""gRPC's core in the event loop itself, where `grpc.aio` hands each event from thread to thread.

Both servers of grpcio are ways to read one queue: the core, in C++, does all of HTTP/2, TLS,
compression, deadlines and limits of size, and puts what is done into a completion queue. `grpc.aio`
reads it in a thread that wakes the loop for every event, some four for each call. Here the loop
itself reads the queue until it is empty, so calls that come together are answered together, and a
thread waits only while there is nothing to do. The layer that the queue belongs to,
`grpc._cython.cygrpc`, is not public: `serving.rpc_server` decides whether it can be used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from threading import Lock, Thread
from typing import Any, NamedTuple

import grpc
from grpc._cython import cygrpc

from serving.rpc_call import Aborted, Call

log = logging.getLogger("fedward.serving")

_NO_FLAGS = 0
# So many events are met before whatever else the loop has to do has its turn.
_AT_ONCE = 256
# An answer that takes longer is given up when nobody waits for it any more.
_WATCHED_S = 0.05
# A call whose message is not whole by then gives its place to others.
_MESSAGE_S = 30.0
_UNKNOWN = (grpc.StatusCode.UNIMPLEMENTED, "no such method")
_TOO_MANY = (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls at a time")
_NO_MESSAGE = (grpc.StatusCode.INVALID_ARGUMENT, "a call has one message")
_LATE = (grpc.StatusCode.DEADLINE_EXCEEDED, "no whole message in time")
_GIVEN_UP = (grpc.StatusCode.CANCELLED, "given up")
_DEFECT = (grpc.StatusCode.INTERNAL, "a defect")


class _Details(NamedTuple):
    """What a service is asked for a method by, see `grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: Sequence[tuple[str, str | bytes]]


class LoopServer:
    """A server of methods with one message each way, in the event loop that starts it.

    It has the methods of `grpc.aio.Server` that are needed to run it.

    Args:
        options: The core's, as `grpc.aio.server` takes them.
        maximum_concurrent_rpcs: Calls beyond these are refused.
    """

    def __init__(self, options: Sequence[tuple[str, Any]], maximum_concurrent_rpcs: int) -> None:
        self._core = cygrpc.Server(list(options), False)  # noqa: FBT003 - it takes no names
        self._queue = cygrpc.CompletionQueue()
        self._core.register_completion_queue(self._queue)
        self._services: list[grpc.GenericRpcHandler] = []
        self._handlers: dict[bytes, grpc.RpcMethodHandler] = {}
        self._most, self._calls = maximum_concurrent_rpcs, set[Call]()
        self._ending = self._ended = False
        self._watching: asyncio.TimerHandle | None = None
        # Held while the loop reads the queue, so that the thread does not.
        self._reading = Lock()
        self._reading.acquire()

    def add_generic_rpc_handlers(self, services: Sequence[grpc.GenericRpcHandler]) -> None:
        """Serve these, too."""
        self._services += services

    def add_registered_method_handlers(self, _service: str, _methods: object) -> None:
        """Do nothing: generated code repeats here what it said by the method above."""

    def add_insecure_port(self, address: str) -> int:
        """Listen without TLS, and say at which port.

        Raises:
            RuntimeError: The address cannot be bound.
        """
        return _bound(self._core.add_http2_port(address.encode()))

    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Listen with TLS, and say at which port.

        Raises:
            RuntimeError: The address cannot be bound.
        """
        return _bound(self._core.add_http2_port(address.encode(), credentials._credentials))

    async def start(self) -> None:
        """Take calls from now on."""
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._core.start()
        self._expect()
        self._waiting = Thread(target=self._wait, name="gRPC", daemon=True)
        self._waiting.start()

    async def stop(self, grace: float) -> None:
        """Take no call any more; those under way have `grace` seconds to end."""
        if self._ended:
            return
        self._ending = True
        self._core.shutdown(self._queue, self._shut)
        try:
            await asyncio.wait_for(self._over.wait(), grace)
        except TimeoutError:
            self._core.cancel_all_calls()
            await self._over.wait()
        if self._watching is not None:
            self._watching.cancel()
        tasks = [call.task for call in self._calls if call.task is not None]
        for task in tasks:
            self._give_up(task)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._core.destroy()
        # The core would die of an operation that begins after its queue was shut.
        for call in self._calls:
            call.over = True
        self._queue.shutdown()
        await asyncio.to_thread(self._waiting.join)

    def _wait(self) -> None:
        """Wait for events while the loop has nothing to do; the loop says when that is."""
        while not self._ended:
            event = self._queue.poll()
            self._loop.call_soon_threadsafe(self._drain, event)
            # An event holds its call, and the core waits for calls that are held.
            del event
            self._reading.acquire()

    def _drain(self, event: Any = None) -> None:
        """Meet all events there are, and in the loop's next turn those that came of them."""
        met = 0
        while met < _AT_ONCE:
            event = self._queue.poll(0) if event is None else event
            if event.completion_type == cygrpc.CompletionType.queue_timeout:
                break
            if event.completion_type == cygrpc.CompletionType.queue_shutdown:
                self._ended, met = True, 0
                break
            self._meet(event)
            event, met = None, met + 1
        if met:
            self._loop.call_soon(self._drain)
        else:
            self._reading.release()

    def _meet(self, event: Any) -> None:
        """Whoever began something is told that it is done; nothing may end the reading."""
        try:
            event.tag(event)
        except Exception as error:  # noqa: BLE001
            log.error("%s, a defect", type(error).__name__)  # noqa: TRY400

    def _expect(self) -> None:
        """Ask for the next call."""
        self._core.request_call(self._queue, self._queue, self._called)

    def _called(self, event: Any) -> None:
        """A call has come, or none will any more."""
        if not self._ending:
            self._expect()
        if not event.success:
            return
        call = Call(event)
        self._calls.add(call)
        self._watch_soon()
        handler = self._handler(call.method)
        if handler is None:
            self._end(call, *_UNKNOWN)
        elif len(self._calls) > self._most:
            self._end(call, *_TOO_MANY)
        else:
            received = partial(self._received, call, handler)
            call.begin(received, cygrpc.ReceiveMessageOperation(_NO_FLAGS))

    def _handler(self, method: bytes) -> grpc.RpcMethodHandler | None:
        """Whoever answers a method; what nobody does is not remembered, since clients choose it."""
        if (known := self._handlers.get(method)) is not None:
            return known
        for service in self._services:
            found = service.service(_Details(method.decode(errors="replace"), ()))
            if found is not None and not (found.request_streaming or found.response_streaming):
                self._handlers[method] = found
                return found
        return None

    def _received(self, call: Call, handler: grpc.RpcMethodHandler, event: Any) -> None:
        """A message has come, or none will."""
        data = event.batch_operations[0].message()
        if data is None:
            self._end(call, *_NO_MESSAGE)
        else:
            call.task = self._loop.create_task(self._answer(call, handler, data))

    async def _answer(self, call: Call, handler: Any, data: bytes) -> None:
        """Run a method, and send what comes of it."""
        try:
            request = handler.request_deserializer(data)
            reply = handler.response_serializer(await handler.unary_unary(request, call))
            self._end(call, grpc.StatusCode.OK, "", reply)
        except Aborted as ended:
            self._end(call, *ended.args)
        except asyncio.CancelledError:
            self._end(call, *_GIVEN_UP)
        except BaseException as error:  # What nobody foresaw may quote a value.
            log.error("%s, a defect", type(error).__name__)  # noqa: TRY400
            # Without an end its place would be taken for good; a panic of Rust is no `Exception`.
            self._end(call, *_DEFECT)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise

    def _end(self, call: Call, status: grpc.StatusCode, told: str, *reply: bytes) -> None:
        """Send an answer or an error."""
        words = told.encode(errors="replace")
        call.begin(
            partial(self._sent, call),
            cygrpc.SendInitialMetadataOperation((), _NO_FLAGS),
            *(cygrpc.SendMessageOperation(one, _NO_FLAGS) for one in reply),
            cygrpc.SendStatusFromServerOperation((), status.value[0], words, _NO_FLAGS),
        )

    def _sent(self, call: Call, _event: Any) -> None:
        self._calls.discard(call)

    def _watch_soon(self) -> None:
        if self._watching is None:
            self._watching = self._loop.call_later(_WATCHED_S, self._watch)

    def _watch(self) -> None:
        """Hear of it when a client gives up a call that takes long; most end before this asks."""
        self._watching = None
        for call in self._calls:
            if not call.watched_s:
                closed = partial(self._closed, call)
                call.begin(closed, cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
            elif call.task is None and call.watched_s > _MESSAGE_S:
                call.cut(*_LATE)
            call.watched_s += _WATCHED_S
        if self._calls:
            self._watch_soon()

    def _closed(self, call: Call, event: Any) -> None:
        if event.batch_operations[0].cancelled() and call.task is not None:
            self._give_up(call.task)

    def _give_up(self, task: asyncio.Task[None]) -> None:
        """Cancel in a later turn: a task that has not begun would end without ending its call."""
        self._loop.call_soon(task.cancel)

    def _shut(self, _event: Any) -> None:
        self._over.set()


def _bound(port: int) -> int:
    if not port:
        raise RuntimeError("the address cannot be bound")
    return port
