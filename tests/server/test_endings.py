"""Stops, losses for good, and what a coordinator holds in memory while answers come."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from privacy.he.sum import SumProcess
from protocol.jobs import Named
from protocol.messages import Packet
from server.course import STOPPED, Course
from server.exchange import Arrival, Exchange, HaltedError
from server.launch import Event, Outcome
from server.requests import EncryptionRequest
from simulations.engine import Way, inline_app
from simulations.inline import InlineGrid
from tests.consortium import make_consortium, make_job, make_request
from tests.server.ward import AFTER, BEFORE, Death, Ward

FIRST_ATTEMPT = 4
STOP = Packet("stop", "x", b"x", bytes(64), {})


@pytest.fixture(scope="module")
def child() -> Iterator[SumProcess]:
    with SumProcess() as process:
        yield process


def make_ward(folder: Path, child: SumProcess, *deaths: Death, **request: Any) -> Ward:
    hospitals = request.get("hospitals", 3)
    consortium = make_consortium(folder / "c", hospitals=hospitals)
    return Ward(consortium, make_job(consortium, make_request(**request)), child, deaths)


def both(message: int, when: str) -> Death:
    return Death(message, when, hospital=True, coordinator=True)


def alone(message: int, when: str) -> Death:
    return Death(message, when, hospital=False, coordinator=True)


class TestStop:
    @pytest.mark.parametrize("kind", ["enrolled", "round", "finished"])
    def test_a_request_ends_the_job_at_the_next_command(
        self, kind: str, tmp_path: Path, child: SumProcess
    ) -> None:
        ward = make_ward(tmp_path, child)

        def ask(event: Event) -> None:
            if event.kind == kind:
                ward.folder().request_stop()

        outcome = ward.run(watch=lambda course: _watch(course, ask))
        # Once all have stored the model there is nothing left to stop.
        expected = ("completed", "") if kind == "finished" else ("stopped", STOPPED)
        assert (outcome.status, outcome.reason) == expected
        assert [event.kind for event in outcome.events].count(kind) == 1
        assert ward.folder().outcome == outcome

    def test_a_request_ends_the_waiting(self, tmp_path: Path) -> None:
        class Silent(InlineGrid):
            def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
                looks.extend(1 for _ in message_ids)
                return ()

        looks: list[int] = []
        consortium = make_consortium(tmp_path / "c")
        with inline_app(Way.to(consortium)) as app:
            exchange = Exchange(Silent(app, 3), poll_s=0.001, halted=lambda: len(looks) > 5)
            with pytest.raises(HaltedError):
                exchange.ask({2: STOP, 3: STOP}, lambda _: None, timeout_s=60)
        assert len(looks) == 6

    def test_a_stopped_job_settles_everywhere(self, tmp_path: Path, child: SumProcess) -> None:
        ward = make_ward(tmp_path, child)
        ask = lambda event: ward.folder().request_stop() if event.kind == "round" else None  # noqa: E731
        assert ward.run(watch=lambda course: _watch(course, ask)).status == "stopped"
        ward.check_ledgers()


def _watch(course: Course, ask: Callable[[Event], None]) -> None:
    course._launch = replace(course._launch, watch=ask)


class TestLosses:
    def test_one_crash_after_the_other(self, tmp_path: Path, child: SumProcess) -> None:
        deaths = [alone(1, AFTER), alone(9, BEFORE), both(16, BEFORE), alone(30, AFTER)]
        ward = make_ward(tmp_path, child, *deaths, rounds=3)
        assert ward.run().status == "completed"
        assert ward.lives == 5
        assert len(ward.weights()) == 1
        ward.check_ledgers()

    def test_more_crashes_than_spare_attempts_end_the_job_and_say_so(
        self, tmp_path: Path, child: SumProcess
    ) -> None:
        ward = make_ward(tmp_path, child, *(alone(5 + 6 * n, AFTER) for n in range(3)))
        outcome = ward.run()
        assert (outcome.status, outcome.reason) == ("failed", "more than 2 attempts failed")
        ward.check_ledgers()

    def test_a_dead_hospital_costs_the_same_however_long_the_job_is(
        self, tmp_path: Path, child: SumProcess
    ) -> None:
        asked = {}
        for rounds in (3, 6):
            ward = make_ward(tmp_path / str(rounds), child, hospitals=4, rounds=rounds)
            ward.hospitals.gone = {"east": 2}
            outcome = ward.run()
            assert outcome.status == "completed"
            assert outcome.refusals == {"east": "deadline"}
            asked[rounds] = ward.hospitals.received["east"]
        # Enrolment, a round; then in vain: a round, one call to come back, and the good-bye.
        assert asked == {3: 5, 6: 5}

    def test_without_masks_a_hospital_that_was_lost_comes_back(
        self, tmp_path: Path, child: SumProcess
    ) -> None:
        death = Death(6, BEFORE, hospital=True, coordinator=False)
        ward = make_ward(
            tmp_path,
            child,
            death,
            hospitals=4,
            rounds=3,
            mode="local",
            encryption=EncryptionRequest(masks=False),
        )
        outcome = ward.run()
        assert outcome.status == "completed", outcome
        assert outcome.refusals == {}
        assert "void" not in [event.kind for event in outcome.events]
        assert len(ward.weights()) == 1
        ward.check_ledgers()


class TestWithoutNoise:
    @pytest.mark.parametrize("message", [0, 3, FIRST_ATTEMPT])
    def test_a_crash_before_anybody_saw_the_attempt_is_survived(
        self, message: int, tmp_path: Path, child: SumProcess
    ) -> None:
        ward = make_ward(tmp_path, child, alone(message, BEFORE), mode="none")
        assert ward.run().status == "completed"
        assert len(ward.weights()) == 1

    def test_a_crash_after_somebody_saw_it_ends_the_job(
        self, tmp_path: Path, child: SumProcess
    ) -> None:
        ward = make_ward(tmp_path, child, alone(FIRST_ATTEMPT, AFTER), mode="none")
        outcome = ward.run()
        assert (outcome.status, outcome.reason) == ("failed", "more than 0 attempts failed")
        assert len({one[:3] for one in ward.hospitals.left}) == len(ward.hospitals.left) == 1


def test_a_strategy_of_flowers_ends_with_its_process(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "c")
    strategy = Named(name="flwr:FedAvg", options={})
    request = make_request(mode="none", clear=True, strategy=strategy)
    ward = Ward(consortium, make_job(consortium, request), None, (alone(6, AFTER),))
    outcome: Outcome = ward.run()
    assert outcome.status == "failed"
    assert "keeps its state in the coordinator's process" in outcome.reason


def test_one_answer_is_in_memory_at_a_time(tmp_path: Path) -> None:
    alive: weakref.WeakSet[Message] = weakref.WeakSet()
    held: list[int] = []

    class Counted(InlineGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            held.append(len(alive))
            found = list(super().pull_messages(message_ids))
            alive.update(found)
            return found

    consortium = make_consortium(tmp_path / "c")
    arrived: list[int] = []

    def take(arrival: Arrival) -> None:
        assert len(alive) == 1
        arrived.append(arrival.node)

    with inline_app(Way.to(consortium)) as app:
        grid = Counted(app, 3, keep=False)
        Exchange(grid, poll_s=0.0).ask(dict.fromkeys((2, 3, 4), STOP), take, timeout_s=60)
    assert arrived == [2, 3, 4]
    assert held == [0, 0, 0]
