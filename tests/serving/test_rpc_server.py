"""Both servers that gRPC may have answer alike: the one in the event loop, and grpcio's own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import pytest

from serving import rpc_loop
from serving.rpc_loop import LoopServer
from serving.rpc_server import fits, rpc_server

Make = Callable[[Sequence[tuple[str, Any]], int], Any]
OPTIONS = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 2_000_000)]


def grpcios(options: Sequence[tuple[str, Any]], calls: int) -> Any:
    return grpc.aio.server(options=options, maximum_concurrent_rpcs=calls)


class PanicError(BaseException):
    """As what a library in Rust raises."""


@dataclass
class Methods:
    """What is called; `heard` says how the long ones ended."""

    heard: list[str] = field(default_factory=list)

    async def Echo(self, request: bytes, _context: Any) -> bytes:  # noqa: N802
        return request

    async def Told(self, _request: bytes, context: Any) -> bytes:  # noqa: N802
        metadata = dict(context.invocation_metadata())
        left_s = context.time_remaining()
        return f"{metadata['authorization']}|{context.peer()}|{left_s}".encode()

    async def Refuse(self, _request: bytes, context: Any) -> bytes:  # noqa: N802
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such patient: Ä\n%")
        raise AssertionError

    async def Brief(self, _request: bytes, _context: Any) -> bytes:  # noqa: N802
        self.heard.append("began")
        await asyncio.sleep(0.3)
        return b"whole"

    async def Endless(self, _request: bytes, _context: Any) -> bytes:  # noqa: N802
        self.heard.append("began")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.heard.append("given up")
            raise
        return b""

    async def Defect(self, _request: bytes, _context: Any) -> bytes:  # noqa: N802
        raise ValueError("systolic 230")

    async def Panic(self, _request: bytes, _context: Any) -> bytes:  # noqa: N802
        raise PanicError("systolic 230")

    async def Text(self, _request: bytes, _context: Any) -> Any:  # noqa: N802
        return "no bytes"

    async def Surrogate(self, _request: bytes, context: Any) -> bytes:  # noqa: N802
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such patient: \ud800")
        raise AssertionError

    def until(self, *heard: str) -> None:
        end = time.monotonic() + 10
        while self.heard != list(heard):
            assert time.monotonic() < end, self.heard
            time.sleep(0.01)


@dataclass
class Running:
    """A server in a thread of its own, with a client."""

    server: Any
    methods: Methods
    channel: grpc.Channel
    loop: asyncio.AbstractEventLoop

    def call(self, name: str) -> Any:
        return self.channel.unary_unary(f"/test.Service/{name}")

    def stop(self, grace: float) -> Any:
        return asyncio.run_coroutine_threadsafe(self.server.stop(grace), self.loop)


def _service(methods: Methods) -> grpc.GenericRpcHandler:
    names = ("Echo", "Told", "Refuse", "Brief", "Endless", "Defect", "Panic", "Text", "Surrogate")
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(getattr(methods, name), bytes, lambda data: data)
        for name in names
    }
    return grpc.method_handlers_generic_handler("test.Service", handlers)


@contextmanager
def running(make: Make, calls: int = 64) -> Iterator[Running]:
    loop, methods = asyncio.new_event_loop(), Methods()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[Any, int]:
        server = make(OPTIONS, calls)
        server.add_generic_rpc_handlers((_service(methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    one = Running(server, methods, channel, loop)
    try:
        yield one
    finally:
        channel.close()
        one.stop(0).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def status_of(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def asked(port: int, method: bytes) -> bytes:
    """What a call is answered, as bytes, that has a header which grpcio's clients would not send.

    Source: RFC 9113, sections 3.4 and 4.1; RFC 7541, section 6.2.2.
    """
    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": method,
        b":authority": b"x",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        b"authorization": b"systolic 230 \xff",
    }
    block = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in headers.items()
    )
    frames = ((4, 0, 0, b""), (1, 4, 1, block), (0, 1, 1, b"\0\0\0\0\x011"))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        for kind, flags, stream, data in frames:
            head = len(data).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
            connection.sendall(head + data)
        answer = b""
        while b"grpc-message" not in answer and (got := connection.recv(65_536)):
            answer += got
        return answer


@pytest.fixture(params=[LoopServer, grpcios], ids=["loop", "grpcio"])
def make(request: pytest.FixtureRequest) -> Make:
    found: Make = request.param
    return found


class TestBoth:
    def test_an_answer_is_the_methods(self, make: Make) -> None:
        with running(make) as one:
            for data in (b"", b"\x00\xff", bytes(1_000_000)):
                assert one.call("Echo")(data, timeout=10) == data
            squeezed = one.call("Echo")(bytes(9_000), timeout=10, compression=grpc.Compression.Gzip)
            assert squeezed == bytes(9_000)

    def test_a_method_knows_who_asks_and_how_long_they_wait(self, make: Make) -> None:
        with running(make) as one:
            sent = (("authorization", "Bearer x"),)
            who, peer, left_s = one.call("Told")(b"", timeout=9, metadata=sent).decode().split("|")
            assert who == "Bearer x"
            assert peer.startswith("ipv4:127.0.0.1:")
            assert 5 < float(left_s) < 9.5
            assert one.call("Told")(b"", metadata=sent).endswith(b"|None")

    def test_refusals_have_status_and_words(self, make: Make) -> None:
        with running(make) as one:
            told = status_of(lambda: one.call("Refuse")(b"", timeout=10))
            assert told == (grpc.StatusCode.NOT_FOUND, "no such patient: Ä\n%")
            for name in ("Nothing", "/", "\u00e4"):
                code, _ = status_of(partial(one.call(name), b"", timeout=10))
                assert code == grpc.StatusCode.UNIMPLEMENTED
            code, _ = status_of(lambda: one.call("Echo")(bytes(3_000_000), timeout=10))
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert one.call("Echo")(b"still there", timeout=10) == b"still there"

    def test_a_call_without_a_message_is_refused(self, make: Make) -> None:
        with running(make) as one:
            stream = one.channel.stream_unary("/test.Service/Echo")
            # grpcio's own leaves it to the deadline.
            code, _ = status_of(lambda: stream(iter(()), timeout=0.5))
            assert code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DEADLINE_EXCEEDED}
            assert one.call("Echo")(b"1", timeout=10) == b"1"

    def test_whoever_does_not_wait_is_not_answered(self, make: Make) -> None:
        with running(make) as one:
            given_up = one.call("Endless").future(b"")
            one.methods.until("began")
            given_up.cancel()
            one.methods.until("began", "given up")
            code, _ = status_of(lambda: one.call("Endless")(b"", timeout=0.3))
            assert code == grpc.StatusCode.DEADLINE_EXCEEDED
            one.methods.until("began", "given up", "began", "given up")

    def test_a_call_given_up_before_it_begins_takes_no_place(self, make: Make) -> None:
        with running(make, calls=1) as one:
            sending, end = threading.Event(), threading.Event()

            def messages() -> Iterator[bytes]:
                sending.wait(10)
                yield b"1"
                end.wait(10)

            call = one.channel.stream_unary("/test.Service/Endless").future(messages())
            # By then the server asks to hear of its end.
            time.sleep(0.15)
            one.loop.call_soon_threadsafe(time.sleep, 0.3)
            sending.set()
            time.sleep(0.1)
            call.cancel()
            end.set()
            time.sleep(0.4)
            assert one.call("Echo")(b"1", timeout=10) == b"1"

    def test_too_many_calls_are_refused_and_later_ones_are_not(self, make: Make) -> None:
        with running(make, calls=2) as one:
            under_way = [one.call("Brief").future(b"") for _ in range(2)]
            one.methods.until("began", "began")
            code, _ = status_of(lambda: one.call("Echo")(b"", timeout=10))
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert [call.result(10) for call in under_way] == [b"whole", b"whole"]
            # A place is free again a moment after its answer has arrived.
            time.sleep(0.1)
            assert one.call("Echo")(b"1", timeout=10) == b"1"

    def test_calls_under_way_are_answered_before_the_end(self, make: Make) -> None:
        with running(make) as one:
            call = one.call("Brief").future(b"")
            one.methods.until("began")
            ended = one.stop(10)
            assert call.result(10) == b"whole"
            ended.result(10)
            code, _ = status_of(lambda: one.call("Echo")(b"", timeout=1))
            assert code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}

    def test_a_call_that_does_not_end_is_ended(self, make: Make) -> None:
        with running(make) as one:
            call = one.call("Endless").future(b"")
            one.methods.until("began")
            one.stop(0.2).result(10)
            assert call.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
            one.methods.until("began", "given up")

    def test_many_at_a_time_get_their_own_answers(self, make: Make) -> None:
        with running(make) as one, ThreadPoolExecutor(8) as pool:
            sent = [str(place).encode() for place in range(400)]
            calls = pool.map(lambda data: one.call("Echo")(data, timeout=20), sent)
            assert list(calls) == sent


class TestLoopServer:
    def test_it_is_the_one_in_use(self) -> None:
        assert fits(grpc.__version__) == isinstance(_made(rpc_server), LoopServer)

    def test_a_defect_tells_nobody_a_value(self, caplog: pytest.LogCaptureFixture) -> None:
        with running(LoopServer) as one:
            told = status_of(lambda: one.call("Defect")(b"", timeout=10))
            assert told == (grpc.StatusCode.INTERNAL, "a defect")
        assert "ValueError, a defect" in caplog.text
        assert "systolic" not in caplog.text

    def test_every_call_has_an_end(self, caplog: pytest.LogCaptureFixture) -> None:
        with running(LoopServer, calls=1) as one:
            for name in ("Panic", "Text"):
                told = status_of(partial(one.call(name), b"", timeout=10))
                assert told == (grpc.StatusCode.INTERNAL, "a defect")
                # A place is free again a moment after its answer has arrived.
                time.sleep(0.05)
            told = status_of(lambda: one.call("Surrogate")(b"", timeout=10))
            assert told == (grpc.StatusCode.NOT_FOUND, "no such patient: ?")
        assert "systolic" not in caplog.text

    def test_a_call_without_a_message_gives_its_place_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rpc_loop, "_MESSAGE_S", 0.2)
        with running(LoopServer, calls=1) as one:
            end = threading.Event()

            def messages() -> Iterator[bytes]:
                end.wait(10)
                yield from ()

            call = one.channel.stream_unary("/test.Service/Echo").future(messages(), timeout=10)
            assert status_of(partial(call.result, 10)) == (
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "no whole message in time",
            )
            end.set()
            time.sleep(0.05)
            assert one.call("Brief")(b"", timeout=10) == b"whole"

    def test_a_call_that_is_heard_of_too_late_begins_nothing(self) -> None:
        with running(LoopServer) as one:
            call = one.call("Endless").future(b"")
            one.methods.until("began")
            (late,) = one.server._calls
            task, late.task = late.task, None
            one.stop(0).result(10)
            # Were its end sent now, the process would die.
            one.loop.call_soon_threadsafe(task.cancel)
            one.methods.until("began", "given up")
            assert call.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
            assert asyncio.run_coroutine_threadsafe(_ended(task), one.loop).result(10)

    def test_names_and_headers_that_are_no_text_do_no_harm(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with running(rpc_server) as one:
            port = one.channel._channel.target().decode().rpartition(":")[2]
            assert b"no such method" in asked(int(port), b"/test.Service/\xff")
            assert b"\x00\x00\x00\x00\x011" in asked(int(port), b"/test.Service/Echo")
            assert one.call("Echo")(b"1", timeout=10) == b"1"
        assert not caplog.records

    def test_it_rests_when_nobody_asks(self) -> None:
        with running(LoopServer) as one:
            for _ in range(20):
                one.call("Echo")(b"", timeout=10)
            time.sleep(0.2)
            before = time.process_time()
            time.sleep(0.5)
            assert time.process_time() - before < 0.2
            assert not one.server._calls

    def test_an_address_is_taken_once(self) -> None:
        with running(LoopServer) as one:
            port = one.channel._channel.target().decode().rpartition(":")[2]
            with pytest.raises(RuntimeError, match="cannot be bound"):
                _made(LoopServer).add_insecure_port(f"127.0.0.1:{port}")

    def test_its_place_is_taken_where_grpcio_is_another(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(grpc, "__version__", "1.99.0")
        assert isinstance(_made(rpc_server), grpc.aio.Server)
        assert "1.99.0" in caplog.text


def _made(make: Make) -> Any:
    async def made() -> Any:
        return make(OPTIONS, 4)

    return asyncio.run(made())


async def _ended(task: asyncio.Task[None]) -> bool:
    await asyncio.wait((task,))
    return task.exception() is None
