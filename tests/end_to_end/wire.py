"""What somebody between hospitals and coordinator sees, with TLS and, if TLS were broken, below it.

Two relays stand in a row: the first records what is on the wire; the second holds the server's TLS
key, records what was encrypted, and encrypts it again.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
_CHUNK = 65_536
_LOOK_S = 0.2
_PATIENCE_S = 30.0
_HANDSHAKE, _RECORD_HEAD, _LONGEST_RECORD = 22, 5, 2**14 + 256
Contexts = Callable[[], tuple[ssl.SSLContext, ssl.SSLContext]]


@dataclass
class Talk:
    """One connection: what the hospital's side said, and what was answered."""

    said: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)


class Relay:
    """A port of this machine that passes everything on to another and keeps a copy.

    Args:
        onward: The port behind it; looked up at each connection.
        contexts: Where TLS ends here and begins anew: as server and as client.
    """

    def __init__(self, onward: Callable[[], int], contexts: Contexts | None = None) -> None:
        self._onward = onward
        self._contexts = contexts
        self._listener = socket.create_server((HOST, 0))
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.talks: list[Talk] = []
        self._start(self._accept)

    def all(self) -> bytes:
        """Everything that passed, one direction of one connection after the other."""
        return b"".join(bytes(part) for talk in self.talks for part in (talk.said, talk.answered))

    def close(self) -> None:
        """End every connection."""
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def _start(self, act: Callable[..., None], *words: object) -> None:
        self._threads.append(threading.Thread(target=act, args=words, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._pass_on, stream)

    def _pass_on(self, near: socket.socket) -> None:
        # A hospital that goes, or a coordinator that restarts, ends a connection and no more.
        with ExitStack() as streams, suppress(OSError):
            streams.enter_context(near)
            near.settimeout(_PATIENCE_S)
            far = streams.enter_context(
                socket.create_connection((HOST, self._onward()), _PATIENCE_S)
            )
            if self._contexts is not None:
                server, client = self._contexts()
                near = streams.enter_context(server.wrap_socket(near, server_side=True))
                far = streams.enter_context(client.wrap_socket(far, server_hostname=HOST))
            talk = Talk()
            self.talks.append(talk)
            self._copy(near, far, talk)

    def _copy(self, near: socket.socket, far: socket.socket, talk: Talk) -> None:
        ways = {near: (far, talk.said), far: (near, talk.answered)}
        while not self._over.is_set():
            for stream in _readable((near, far)):
                data = _received(stream)
                if data is None:
                    continue
                if not data:
                    return
                other, copy = ways[stream]
                copy += data
                other.sendall(data)


def _readable(streams: tuple[socket.socket, ...]) -> list[socket.socket]:
    """Which have something; TLS may hold bytes that the socket no longer shows."""
    held: list[socket.socket] = [
        one for one in streams if isinstance(one, ssl.SSLSocket) and one.pending()
    ]
    return held or select.select(streams, (), (), _LOOK_S)[0]


def _received(stream: socket.socket) -> bytes | None:
    """What is there; None where it was no data, such as a session ticket of TLS."""
    stream.settimeout(0.0)
    try:
        return stream.recv(_CHUNK)
    except (ssl.SSLWantReadError, BlockingIOError):
        return None
    finally:
        stream.settimeout(_PATIENCE_S)


@dataclass(frozen=True)
class Tap:
    """Both relays.

    Args:
        outer: Where hospitals connect; what it keeps is what the network sees.
        inner: What it keeps is what TLS protected.
    """

    outer: Relay
    inner: Relay


@contextmanager
def tapped(tls: Callable[[], Path], superlink: Callable[[], int]) -> Iterator[Tap]:
    """Two relays before a SuperLink.

    Args:
        tls: The coordinator's folder of certificates, once there is one.
        superlink: The SuperLink's port, once it is known.
    """

    def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(tls() / "server.pem", tls() / "server.key")
        return server, ssl.create_default_context(cafile=str(tls() / "ca.pem"))

    inner = Relay(superlink, contexts)
    outer = Relay(lambda: inner.port)
    try:
        yield Tap(outer, inner)
    finally:
        outer.close()
        inner.close()


def records(stream: bytes) -> list[int]:
    """The types of a stream's TLS records; the last one may be cut off.

    Raises:
        ValueError: There is something else in it.

    Source: RFC 8446, section 5.1.
    """
    kinds, place = [], 0
    while place + _RECORD_HEAD <= len(stream):
        kind, major = stream[place], stream[place + 1]
        length = int.from_bytes(stream[place + 3 : place + _RECORD_HEAD], "big")
        if kind not in (20, 21, 22, 23) or major != 3 or length > _LONGEST_RECORD:
            raise ValueError("not a TLS record")
        kinds.append(kind)
        place += _RECORD_HEAD + length
    return kinds
