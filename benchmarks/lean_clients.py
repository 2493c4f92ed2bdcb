"""Clients that cost next to nothing: requests made beforehand, sent over plain sockets.

A usual client takes as long for a request as a fast server for its answer, and 16 of them in one
process would measure themselves. These do no more than find out where an answer ends and that it is
one, so all of them in one thread are busy for a tenth of the time. All servers meet the same.

Source of the frames: RFC 9113, sections 4 and 6, and of the header blocks RFC 7541, section 6.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM = _ACK = 1
_END_HEADERS = 4
_MOST = 2**31 - 1
_STATIC_ENTRIES = 61


class Client(ABC):
    """One connection that asks the same again and again.

    Args:
        address: HOST:PORT.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heard = b""

    @abstractmethod
    def ask(self) -> None:
        """Send a request."""

    @abstractmethod
    def hear(self) -> bool:
        """Take what has come, and say whether the answer is whole.

        Raises:
            SystemExit: It is none.
        """

    def _take(self) -> bytes:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionResetError
        return self._heard + data


class HttpClient(Client):
    """JSON over HTTP/1.1."""

    def __init__(self, address: str, path: str, body: bytes) -> None:
        super().__init__(address)
        head = f"POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n"
        self._request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    def ask(self) -> None:
        """Send the request."""
        self.socket.sendall(self._request)

    def hear(self) -> bool:
        """Whether head and body are there."""
        self._heard = heard = self._take()
        end = heard.find(b"\r\n\r\n")
        if end < 0:
            return False
        if not heard.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(heard.decode(errors="replace"))
        place = heard.lower().find(b"content-length: ", 0, end) + len(b"content-length: ")
        if len(heard) < end + 4 + int(heard[place : heard.find(b"\r", place)]):
            return False
        self._heard = b""
        return True


class GrpcClient(Client):
    """Unary calls over HTTP/2 without TLS; from the second one on, headers are a byte each."""

    def __init__(self, address: str, method: str, message: bytes) -> None:
        super().__init__(address)
        wide = _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _MOST))
        window = _frame(_WINDOW, 0, 0, struct.pack(">I", _MOST - 65_535))
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + wide + window)
        headers = {
            ":method": "POST", ":scheme": "http", ":path": method, ":authority": address,
            "te": "trailers", "content-type": "application/grpc", "user-agent": "lean",
        }  # fmt: skip
        self._block = b"".join(_added(name, value) for name, value in headers.items())
        self._known = bytes(
            0x80 | (_STATIC_ENTRIES + place) for place in range(len(headers), 0, -1)
        )
        self._data = struct.pack(">BI", 0, len(message)) + message
        self._stream, self._told = -1, False

    def ask(self) -> None:
        """Send the call on a stream of its own."""
        self._stream, self._told = self._stream + 2, False
        head = _frame(_HEADERS, _END_HEADERS, self._stream, self._block)
        self.socket.sendall(head + _frame(_DATA, _END_STREAM, self._stream, self._data))
        self._block = self._known

    def hear(self) -> bool:
        """Whether the trailers are there; a call that was refused has these alone."""
        heard, start, whole = self._take(), 0, False
        while len(heard) >= start + 9:
            end = start + 9 + int.from_bytes(heard[start : start + 3], "big")
            if len(heard) < end:
                break
            whole |= self._hear(heard[start + 3], heard[start + 4], heard[start + 9 : end])
            start = end
        self._heard = heard[start:]
        return whole

    def _hear(self, kind: int, flags: int, payload: bytes) -> bool:
        """Take a frame, and say whether it ends the answer."""
        if kind in {_RESET, _GOAWAY} or (
            kind == _HEADERS and flags & _END_STREAM and not self._told
        ):
            raise SystemExit(f"refused: {payload!r}")
        self._told |= kind == _DATA
        if kind in {_SETTINGS, _PING} and not flags & _ACK:
            self.socket.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        return kind == _HEADERS and bool(flags & _END_STREAM)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">IBBI", len(payload), kind, flags, stream)[1:] + payload


def _added(name: str, value: str) -> bytes:
    """A header that the server remembers: its entry is the first of the dynamic table."""
    return b"\x40" + b"".join(bytes([len(one)]) + one.encode() for one in (name, value))


def seconds_of(client: Client) -> float:
    """How long one answer takes."""
    start = time.perf_counter()
    client.ask()
    while not client.hear():
        pass
    return time.perf_counter() - start


def throughput(connect: Callable[[], Client], clients: int, seconds: float) -> float:
    """Answers a second to clients of which each asks anew as soon as it is answered."""
    asking = {one.socket.fileno(): one for one in (connect() for _ in range(clients))}
    poll, count = select.epoll(), 0
    for place, client in asking.items():
        poll.register(place, select.EPOLLIN)
        client.ask()
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for place, _ in poll.poll(30):
            client = asking[place]
            if client.hear():
                count += 1
                client.ask()
    taken = time.perf_counter() - start
    poll.close()
    for client in asking.values():
        client.socket.close()
    return count / taken
