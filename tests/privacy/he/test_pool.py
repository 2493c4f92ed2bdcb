import os
import threading
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from privacy.he import pool
from privacy.he.accumulator import Shape
from privacy.he.bits import BLOCK
from privacy.he.parameters import parameters_for
from privacy.he.pool import LEAST, memory, spread
from privacy.he.secret import SecretKey
from privacy.he.sum import CiphertextSum
from protocol.errors import FedwardError, IntegrityError

FAILURE = FedwardError("another process failed")


def children() -> str:
    """Processes of this thread, those included that ended and were not waited for."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text(encoding="ascii")


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})


@pytest.mark.parametrize("count", [0, 1, LEAST - 1, LEAST, 20])
def test_every_block_is_done_once_wherever_it_is_done(count: int) -> None:
    done, where = memory(100, count), memory(800, count).view(np.int64)

    def work(block: int) -> None:
        done[block] += 1
        where[block] = os.getpid()

    spread(count, work, FAILURE)
    assert done.tolist() == [1] * count + [0] * (100 - count)
    assert len(set(where[:count].tolist())) == (3 if count >= LEAST else min(count, 1))


@pytest.mark.parametrize("bad", [0, 1, 5])
def test_an_error_in_any_process_is_an_error(bad: int, capfd: pytest.CaptureFixture[str]) -> None:
    def work(block: int) -> None:
        if block == bad:
            raise IntegrityError("this block")

    before = children()
    with pytest.raises(FedwardError, match="this block" if bad == 0 else "another process"):
        spread(LEAST, work, FAILURE)
    assert children() == before
    assert not capfd.readouterr().err


@pytest.mark.parametrize(("bad", "expected"), [(4, 0), (1, 1)])
def test_a_forked_process_ends_with_what_became_of_its_blocks(
    bad: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []

    class Ended(BaseException):
        pass

    def end(status: int) -> NoReturn:
        ended.append(status)
        raise Ended

    def work(block: int) -> None:
        if block == bad:
            raise ValueError

    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(Ended):
        pool._forked(range(4), work)
    assert ended == [expected]


def test_long_vectors_are_encrypted_and_decrypted_by_several_processes() -> None:
    packing = parameters_for(radix=2541, max_sites=2)
    key = SecretKey.generate(packing)
    count = LEAST * BLOCK - 100
    words = np.arange(count, dtype=np.uint64) * np.uint64(1_000_003)
    payload = key.encrypt(words)
    shape = Shape.of(packing, count)
    seeds = {payload[64 * index : 64 * index + 64] for index in range(shape.ciphertexts)}
    assert len(seeds) == shape.ciphertexts
    total = CiphertextSum(packing, count)
    total.add(payload)
    residues = total.residues()
    assert np.array_equal(key.decrypt(residues, count), words)
    for block in (0, 1):
        broken = bytearray(residues)
        start = block * BLOCK // 8 * shape.bits
        broken[start : start + BLOCK // 8 * shape.bits] = b"\xff" * (BLOCK // 8 * shape.bits)
        with pytest.raises(IntegrityError):
            key.decrypt(bytes(broken), count)
