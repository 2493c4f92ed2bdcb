"""A coordinator's TLS door and a hospital's proxy, on loopback and for a few connections."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from server.certificates import Issued, load_key, make_authority, make_server, new_key_pem

HOST = "127.0.0.1"
_PATIENCE_S = 10.0


def new_key() -> ec.EllipticCurvePrivateKey:
    return load_key(new_key_pem(), "a new key")


def authority(host: str = HOST) -> Issued:
    return make_authority(host, datetime.now(UTC), new_key())


@dataclass
class Door:
    """A listening socket; what was said to it is kept."""

    port: int
    heard: list[bytes] = field(default_factory=list)


@contextmanager
def listening(answer: Callable[[socket.socket, Door], None]) -> Iterator[Door]:
    """Answer every connection in a thread until the block ends."""
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(_PATIENCE_S)
        door = Door(listener.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    stream, _ = listener.accept()
                except OSError:
                    return
                with stream:
                    stream.settimeout(_PATIENCE_S)
                    try:
                        answer(stream, door)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield door
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(_PATIENCE_S)


def heads(stream: socket.socket) -> bytes:
    """Bytes up to the first empty line."""
    read = b""
    while not read.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        if not byte:
            break
        read += byte
    return read


@contextmanager
def superlink(
    folder: Path,
    ca: Issued,
    *,
    host: str = HOST,
    issued: datetime | None = None,
    status: int = 401,
    ahead_s: float = 0.0,
    dated: bool = True,
) -> Iterator[Door]:
    """A TLS server that answers as a SuperLink does.

    Args:
        folder: Where its files are.
        ca: Who vouches for it.
        host: The name on its certificate.
        issued: When it was issued; None for now.
        status: Of every answer.
        ahead_s: How far its clock is ahead of this machine's.
        dated: Whether it says the time.
    """
    made = make_server(host, issued or datetime.now(UTC), ca, new_key())
    (folder / "door.pem").write_bytes(made.pem)
    (folder / "door.key").write_bytes(key_pem(made))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "door.pem", folder / "door.key")

    def answer(stream: socket.socket, door: Door) -> None:
        with context.wrap_socket(stream, server_side=True) as secured:
            door.heard.append(heads(secured))
            now = datetime.now(UTC) + timedelta(seconds=ahead_s)
            date = f"Date: {format_datetime(now, usegmt=True)}\r\n" if dated else ""
            secured.sendall(f"HTTP/1.1 {status} Said\r\n{date}Content-Length: 0\r\n\r\n".encode())

    with listening(answer) as door:
        yield door


@contextmanager
def proxy(*, status: int = 200, login: str = "") -> Iterator[Door]:
    """A CONNECT proxy; with a login it answers others with 407."""

    def answer(stream: socket.socket, door: Door) -> None:
        head = heads(stream)
        door.heard.append(head)
        said = status if f"Proxy-Authorization: {login}".encode() in head or not login else 407
        stream.sendall(f"HTTP/1.1 {said} Said\r\nVia: door\r\n\r\n".encode())
        if said == 200:
            host, port = head.split(b" ")[1].decode().rsplit(":", 1)
            with socket.create_connection((host, int(port)), timeout=_PATIENCE_S) as onward:
                back = threading.Thread(target=pump, args=(onward, stream))
                back.start()
                pump(stream, onward)
                back.join(_PATIENCE_S)

    with listening(answer) as door:
        yield door


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until one side ends."""
    try:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def key_pem(made: Issued) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
