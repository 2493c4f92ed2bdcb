import os
import resource
import sys
import threading
from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest

from privacy.he import child
from privacy.he.accumulator import Shape
from privacy.he.bits import pack_bits
from privacy.he.child import REQUEST, SHAPE, Service, main, read_exactly, serve, write_all
from privacy.he.parameters import parameters_for
from protocol.errors import IntegrityError

SHAPE_OF_SUM = Shape.of(parameters_for(radix=2541, max_sites=3), 70)
CONTRIBUTION = bytes(64) + pack_bits(np.arange(128, dtype=np.uint64), SHAPE_OF_SUM.bits)


class Pipes:
    """Both ends of what joins a parent and a child."""

    def __init__(self) -> None:
        self.child_reads, self.parent_writes = os.pipe()
        self.parent_reads, self.child_writes = os.pipe()

    def ask(self, operation: bytes, number: int, body: bytes = b"") -> bytes:
        write_all(self.parent_writes, REQUEST.pack(operation, number) + body)
        return bytes(read_exactly(self.parent_reads, 1))

    def during(self, run: Callable[[], None], conversation: Callable[["Pipes"], None]) -> None:
        serving = threading.Thread(target=run)
        serving.start()
        try:
            conversation(self)
        finally:
            os.close(self.parent_writes)
            serving.join(10)
            for descriptor in (self.child_reads, self.parent_reads, self.child_writes):
                os.close(descriptor)
        assert not serving.is_alive()


def converse(pipes: Pipes) -> None:
    assert pipes.ask(child.OPEN, 1, SHAPE.pack(*astuple(SHAPE_OF_SUM))) == child.DONE
    assert pipes.ask(child.RESIDUES, 1) == child.REFUSED
    assert pipes.ask(child.ADD, 1, CONTRIBUTION) == child.DONE
    assert pipes.ask(child.ADD, 1, b"\xff" * len(CONTRIBUTION)) == child.REFUSED
    assert pipes.ask(child.RESIDUES, 1) == child.DONE
    residues = bytes(read_exactly(pipes.parent_reads, SHAPE_OF_SUM.residues_size))
    assert residues.startswith(CONTRIBUTION[64:])
    assert pipes.ask(child.CLOSE, 1) == child.DONE


def test_requests_are_answered_until_the_pipe_ends() -> None:
    pipes = Pipes()
    pipes.during(lambda: serve(pipes.child_reads, pipes.child_writes, os.getppid()), converse)


def test_the_process_limits_itself_and_serves_its_standard_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipes = Pipes()
    limits: dict[int, tuple[int, int]] = {}

    class Stream:
        def __init__(self, descriptor: int) -> None:
            self._descriptor = descriptor

        def fileno(self) -> int:
            return self._descriptor

    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    monkeypatch.setattr(sys, "argv", ["child", str(os.getppid()), "12345"])
    monkeypatch.setattr(sys, "stdin", Stream(pipes.child_reads))
    monkeypatch.setattr(sys, "stdout", Stream(pipes.child_writes))
    pipes.during(main, converse)
    assert limits == {resource.RLIMIT_AS: (12345, 12345), resource.RLIMIT_CORE: (0, 0)}


def test_a_process_whose_parent_is_gone_ends_although_its_pipe_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(child, "_LOOK_S", 0.01)
    incoming, outgoing = os.pipe()
    serve(incoming, outgoing, os.getppid() + 1)
    os.close(incoming)
    os.close(outgoing)


def test_half_a_message_is_an_error() -> None:
    incoming, outgoing = os.pipe()
    os.write(outgoing, b"abc")
    os.close(outgoing)
    with pytest.raises(IntegrityError):
        read_exactly(incoming, 4)
    assert not read_exactly(incoming, 4)
    os.close(incoming)


def test_only_known_sums_are_served() -> None:
    with pytest.raises(KeyError):
        Service().body_size(child.ADD, 7)
