"""The process in which a coordinator parses contributions, started by privacy.he.sum.

A fresh interpreter that was given no key and imports no more than numpy. It
cannot grow beyond its memory limit, writes no core, reads from its pipe exactly as many bytes as
the open sum says, and ends when its pipe or its parent does.
"""

from __future__ import annotations

import os
import resource
import select
import struct
import sys
from typing import Final

from privacy.he.accumulator import Accumulator, Shape
from protocol.errors import FedwardError, IntegrityError

OPEN: Final = b"O"
ADD: Final = b"A"
RESIDUES: Final = b"R"
CLOSE: Final = b"C"
DONE: Final = b"D"
REFUSED: Final = b"X"

REQUEST = struct.Struct("<cQ")
"""What is asked, and of which sum; OPEN is followed by a SHAPE, ADD by a contribution."""

SHAPE = struct.Struct("<5Q")
"""The fields of `Shape` in their order."""

_LOOK_S = 2.0
"""How often a waiting process looks whether its parent still lives."""


class Service:
    """The sums of one process by their numbers."""

    def __init__(self) -> None:
        self._sums: dict[int, Accumulator] = {}

    def body_size(self, operation: bytes, number: int) -> int:
        """Bytes that must follow a request."""
        if operation == OPEN:
            return SHAPE.size
        return self._sums[number].shape.payload_size if operation == ADD else 0

    def answer(
        self, operation: bytes, number: int, body: memoryview
    ) -> tuple[bytes, bytes | memoryview]:
        """Do what is asked; the answer is DONE and the sum if asked for, or REFUSED."""
        result: bytes | memoryview = b""
        try:
            if operation == OPEN:
                degree, modulus, plain, words, sites = SHAPE.unpack(body)
                self._sums[number] = Accumulator(
                    Shape(
                        degree=degree,
                        modulus=modulus,
                        plain_modulus=plain,
                        num_words=words,
                        max_sites=sites,
                    )
                )
            elif operation == ADD:
                self._sums[number].add(body)
            elif operation == RESIDUES:
                result = self._sums[number].residues()
            else:
                del self._sums[number]
        except FedwardError:
            return REFUSED, b""
        return DONE, result


def serve(incoming: int, outgoing: int, parent: int) -> None:
    """Answer requests until the pipe or the parent ends.

    Args:
        incoming: Descriptor to read requests from.
        outgoing: Descriptor to write answers to.
        parent: Process whose death ends this one.
    """
    service = Service()
    while request := read_exactly(incoming, REQUEST.size, parent):
        operation, number = REQUEST.unpack(request)
        body = read_exactly(incoming, service.body_size(operation, number), parent)
        for part in service.answer(operation, number, body):
            write_all(outgoing, part)


def read_exactly(descriptor: int, size: int, parent: int | None = None) -> memoryview:
    """Read `size` bytes; nothing if the pipe or `parent` ended before the first.

    Raises:
        IntegrityError: The pipe ended after the first byte.
    """
    data = memoryview(bytearray(size))
    filled = 0
    while filled < size:
        if parent is not None and not _readable(descriptor, parent):
            return data[:0]
        count = os.readv(descriptor, [data[filled:]])
        if not count:
            break
        filled += count
    if 0 < filled < size:
        raise IntegrityError("the summing process", expected="a whole message")
    return data[:filled]


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write everything, however small the pipe."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def main() -> None:
    """Run as a process: the arguments are the parent's number and the memory limit in bytes."""
    parent, limit = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.stdin.fileno(), sys.stdout.fileno(), parent)


def _readable(descriptor: int, parent: int) -> bool:
    """Wait for bytes or the pipe's end; False when the parent is gone."""
    while not select.select([descriptor], [], [], _LOOK_S)[0]:
        if os.getppid() != parent:
            return False
    return True
