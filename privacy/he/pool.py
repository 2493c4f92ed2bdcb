"""Independent blocks of a long vector on all cores, by forked processes that share one memory.

SEAL's bindings hold the interpreter's lock, so threads would wait for each other. A forked process
computes with what this one holds, SEAL and numpy alone, writes into memory that both see, and ends;
nothing is sent and no key leaves memory. Short vectors are done here, as a fork takes milliseconds.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from protocol.errors import FedwardError

Bytes = npt.NDArray[np.uint8]
Work = Callable[[int], None]

LEAST = 8
"""Fewest blocks that are worth a fork: two million words, or 0.3 s of encryption."""


def memory(size: int, count: int) -> Bytes:
    """Zeroed memory where `spread` of so many blocks leaves its result.

    Forked processes write for this one into memory that both see. Where there are none it is
    ordinary memory: pages of shared memory come one by one, which takes twenty times as long.
    """
    if count < LEAST:
        return np.zeros(size, dtype=np.uint8)
    return np.frombuffer(mmap.mmap(-1, size), dtype=np.uint8)


def spread(count: int, work: Work, failure: FedwardError) -> None:
    """Do blocks 0 to `count` - 1, on all cores this process may use if there are many.

    Args:
        count: Blocks.
        work: Does one block and leaves its result in `memory`.
        failure: Raised when another process could not do its blocks; an error here is raised as
            it is.
    """
    workers = len(os.sched_getaffinity(0)) if count >= LEAST else 1
    children = [_forked(range(index, count, workers), work) for index in range(1, workers)]
    try:
        for block in range(0, count, workers):
            work(block)
    finally:
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(ends):
        raise failure


def _forked(blocks: Iterable[int], work: Work) -> int:
    """Number of a new process that does some blocks and ends."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        for block in blocks:
            work(block)
        status = 0
    finally:
        # Nothing of the parent's may be flushed, closed or reported twice.
        os._exit(status)
