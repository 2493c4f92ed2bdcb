from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.lockfile import is_locked, lock, open_lock

HOLD = """
import sys
from pathlib import Path
from protocol.lockfile import lock, open_lock
print(lock(open_lock(Path(sys.argv[1]))), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@contextmanager
def holding(path: Path) -> Iterator[bool]:
    descriptor = open_lock(path)
    try:
        yield lock(descriptor)
    finally:
        os.close(descriptor)


def test_one_holds_it_and_everybody_sees(path: Path) -> None:
    assert not is_locked(path)
    with holding(path) as first:
        assert first
        assert path.stat().st_mode & 0o777 == 0o600
        with holding(path) as second:
            assert not second
        assert is_locked(path)
    assert path.exists()
    assert not is_locked(path)
    with holding(path) as again:
        assert again


def test_it_ends_with_its_process(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        assert is_locked(path)
        with holding(path) as taken:
            assert not taken
        process.kill()
        process.wait()
        assert not is_locked(path)


def test_who_looks_keeps_nobody_out(path: Path) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            is_locked(path)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(300):
            with holding(path) as taken:
                assert taken
    finally:
        over.set()
        for looker in lookers:
            looker.join()


def test_who_may_only_read_may_look(path: Path) -> None:
    with holding(path):
        path.chmod(0o400)
        assert is_locked(path)
