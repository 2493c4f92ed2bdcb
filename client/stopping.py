"""How a node is told to end: by a signal, in two degrees of urgency."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether the node was told to stop, and since when.

    Args:
        patience_s: Seconds that an answer under way gets.
    """

    def __init__(self, patience_s: float) -> None:
        self._told = threading.Event()
        self._patience_s = patience_s
        self._since = 0.0

    def tell(self) -> None:
        """Stop; the second call gives up the answer under way."""
        if self._told.is_set():
            self._patience_s = 0.0
        else:
            self._since = time.monotonic()
            self._told.set()

    @property
    def told(self) -> bool:
        """Whether no new message is to be taken."""
        return self._told.is_set()

    @property
    def impatient(self) -> bool:
        """Whether the answer under way is to be given up as well."""
        return self.told and time.monotonic() - self._since > self._patience_s

    def wait(self, seconds: float) -> None:
        """Sleep, but not when told to stop."""
        self._told.wait(seconds)


@contextmanager
def signals(patience_s: float) -> Iterator[Stop]:
    """SIGTERM and SIGINT tell the node to stop; a second one makes it impatient."""
    stop = Stop(patience_s)

    def tell(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.tell()

    before = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
