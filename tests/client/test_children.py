"""Real zygotes and workers: apart from each other, gone when they are gone, bounded."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from client.children import ZYGOTE, ChildGoneError, Nursery
from client.limits import Limits
from protocol.errors import BusyError
from protocol.journal import verify_journal
from protocol.messages import Enrol, Packet, Place, Stop, pack
from simulations.consortium import Consortium
from tests import federation
from tests.client import zygotes
from tests.consortium import make_consortium, make_job, make_request

LIMITS = Limits(threads=1, memory_mb=2048, disk_mb=256, idle_s=60.0)
Opener = Callable[..., Nursery]
TOLD = (sys.executable, str(Path(zygotes.__file__)), "told")


def nursery_of(
    consortium: Consortium, limits: Limits = LIMITS, command: Sequence[str] = ZYGOTE
) -> Nursery:
    return Nursery(
        federation.hospital_config(consortium, "north"),
        limits,
        command=command,
        environment={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return make_consortium(tmp_path / "consortium")


@pytest.fixture
def nursery(consortium: Consortium) -> Iterator[Opener]:
    opened: list[Nursery] = []

    def open_nursery(limits: Limits = LIMITS) -> Nursery:
        opened.append(nursery_of(consortium, limits))
        return opened[-1]

    yield open_nursery
    for one in opened:
        one.close()


class Jobs:
    """Two jobs of one consortium, and the coordinator's packets about them."""

    def __init__(self, consortium: Consortium) -> None:
        self.key = consortium.coordinator
        self.jobs = [make_job(consortium, make_request(rounds=rounds)) for rounds in (1, 2)]

    def digest(self, number: int) -> str:
        return self.jobs[number].digest

    def enrol(self, number: int) -> Packet:
        data = self.jobs[number].to_bytes()
        body = Enrol(signature=self.key.sign("job", data), heads={}, job=data)
        return self._pack(body, number)

    def stop(self, number: int) -> Packet:
        return self._pack(Stop(reason="over"), number)

    def _pack(self, body: Enrol | Stop, number: int) -> Packet:
        place = Place(job=self.digest(number))
        return pack(body, place, self.key, recipient="*", deadline=time.time() + 60)


class Told:
    """A zygote whose children do what a test says. Starting one takes seconds: tests share it."""

    def __init__(self, consortium: Consortium) -> None:
        self.jobs = Jobs(consortium)
        self.folder = consortium.folder / "north"
        self.home = nursery_of(consortium, command=TOLD)

    def to(self, mode: str) -> Nursery:
        """Its nursery, without children, when the next ones are told to do `mode`."""
        for number in (0, 1):
            self.home.drop(self.jobs.digest(number))
        (self.folder / "MODE").write_text(mode)
        return self.home


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    made = Told(make_consortium(tmp_path_factory.mktemp("told") / "consortium"))
    yield made
    made.home.close()


def soon() -> float:
    return time.time() + 60


def test_two_jobs_at_once_write_one_ledger_and_one_journal(
    consortium: Consortium, nursery: Opener
) -> None:
    jobs, home = Jobs(consortium), nursery()

    kinds = [
        home.child(jobs.digest(number)).ask(packet, until=soon()).kind
        for number, packet in (
            (0, jobs.enrol(0)),
            (1, jobs.enrol(1)),
            (0, jobs.stop(0)),
            (1, jobs.stop(1)),
        )
    ]

    assert kinds == ["enrolled", "enrolled", "stopped", "stopped"]
    assert len(home.pids) == 2
    folder = consortium.folder / "north"
    public = next(card for card in consortium.roster.members if card.name == "north").signing
    assert verify_journal(folder / "journal.jsonl", public) >= 4


