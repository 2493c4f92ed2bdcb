"""A hospital that dies at any message comes back from its disk, and the job ends as it would have.

Every message is written by the test; each hospital's node is the real one, with its files.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import client.finish
from learning.artefact import verify, versions
from learning.finished import find_model
from protocol.canonical import from_canonical, to_canonical
from protocol.errors import Code
from protocol.messages import Enrolled, Packet, Share, Shared, Step, Stepped, Stop, Stopped
from protocol.tensors import weights_digest
from simulations.consortium import Consortium
from tests.client.coordinator import Coordinator
from tests.client.stage import Stage
from tests.consortium import make_consortium, make_job, make_request

VICTIM = "north"


class Killed(BaseException):
    """The process ends here; nothing that follows happens."""


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Consortium]:
    made = iter(range(1000))
    return lambda: make_consortium(tmp_path_factory.mktemp(f"c{next(made)}"), rows=30)


def stage_of(consortium: Consortium, **request: Any) -> Stage:
    # With little noise: else so few held-out patients may give no metrics at all.
    job = make_job(consortium, make_request(rows=30, **{"epsilon": 100.0, **request}))
    return Stage(consortium, job, disk=True)


@pytest.fixture
def stage(founded: Callable[[], Consortium]) -> Iterator[Stage]:
    opened = stage_of(founded())
    yield opened
    opened.close()


@pytest.fixture
def unnoised(founded: Callable[[], Consortium]) -> Iterator[Stage]:
    opened = stage_of(founded(), mode="none")
    yield opened
    opened.close()


def finished(stage: Stage) -> None:
    """Every hospital has one model, the same, and nothing else of the job is left."""
    cards = []
    for name, hospital in stage.hospitals.items():
        assert versions(hospital.models, stage.job.name) == (1,)
        cards.append(verify(hospital.models / stage.job.name / "1"))
        assert stage.sessions[name].jobs() == ()
        assert list(stage.folder(name).iterdir()) == []
        account = hospital.ledger.account(stage.job.digest)
        assert account is not None
        assert (account.status, account.finished) == ("settled", True)
        hospital.ledger.verify()
    assert len({card.digests.weights for card in cards}) == 1
    assert len({to_canonical(card.metrics) for card in cards}) == 1
    assert bool(cards[0].metrics) == (stage.job.privacy.evaluation is not None)


def test_an_undisturbed_job_ends_with_one_model_everywhere(
    stage: Stage,
) -> None:
    run = Coordinator(stage)
    run.run()
    finished(stage)
    # Three messages to enrol, then two rounds, the counts, and the end.
    assert run.messages == 15


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "unheard"])
@pytest.mark.parametrize("message", range(5))
def test_a_hospital_that_dies_after_any_of_its_messages_finishes_the_job(
    stage: Stage, message: int, lost: bool
) -> None:
    heard = iter(range(1000))

    def watch(_: int, name: str, send: Callable[[], Packet]) -> Packet | None:
        packet = send()
        if name == VICTIM and next(heard) == message:
            stage.reopen(VICTIM)
            return None if lost else packet
        return packet

    Coordinator(stage, watch).run()
    finished(stage)


@pytest.mark.parametrize("message", range(1, 5))
def test_a_hospital_that_dies_before_a_message_reaches_it_finishes_the_job(
    stage: Stage, message: int
) -> None:
    """It is a round behind the others, who heard the message."""
    last = sorted(stage.hospitals)[-1]
    heard = iter(range(1000))

    def watch(_: int, name: str, send: Callable[[], Packet]) -> Packet | None:
        if name == last and next(heard) == message:
            stage.reopen(last)
            return None
        return send()

    Coordinator(stage, watch).run()
    finished(stage)


def test_clear_runs_share_states_too(founded: Callable[[], Consortium]) -> None:
    stage = stage_of(founded(), mode="none", clear=True)
    last = list(stage.hospitals)[-1]
    heard = iter(range(1000))

    def watch(_: int, name: str, send: Callable[[], Packet]) -> Packet | None:
        # Before the finish: nothing has to be released a second time.
        if name == last and next(heard) == 4:
            stage.reopen(last)
            return None
        return send()

    Coordinator(stage, watch).run()
    finished(stage)
    stage.close()


def test_without_noise_a_killed_hospital_makes_no_second_sum(
    unnoised: Stage,
) -> None:
    run = Coordinator(unnoised)
    assert run._begin()
    assert run._attempt() is None
    unnoised.reopen(VICTIM)
    assert run._begin()
    assert run._attempt() is None
    journal = (unnoised.consortium.folder / VICTIM / "journal.jsonl").read_text()
    assert "a second sum of the same weights" in journal
    account = unnoised.hospitals[VICTIM].ledger.account(unnoised.job.digest)
    assert account is not None
    assert account.releases == {"update": [(1, 1)]}


def test_without_noise_a_release_that_was_begun_counts_as_made(
    unnoised: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the write ahead and the ledger's record nothing has left; nobody else knows that."""
    run = Coordinator(unnoised)
    assert run._begin()

    def die(**_: object) -> None:
        raise Killed

    monkeypatch.setattr(unnoised.hospitals[VICTIM].ledger, "record_release", die)
    with pytest.raises(Killed):
        run._attempt()
    unnoised.reopen(VICTIM)
    assert run._begin()
    assert run._attempt() is None
    account = unnoised.hospitals[VICTIM].ledger.account(unnoised.job.digest)
    assert account is not None
    assert account.releases == {}


