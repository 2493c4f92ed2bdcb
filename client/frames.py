"""Messages between the node's processes: a small head on a socket, large parts in shared memory.

An update has tens of megabytes. Its bytes are written once into an anonymous file, whose descriptor
goes over the socket; nothing is cut into pieces or copied through a pipe, and nothing touches a
disk.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from protocol.canonical import from_canonical, to_canonical
from protocol.errors import IntegrityError

MAX_HEAD = 131_072
_MAX_DESCRIPTORS = 2


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One message.

    Args:
        head: Small values, as `protocol.canonical` spells them.
        parts: Large values by name.
        descriptors: Open descriptors that came along; the receiver closes them.
    """

    head: Mapping[str, Any]
    parts: Mapping[str, bytes] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a channel that keeps messages apart and shows when the other end is gone."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(
    channel: socket.socket,
    head: Mapping[str, Any],
    parts: Mapping[str, bytes] | None = None,
    descriptors: Sequence[int] = (),
) -> None:
    """Send one message.

    Args:
        channel: One end of a `pair`.
        head: Small values.
        parts: Large values by name; None to send none.
        descriptors: Open descriptors that the other process shall have; at most one, and not
            together with parts.

    Raises:
        IntegrityError: The head is too large.
        OSError: The other end is gone.
    """
    sizes = None if parts is None else [[name, len(data)] for name, data in parts.items()]
    data = to_canonical({"head": head, "parts": sizes})
    if len(data) > MAX_HEAD:
        raise IntegrityError("head of a message between processes", expected=f"{MAX_HEAD} bytes")
    if parts is None:
        socket.send_fds(channel, [data], list(descriptors))
        return
    memory = os.memfd_create("packet")
    try:
        with os.fdopen(memory, "wb", buffering=0, closefd=False) as file:
            for part in parts.values():
                _write_all(file.fileno(), part)
        socket.send_fds(channel, [data], [memory])
    finally:
        os.close(memory)


def receive(channel: socket.socket) -> Frame | None:
    """The next message; None when the other end is gone.

    Raises:
        TimeoutError: None came within the channel's timeout.
        IntegrityError: What came is no message.
    """
    try:
        data, descriptors = _take(channel)
    except ConnectionError:
        # The kernel tells of the other end's death once, before what it had said.
        try:
            data, descriptors = _take(channel)
        except ConnectionError:
            return None
    return _frame(data, descriptors)


def _take(channel: socket.socket) -> tuple[bytes, list[int]]:
    data, descriptors, _, _ = socket.recv_fds(channel, MAX_HEAD, _MAX_DESCRIPTORS)
    return data, descriptors


def _frame(data: bytes, descriptors: list[int]) -> Frame | None:
    if not data:
        return None
    document = from_canonical(data)
    if document["parts"] is None:
        return Frame(head=document["head"], descriptors=tuple(descriptors))
    try:
        return Frame(head=document["head"], parts=_read(descriptors[0], document["parts"]))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _read(memory: int, sizes: Sequence[tuple[str, int]]) -> dict[str, bytes]:
    """Cut a memory file into its parts."""
    if sum(size for _, size in sizes) != os.fstat(memory).st_size:
        raise IntegrityError("a message between processes lacks bytes")
    parts, start = {}, 0
    if not os.fstat(memory).st_size:
        return {name: b"" for name, _ in sizes}
    with mmap.mmap(memory, 0, access=mmap.ACCESS_READ) as view:
        for name, size in sizes:
            parts[name] = view[start : start + size]
            start += size
    return parts


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