def test_a_killed_child_is_noticed_at_once_and_replaced(
    consortium: Consortium, nursery: Opener
) -> None:
    jobs, home = Jobs(consortium), nursery()
    child = home.child(jobs.digest(0))
    assert child.ask(jobs.enrol(0), until=soon()).kind == "enrolled"
    assert child.alive()

    os.kill(child.pid, signal.SIGKILL)
    federation.wait_for(lambda: not child.alive(), 5)
    with pytest.raises(ChildGoneError, match="gone"):
        child.ask(jobs.stop(0), until=soon())
    begin = time.monotonic()
    again = home.child(jobs.digest(0))

    assert again.pid != child.pid
    assert time.monotonic() - begin < 5
    # It came back from the disk: the job that began goes on, and ends.
    assert again.ask(jobs.enrol(0), until=soon()).kind == "enrolled"
    assert again.ask(jobs.stop(0), until=soon()).kind == "stopped"
    assert home.drop(jobs.digest(0)) == "ended with 0"
    assert home.drop(jobs.digest(0)) == "did not run"


def test_children_draw_apart_and_compute(told: Told) -> None:
    jobs, home = told.jobs, told.to("draw")

    for number in (0, 1):
        home.child(jobs.digest(number)).ask(jobs.enrol(number), until=soon())

    drawn = [json.loads(path.read_text()) for path in told.folder.glob("drawn-*.json")]
    assert len(drawn) == 2
    assert drawn[0]["torch"] != drawn[1]["torch"]
    assert drawn[0]["system"] != drawn[1]["system"]
    assert {one["threads"] for one in drawn} == {1}


def test_a_child_cannot_take_more_memory_than_a_job_may(told: Told) -> None:
    jobs, home = told.jobs, told.to("grow")

    with pytest.raises(ChildGoneError, match="no more memory"):
        home.child(jobs.digest(0)).ask(jobs.enrol(0), until=soon())


def test_what_a_crash_says_stays_unsaid(told: Told) -> None:
    jobs, home = told.jobs, told.to("crash")

    with pytest.raises(ChildGoneError) as gone:
        home.child(jobs.digest(0)).ask(jobs.enrol(0), until=soon())

    assert str(told.folder) not in str(gone.value)
    assert home.drop(jobs.digest(0)) == "ended with 1"


def test_an_answer_is_not_waited_for_for_ever(told: Told) -> None:
    jobs, home = told.jobs, told.to("hang")
    child = home.child(jobs.digest(0))

    begin = time.monotonic()
    with pytest.raises(ChildGoneError, match="not waited for"):
        child.ask(jobs.enrol(0), until=time.time() + 0.3)
    with pytest.raises(ChildGoneError, match="not waited for"):
        child.ask(jobs.enrol(0), until=soon(), abandoned=lambda: True)

    assert time.monotonic() - begin < 5
    assert home.drop(jobs.digest(0)) == "ended by signal 9"


def test_an_idle_child_ends_and_the_next_message_starts_another(
    consortium: Consortium, nursery: Opener
) -> None:
    jobs = Jobs(consortium)
    home = nursery(limits=Limits(threads=1, memory_mb=2048, disk_mb=256, idle_s=0.3))
    child = home.child(jobs.digest(0))
    assert child.ask(jobs.enrol(0), until=soon()).kind == "enrolled"

    federation.wait_for(lambda: not child.alive(), 5)

    assert home.child(jobs.digest(0)).pid != child.pid


def test_children_end_with_their_zygote_and_a_new_one_is_started(
    consortium: Consortium, nursery: Opener
) -> None:
    jobs, home = Jobs(consortium), nursery()
    child = home.child(jobs.digest(0))
    zygote = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[1])

    os.kill(zygote, signal.SIGKILL)
    federation.wait_for(lambda: not child.alive(), 5)

    assert home.child(jobs.digest(0)).ask(jobs.enrol(0), until=soon()).kind == "enrolled"


def test_a_zygote_that_cannot_start_is_said(consortium: Consortium) -> None:
    home = Nursery(
        federation.hospital_config(consortium, "north"),
        LIMITS,
        command=(sys.executable, "-c", "pass"),
        environment={},
    )

    with pytest.raises(BusyError, match="no process can be started"):
        home.child("0" * 64)
    home.close()
