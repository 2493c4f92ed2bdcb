"""Adding encrypted contributions without a key: what the coordinator may import.

`CiphertextSum` adds in this process. `SumProcess` does the same in a child process that holds no
key, so that bytes from the network are never parsed beside anything worth stealing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from threading import Lock, Timer
from types import TracebackType
from typing import IO, Protocol, Self, cast

from privacy.he import child
from privacy.he.accumulator import Accumulator, Shape
from privacy.he.parameters import check_packing
from protocol.errors import IntegrityError
from protocol.jobs import Packing

_UNNAMED = "a hospital"
_ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "OPENBLAS_NUM_THREADS": "1",
    # Contributions are of one size, so freed memory is kept: a sixth of the time.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}
_COMMAND = (sys.executable, "-P", "-s", "-c", "from privacy.he.child import main; main()")
_GRACE_S = 5.0


class Sum(Protocol):
    """One sum of encrypted contributions."""

    def add(self, payload: bytes, *, sender: str = _UNNAMED) -> None:
        """Add what `SecretKey.encrypt` gave; a refused contribution leaves the sum as it was.

        Args:
            payload: The contribution.
            sender: Whose it is, for the message.

        Raises:
            IntegrityError: It is no contribution to this sum; the message names the sender.
        """
        ...

    def residues(self) -> bytes:
        """The sum so far, for `SecretKey.decrypt`.

        Raises:
            IntegrityError: Nothing has been added.
        """
        ...


class CiphertextSum:
    """A `Sum` in this process.

    Args:
        packing: The job's parameters for this purpose.
        num_words: W, words of a contribution, presence and tags included.

    Raises:
        InputError: The parameters are not exact and secure.
    """

    def __init__(self, packing: Packing, num_words: int) -> None:
        check_packing(packing)
        self._accumulator = Accumulator(Shape.of(packing, num_words))

    def add(self, payload: bytes, *, sender: str = _UNNAMED) -> None:
        """See `Sum.add`."""
        try:
            self._accumulator.add(payload)
        except IntegrityError as error:
            raise error.at(f"contribution of {sender}") from error

    def residues(self) -> bytes:
        """See `Sum.residues`."""
        return bytes(self._accumulator.residues())


class SumProcess:
    """A child process in which contributions are parsed and added; a context manager.

    One process serves many sums, also several at once and from any thread. It starts in 0.1 s
    without being waited for. A child that ended is replaced by the next `sum`; its sums are lost.

    Guarantee: the child is a fresh interpreter, no fork. It gets no key, none of the environment
    and no descriptor but its pipes, and dies with this process.

    Args:
        timeout_s: How long one answer may take.
        memory_bytes: Limit of the child's address space.
    """

    def __init__(self, *, timeout_s: float = 600.0, memory_bytes: int = 4 << 30) -> None:
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._opened = 0

    def __enter__(self) -> Self:
        """Start the child."""
        with self._lock:
            self._running()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the child."""
        with self._lock:
            self._stop()

    @property
    def pid(self) -> int | None:
        """The child's process number, None before the start and after the end."""
        return self._process.pid if self._process else None

    def sum(self, packing: Packing, num_words: int) -> RemoteSum:
        """Open a sum in the child.

        Args:
            packing: The job's parameters for this purpose.
            num_words: W, words of a contribution, presence and tags included.

        Raises:
            InputError: The parameters are not exact and secure.
            IntegrityError: The child does not start.
        """
        check_packing(packing)
        shape = Shape.of(packing, num_words)
        with self._lock:
            process = self._running()
            self._opened += 1
            number = self._opened
        self.ask(process, child.OPEN, number, child.SHAPE.pack(*astuple(shape)))
        return RemoteSum(self, process, number, shape)

    def ask(
        self,
        process: subprocess.Popen[bytes],
        operation: bytes,
        number: int,
        body: bytes = b"",
        reply_size: int = 0,
    ) -> bytes:
        """Send one request to the child that holds a sum and wait for its answer.

        Raises:
            IntegrityError: The child refused, or ended, or took too long and was ended.
        """
        with self._lock:
            timer = Timer(self._timeout_s, process.kill)
            timer.start()
            try:
                done, reply = _exchange(process, (operation, number, body), reply_size)
            except (OSError, ValueError, IntegrityError) as error:
                process.kill()
                process.wait()
                raise IntegrityError(
                    "the summing process ended",
                    remedy="its sums are lost; begin the attempt again",
                ) from error
            finally:
                timer.cancel()
        if not done:
            raise IntegrityError("refused by the summing process")
        return reply

    def _running(self) -> subprocess.Popen[bytes]:
        """The child, started if there is none that lives."""
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self._process = subprocess.Popen(  # noqa: S603 (nothing in it comes from outside)
                [*_COMMAND, str(os.getpid()), str(self._memory_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                cwd="/",
                env=_ENVIRONMENT,
                # A terminal's Ctrl-C is for the parent; this one ends with it, and says nothing.
                start_new_session=True,
            )
        return self._process

    def _stop(self) -> None:
        """Close the pipes, upon which the child ends, and wait for it."""
        process, self._process = self._process, None
        if process is None:
            return
        timer = Timer(_GRACE_S, process.kill)
        timer.start()
        process.__exit__(None, None, None)
        timer.cancel()


class RemoteSum:
    """A `Sum` in a `SumProcess`, which makes it."""

    def __init__(
        self, owner: SumProcess, process: subprocess.Popen[bytes], number: int, shape: Shape
    ) -> None:
        self._owner = owner
        self._process = process
        self._number = number
        self._shape = shape
        self._contributions = 0

    def add(self, payload: bytes, *, sender: str = _UNNAMED) -> None:
        """See `Sum.add`; also raises when the child ended while it read the contribution."""
        self.check(payload, sender=sender)
        try:
            self._owner.ask(self._process, child.ADD, self._number, payload)
        except IntegrityError as error:
            raise error.at(f"contribution of {sender}") from error
        self._contributions += 1

    def check(self, payload: bytes, *, sender: str = _UNNAMED) -> None:
        """Hold a contribution's size against the sum's, and add nothing.

        Raises:
            IntegrityError: It is not one contribution's, or there are as many as fit already.
        """
        try:
            self._shape.check_payload(len(payload), self._contributions)
        except IntegrityError as error:
            raise error.at(f"contribution of {sender}") from error

    def residues(self) -> bytes:
        """See `Sum.residues`; also raises when the child ended."""
        size = self._shape.residues_size
        return self._owner.ask(self._process, child.RESIDUES, self._number, reply_size=size)

    @property
    def lost(self) -> bool:
        """Whether the child that held this sum has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """Free the child's memory of this sum."""
        self._owner.ask(self._process, child.CLOSE, self._number)


def _exchange(
    process: subprocess.Popen[bytes], request: tuple[bytes, int, bytes], reply_size: int
) -> tuple[bool, bytes]:
    """One request and its answer, of exactly the length that a good answer has."""
    operation, number, body = request
    incoming = cast("IO[bytes]", process.stdout).fileno()
    outgoing = cast("IO[bytes]", process.stdin).fileno()
    child.write_all(outgoing, child.REQUEST.pack(operation, number))
    child.write_all(outgoing, body)
    status = bytes(child.read_exactly(incoming, 1))
    if status == child.REFUSED:
        return False, b""
    reply = child.read_exactly(incoming, reply_size)
    if status != child.DONE or len(reply) != reply_size:
        raise IntegrityError("the summing process", expected="a whole answer")
    return True, bytes(reply)