def test_without_noise_an_old_copy_of_a_session_is_refused(
    unnoised: Stage,
) -> None:
    run = Coordinator(unnoised)
    assert run._begin()
    [file] = unnoised.folder(VICTIM).iterdir()
    old = file.read_bytes()
    assert run._attempt() is None
    file.write_bytes(old)
    unnoised.reopen(VICTIM)
    assert unnoised.refusal(VICTIM, unnoised.say(VICTIM, unnoised.enrol_body())) == Code.REPLAYED


def test_a_damaged_session_is_made_good_by_the_others(stage: Stage) -> None:
    run = Coordinator(stage)
    assert run._begin()
    assert run._attempt() is None
    assert run._attempt() is None
    [file] = stage.folder(VICTIM).iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    stage.reopen(VICTIM)
    run.epoch = None
    run.run()
    finished(stage)


class TestEnrolment:
    def test_a_session_that_lives_answers_as_before(self, stage: Stage) -> None:
        run = Coordinator(stage)
        run._begin()
        run._attempt()
        run._attempt()
        first = stage.read(VICTIM, stage.say(VICTIM, stage.enrol_body()), Enrolled)
        again = stage.read(VICTIM, stage.say(VICTIM, stage.enrol_body()), Enrolled)
        # A head is committed to with a nonce of its own each time it is said.
        assert again.head != first.head
        assert replace(again, head=first.head) == first
        assert (first.step, first.epoch, first.attempt, first.finished) == (1, 1, 2, False)

    def test_a_restarted_node_has_new_keys_and_stands_where_it_stood(self, stage: Stage) -> None:
        run = Coordinator(stage)
        run._begin()
        run._attempt()
        run._attempt()
        before = stage.read(VICTIM, stage.say(VICTIM, stage.enrol_body()), Enrolled)
        kept = stage.sessions[VICTIM].load(stage.job.digest)
        stage.reopen(VICTIM)
        after = stage.read(VICTIM, stage.say(VICTIM, stage.enrol_body()), Enrolled)
        found = stage.sessions[VICTIM].load(stage.job.digest)
        assert kept is not None
        assert found is not None
        assert after.member != before.member
        assert (after.step, after.epoch, after.attempt) == (1, 1, 2)
        assert after.initial_weights == before.initial_weights == stage.job.initial_weights
        assert found.state.to_bytes() == kept.state.to_bytes()
        assert found.state.step == 1

    def test_a_job_goes_on_after_its_expiry_and_ends_once(self, stage: Stage) -> None:
        run = Coordinator(stage)
        run._begin()
        run._attempt()
        stage.reopen(VICTIM)
        hospital = stage.hospitals[VICTIM]
        hospital.clock = lambda: datetime.now(UTC) + timedelta(hours=26)
        late = time.time() + 27 * 3600
        packet = stage.say(VICTIM, stage.enrol_body(), deadline=late)
        assert stage.read(VICTIM, packet, Enrolled).attempt == 1
        hospital.clock = lambda: datetime.now(UTC)
        run.epoch = None
        run.run()
        assert stage.refusal(VICTIM, stage.say(VICTIM, stage.enrol_body())) == Code.REPLAYED
        assert stage.read(VICTIM, stage.say(VICTIM, Stop(reason="again")), Stopped)

    def test_a_node_that_was_restarted_twice_closes_a_job_without_enrolling(
        self, stage: Stage
    ) -> None:
        run = Coordinator(stage)
        run._begin()
        run._attempt()
        stage.reopen(VICTIM)
        assert stage.read(VICTIM, stage.say(VICTIM, Stop(reason="over")), Stopped)
        assert list(stage.folder(VICTIM).iterdir()) == []
        assert stage.hospitals[VICTIM].ledger.finished(stage.job.digest)


