"""Memory of process trees while they work: sampled, with shared pages counted once.

A sample of a tree is the sum of its processes' proportional set sizes, and of the in-memory files
that its processes hold open, which belong to no process' own size. What is seen of a peak is a
lower bound, as a peak can be over between two samples; the pause between them is short.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

PAUSE_S = 0.25
PAGE = os.sysconf("SC_PAGE_SIZE")
FORKING = "zygote"
"""In the command line of processes that are forks of each other."""
_MEMORY_FILE = "/memfd:"


@dataclass(frozen=True)
class Sample:
    """What a tree held at one instant, in bytes.

    Args:
        at: Unix time in seconds.
        processes: Bytes by process: its number and the beginning of its command line.
        files: Bytes of in-memory files.
    """

    at: float
    processes: Mapping[str, int]
    files: int

    def of(self, name: str) -> int:
        """Bytes of the processes with a word in their command line."""
        return sum(size for command, size in self.processes.items() if name in command)

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.processes.values()) + self.files


@dataclass
class Tree:
    """Samples of one process tree.

    Args:
        root: Number of its first process.
    """

    root: int
    samples: list[Sample] = field(default_factory=list)

    def peak(self, begin: float = 0.0, end: float = float("inf")) -> Sample:
        """The largest sample between two times."""
        within = [one for one in self.samples if begin <= one.at <= end]
        return max(within, key=lambda one: one.total)

    def take(self) -> None:
        """Take a sample, if the tree lives."""
        sizes: dict[str, int] = {}
        files: dict[int, int] = {}
        for pid in tree_of(self.root):
            try:
                command = _command(pid)
                sizes[f"{pid} {command}"] = _size(pid, command)
                files.update(_memory_files(pid))
            except OSError:
                continue  # it ended meanwhile
        if sizes:
            self.samples.append(Sample(time.time(), sizes, sum(files.values())))


class Watch:
    """Samples trees from a thread of its own; a context manager.

    Args:
        roots: Number of each tree's first process, by the tree's name.
    """

    def __init__(self, roots: Mapping[str, int]) -> None:
        self.trees = {name: Tree(root) for name, root in roots.items()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(PAUSE_S):
            for tree in self.trees.values():
                tree.take()


def tree_of(root: int) -> tuple[int, ...]:
    """A process and all that come from it."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                todo += [int(child) for child in path.read_text().split()]
            except OSError:
                continue
    return tuple(found)


def runs(root: int, word: str) -> bool:
    """Whether a process of a tree has a word in its command line."""
    for pid in tree_of(root):
        try:
            if word in _command(pid):
                return True
        except OSError:
            continue  # it ended meanwhile
    return False


def processor_s(root: int, *, without: str) -> float:
    """Processor seconds that a tree has used, children that ended included.

    Args:
        root: Number of the tree's first process.
        without: A word in the command lines of processes that do not count.
    """
    ticks = 0
    for pid in tree_of(root):
        if without not in _command(pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _size(pid: int, command: str) -> int:
    """Resident bytes; where processes are forks of each other, each gets its share of a page."""
    if FORKING in command:
        return _proportional(pid)
    return PAGE * int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def _proportional(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    return 0


def _memory_files(pid: int) -> Iterator[tuple[int, int]]:
    """Number and bytes of the in-memory files that a process holds open."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(path.readlink()).startswith(_MEMORY_FILE):
                state = path.stat()
                yield state.st_ino, 512 * state.st_blocks
        except OSError:
            continue


def _command(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return " ".join(Path(word.decode(errors="replace")).name for word in words[:4])[:60]
