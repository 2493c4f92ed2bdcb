"""How a job ends at one hospital: by the coordinator, by itself, or by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from client.withdraw import GRACE, close_forgotten, end_job, find_job, withdraw
from privacy.ledger_heads import sign_head
from protocol.errors import Code, InputError, RefusalError
from protocol.messages import Enrolled, Step
from tests.client.coordinator import Coordinator
from tests.client.stage import Stage
from tests.consortium import make_consortium, make_job, make_request

HERE = "north"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    consortium = make_consortium(tmp_path / "c", rows=30)
    made = Stage(consortium, make_job(consortium, make_request(rows=30)), disk=True)
    yield made
    made.close()


def spent(stage: Stage) -> tuple[float, float]:
    return stage.hospitals[HERE].ledger.spent(
        population=stage.job.dataset, partition="train", delta=1e-5
    )


def journal(stage: Stage) -> str:
    return (stage.consortium.folder / HERE / "journal.jsonl").read_text()


def leave(stage: Stage, prefix: str | None = None) -> None:
    withdraw(stage.hospitals[HERE], stage.sessions[HERE], prefix or stage.job.digest)


def test_a_hospital_that_leaves_before_a_release_gets_all_of_its_budget_back(stage: Stage) -> None:
    stage.enrol()
    assert spent(stage)[0] > 0
    leave(stage, stage.job.digest[:8])
    assert spent(stage) == (0.0, 0.0)
    assert list(stage.folder(HERE).iterdir()) == []
    assert '"kind":"withdrawn"' in journal(stage)
    # For good, although nothing was released.
    assert stage.refusal(HERE, stage.say(HERE, stage.enrol_body())) == Code.REPLAYED
    step = Step(round=1, train=True, evaluate=False, finish=False)
    assert stage.refusal(HERE, stage.say(HERE, step)) == Code.SESSION


def test_a_hospital_that_leaves_later_pays_for_what_it_released(stage: Stage) -> None:
    run = Coordinator(stage)
    run._begin()
    reserved = spent(stage)
    run._attempt()
    ending = withdraw(stage.hospitals[HERE], stage.sessions[HERE], stage.job.digest)
    assert ending.used == {"update": 1}
    assert 0 < spent(stage)[0] < reserved[0]
    stage.hospitals[HERE].ledger.verify()


def test_a_job_whose_session_was_lost_can_be_left(stage: Stage) -> None:
    stage.enrol()
    for file in stage.folder(HERE).iterdir():
        file.unlink()
    stage.reopen(HERE)
    leave(stage)
    assert spent(stage) == (0.0, 0.0)


def test_what_is_not_here_cannot_be_left(stage: Stage) -> None:
    for prefix in ("", "0000"):
        with pytest.raises(InputError, match=r"0 jobs here begin .* expected one of none"):
            find_job(stage.hospitals[HERE], stage.sessions[HERE], prefix)
    stage.enrol()
    with pytest.raises(InputError, match=stage.job.digest[:12]):
        leave(stage, "nothing")
    leave(stage)
    with pytest.raises(InputError, match="0 jobs"):
        leave(stage)


def test_two_jobs_that_begin_alike_are_told_apart(stage: Stage) -> None:
    stage.enrol()
    first = stage.job.digest
    while True:
        stage.job = make_job(stage.consortium, make_request(rows=30))
        if stage.job.digest[0] == first[0]:
            break
    stage.read(HERE, stage.say(HERE, stage.enrol_body()), Enrolled)
    with pytest.raises(InputError, match="2 jobs here begin"):
        leave(stage, first[0])
    leave(stage, first)
    assert [job.digest for job in stage.sessions[HERE].jobs()] == [stage.job.digest]


def test_an_end_that_was_interrupted_is_made_good(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.enrol()

    class Killed(BaseException):
        pass

    def die(_: str) -> None:
        raise Killed

    for target in (stage.hospitals[HERE].ledger, stage.sessions[HERE]):
        name = "mark_finished" if target is stage.hospitals[HERE].ledger else "drop"
        with monkeypatch.context() as patched:
            patched.setattr(target, name, die)
            with pytest.raises(Killed):
                leave(stage)
    # The ledger has closed it, and only the file is left.
    stage.reopen(HERE)
    assert stage.refusal(HERE, stage.say(HERE, stage.enrol_body())) == Code.REPLAYED
    assert list(stage.folder(HERE).iterdir()) == []


def test_an_end_that_comes_twice_changes_no_account(stage: Stage) -> None:
    stage.enrol()
    hospital, sessions = stage.hospitals[HERE], stage.sessions[HERE]
    first = end_job(hospital, sessions, stage.job.digest, "stopped")
    rows = hospital.ledger.report().rows
    assert end_job(hospital, sessions, stage.job.digest, "stopped") == first
    assert hospital.ledger.report().rows == rows


def test_a_job_that_never_reserved_leaves_no_row(stage: Stage) -> None:
    hospital = stage.hospitals[HERE]
    rows = hospital.ledger.report().rows
    assert end_job(hospital, stage.sessions[HERE], "0" * 64, "stopped").used == {}
    assert hospital.ledger.report().rows == rows


def test_a_blocked_ledger_keeps_the_session(stage: Stage) -> None:
    stage.enrol()
    hospital = stage.hospitals[HERE]
    with pytest.raises(RefusalError):
        hospital.ledger.check_echo(sign_head("e" * 64, hospital.key))
    with pytest.raises(RefusalError, match="old copy"):
        leave(stage)
    assert len(stage.sessions[HERE].jobs()) == 1


@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_that_nobody_stopped_is_closed_when_its_time_is_over(
    stage: Stage, restarted: bool
) -> None:
    run = Coordinator(stage)
    run._begin()
    run._attempt()
    if restarted:
        stage.reopen(HERE)
    hospital, sessions = stage.hospitals[HERE], stage.sessions[HERE]
    expires = datetime.fromisoformat(stage.job.expires)
    hospital.clock = lambda: expires + GRACE - timedelta(seconds=1)
    assert close_forgotten(hospital, sessions) == ()
    hospital.clock = lambda: expires + GRACE
    assert [one.used for one in close_forgotten(hospital, sessions)] == [{"update": 1}]
    assert sessions.jobs() == ()
    assert '"kind":"forgotten"' in journal(stage)


def test_a_finished_job_waits_for_its_stop_until_it_expires(stage: Stage) -> None:
    run = Coordinator(stage)
    run._begin()
    while run._attempt() is None:
        pass
    hospital, sessions = stage.hospitals[HERE], stage.sessions[HERE]
    expires = datetime.fromisoformat(stage.job.expires)
    hospital.clock = lambda: expires - timedelta(seconds=1)
    assert close_forgotten(hospital, sessions) == ()
    hospital.clock = lambda: expires
    assert len(close_forgotten(hospital, sessions)) == 1


def test_another_jobs_beginning_closes_what_was_forgotten(stage: Stage) -> None:
    stage.enrol()
    old = stage.job
    hospital = stage.hospitals[HERE]
    expires = datetime.fromisoformat(old.expires)
    hospital.clock = lambda: expires + GRACE
    stage.job = make_job(stage.consortium, make_request(rows=30))
    late = (expires + GRACE).timestamp() + 60
    stage.say(HERE, stage.enrol_body(), deadline=late)
    assert hospital.ledger.finished(old.digest)