class TestFinish:
    def _ready(self, stage: Stage) -> Coordinator:
        """A job whose last message is the next."""
        run = Coordinator(stage)
        run._begin()
        for _ in range(3):
            run._attempt()
        return run

    def test_a_second_finish_stores_no_second_version(self, stage: Stage) -> None:
        run = self._ready(stage)
        first = run._attempt()
        assert first is not None
        again = run._attempt()
        assert again is not None
        assert again[VICTIM].metrics == first[VICTIM].metrics
        run._stop()
        finished(stage)
        journal = (stage.consortium.folder / VICTIM / "journal.jsonl").read_text()
        assert journal.count('"kind":"model"') == 1

    @pytest.mark.parametrize("point", ["store", "journal", "save", "settle", "forget"])
    def test_a_kill_in_the_middle_of_the_finish_is_made_good(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, point: str
    ) -> None:
        run = self._ready(stage)

        def watch(_: int, name: str, send: Callable[[], Packet]) -> Packet | None:
            if name != VICTIM:
                return send()
            with monkeypatch.context() as patched:
                _kill_at(patched, stage, point)
                with pytest.raises(Killed):
                    send()
            stage.reopen(VICTIM)
            return None

        run.watch = watch
        assert run._attempt() is None
        run.watch = lambda _, __, send: send()
        run.run()
        finished(stage)

    def test_a_full_disk_leaves_a_job_that_can_still_finish(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = self._ready(stage)

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr("learning.artefact._publish", full)
            assert run._attempt() is None
        journal = (stage.consortium.folder / VICTIM / "journal.jsonl").read_text()
        assert "No space left" in journal
        run.run()
        finished(stage)

    def test_the_model_of_a_job_is_found_among_others(
        self, founded: Callable[[], Consortium]
    ) -> None:
        consortium = founded()
        for version in (1, 2):
            stage = stage_of(consortium)
            Coordinator(stage).run()
            found = find_model(stage.hospitals[VICTIM].models, stage.job)
            assert found is not None
            assert found.name == str(version)
            stage.close()
        assert found is not None
        (found / "card.json").write_bytes(b"damaged")
        assert find_model(found.parent.parent, stage.job) is None


class TestShare:
    """What a member believes when it is handed a state."""

    def test_a_state_needs_two_others_who_hold_it(self, stage: Stage) -> None:
        run, given = _behind(stage)
        one = dict(list(given.attestations.items())[:1])
        for attestations in (one, {**one, VICTIM: next(iter(one.values()))}, {}):
            packet = _offer(stage, run, to_canonical(attestations))
            assert stage.refusal(VICTIM, packet) == Code.INTEGRITY
            _rejoin(stage, run)

    @pytest.mark.parametrize("damaged", [None, b"", b"{}", b'{"south":1}', b"[]"])
    def test_words_that_are_none_are_refused(self, stage: Stage, damaged: bytes | None) -> None:
        run, _ = _behind(stage)
        assert stage.refusal(VICTIM, _offer(stage, run, damaged)) == Code.INTEGRITY
        session = stage.sessions[VICTIM].load(stage.job.digest)
        assert session is not None
        assert (session.state.step, session.keys) == (0, None)

    def test_a_state_of_the_right_members_is_taken(self, stage: Stage) -> None:
        run, given = _behind(stage)
        packet = _offer(stage, run, to_canonical(given.attestations))
        assert stage.read(VICTIM, packet, Stepped).update is not None
        states = []
        for name in stage.hospitals:
            session = stage.sessions[name].load(stage.job.digest)
            assert session is not None
            states.append(weights_digest(session.state.weights))
        assert len(set(states)) == 1
        # It is on disk as well.
        stage.reopen(VICTIM)
        enrolled = stage.read(VICTIM, stage.say(VICTIM, stage.enrol_body()), Enrolled)
        assert enrolled.step == 1

    def test_only_who_holds_the_base_shares_it_and_with_others(self, stage: Stage) -> None:
        run = Coordinator(stage)
        run._begin()
        epoch = run.epoch
        assert epoch is not None
        body = Share(
            base=1,
            recipients=("south",),
            send=True,
            cohort=epoch.cohort.to_bytes(),
            bundle=epoch.bundles[VICTIM],
        )
        packet = stage.say(VICTIM, body, stage.place(epoch.cohort, 1))
        assert stage.refusal(VICTIM, packet) == Code.SESSION
        for recipients, code in (((VICTIM,), Code.COHORT), (("west",), Code.COHORT)):
            fields = {**vars(body), "base": 0, "recipients": recipients}
            packet = stage.say(VICTIM, Share(**fields), stage.place(epoch.cohort, 1))
            assert stage.refusal(VICTIM, packet) == code

    def test_the_same_request_gets_the_same_word_and_another_none(self, stage: Stage) -> None:
        run = Coordinator(stage)
        run._begin()
        epoch = run.epoch
        assert epoch is not None
        body = Share(
            base=0,
            recipients=("south",),
            send=True,
            cohort=epoch.cohort.to_bytes(),
            bundle=epoch.bundles[VICTIM],
        )
        packet = stage.say(VICTIM, body, stage.place(epoch.cohort, 1))
        shared = stage.read(VICTIM, packet, Shared)
        assert set(from_canonical(shared.snapshots)) == {"south"}
        packet = stage.say(VICTIM, body, stage.place(epoch.cohort, 2))
        assert stage.refusal(VICTIM, packet) == Code.REPLAYED


def _kill_at(patched: pytest.MonkeyPatch, stage: Stage, point: str) -> None:
    """Let the victim die just before one step of its finish."""
    hospital, sessions = stage.hospitals[VICTIM], stage.sessions[VICTIM]
    points: dict[str, tuple[Any, str, Callable[..., bool]]] = {
        "store": (client.finish, "store_model", lambda *_: True),
        "journal": (hospital.journal, "append", lambda kind, _: kind == "model"),
        "save": (sessions, "save", lambda session: bool(session.model)),
        "settle": (hospital.ledger, "settle", lambda *_: True),
        "forget": (hospital, "forget", lambda: True),
    }
    target, name, due = points[point]
    real = getattr(target, name)

    def dying(*args: Any) -> Any:
        if due(*args):
            raise Killed
        return real(*args)

    patched.setattr(target, name, dying)


def _behind(stage: Stage) -> tuple[Coordinator, Any]:
    """The victim's disk is at the first weights, the others one round on; a new epoch began."""
    run = Coordinator(stage)
    run._begin()
    run._attempt()
    [file] = stage.folder(VICTIM).iterdir()
    old = file.read_bytes()
    run._attempt()
    file.write_bytes(old)
    stage.reopen(VICTIM)
    run.epoch = None
    _rejoin(stage, run)
    return run, run.given


def _rejoin(stage: Stage, run: Coordinator) -> None:
    run.attempt += 1
    assert run._begin()
    assert run.given is not None


def _offer(stage: Stage, run: Coordinator, attestations: bytes | None) -> Packet:
    epoch, given = run.epoch, run.given
    assert epoch is not None
    assert given is not None
    body = Step(
        round=2,
        train=True,
        evaluate=False,
        finish=False,
        snapshot_sender=given.sender,
        cohort=epoch.cohort.to_bytes(),
        bundle=epoch.bundles[VICTIM],
        snapshot=given.snapshots[VICTIM],
        attestations=attestations,
    )
    return stage.say(VICTIM, body, stage.place(epoch.cohort, run.attempt + 1))
