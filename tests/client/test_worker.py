"""A worker answers what comes, and ends with its job or its channel."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from client.frames import pair, receive, send
from client.member import Member
from client.session import MemorySessions
from client.worker import answer_all
from protocol.messages import Enrol, Packet, Place, Stop, pack
from tests.consortium import make_consortium, make_job, make_request


def test_it_answers_until_the_job_is_closed_or_the_channel(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path)
    job, key = make_job(consortium, make_request()), consortium.coordinator
    data = job.to_bytes()
    ours, theirs = pair()
    kinds: list[str] = []

    def ask() -> None:
        for body in (
            Enrol(signature=key.sign("job", data), heads={}, job=data),
            Stop(reason="over"),
        ):
            place, deadline = Place(job=job.digest), time.time() + 60
            packet = pack(body, place, key, recipient="*", deadline=deadline)
            send(ours, {}, packet.to_wire())
            frame = receive(ours)
            kinds.extend([] if frame is None else [Packet.from_wire(frame.parts).kind])

    # The ledger belongs to the thread that opened it, so the coordinator has the other one.
    coordinator = threading.Thread(target=ask)
    with consortium.open("north") as hospital, ours, theirs:
        member = Member(hospital, MemorySessions())
        coordinator.start()
        answer_all(theirs, member)
        coordinator.join(10)
        ours.close()
        answer_all(theirs, member)

    assert kinds == ["enrolled", "stopped"]


def test_it_does_not_wait_for_ever() -> None:
    ours, theirs = pair()
    theirs.settimeout(0.01)
    with ours, theirs, pytest.raises(TimeoutError):
        answer_all(theirs, None)  # type: ignore[arg-type]
