"""What a coordinator that breaks the rules in less obvious ways must not get."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, Context, RecordDict

from client.agreement import check_encryption
from client.app import make_app
from client.member import Member
from client.session import MemorySessions
from privacy.he.parameters import parameters_for
from privacy.he.sum import CiphertextSum
from privacy.he.words import framed_size
from privacy.plan import PrivacyRequest
from protocol.cohort import Cohort
from protocol.errors import Code, InputError, RefusalError
from protocol.messages import Enrolled, Place, Step, Stepped, Stop, Stopped
from protocol.tensors import weights_digest
from simulations.inline import InlineGrid
from strategies.base import strategy_of
from tests.client.stage import Stage
from tests.consortium import make_consortium, make_job, make_request
from tests.simulations.runs import models, opened, run_course

NOTHING = Step(round=1, train=False, evaluate=False, finish=False)


@contextmanager
def staged(folder: Path, **request: Any) -> Iterator[Stage]:
    made = Stage(make_consortium(folder, patients=bool(request.get("patients"))))
    made.job = make_job(made.consortium, make_request(**request))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "c") as made:
        yield made


def first_sum(stage: Stage) -> tuple[Cohort, bytes]:
    """Every hospital's first release, and their sum."""
    cohort = stage.enrol()
    bundles = stage.bundles(cohort)
    packing = stage.job.encryption.update
    assert packing is not None
    words = -(-stage.job.privacy.update.length // packing.digits_per_word)
    total = CiphertextSum(packing, framed_size(words, cohort.size))
    for name in stage.hospitals:
        packet = stage.say(name, stage.first_step(cohort, bundles[name]), stage.place(cohort, 1))
        total.add(stage.read(name, packet, Stepped).update)
    return cohort, total.residues()


def second_round(cohort: Cohort, total: bytes, **changes: Any) -> Step:
    names = tuple(member.name for member in cohort.members)
    body = Step(
        round=2,
        train=False,
        evaluate=False,
        finish=False,
        total_attempt=1,
        contributors=names,
        total=total,
    )
    return replace(body, **changes)


class TestSums:
    def test_a_sum_is_applied_once(self, stage: Stage) -> None:
        """With epochs that nobody began, one sum could be stepped along again and again."""
        cohort, total = first_sum(stage)
        weights = []
        for epoch in (7, 8):
            place = Place(job=stage.job.digest, epoch=epoch, attempt=1, cohort=cohort.digest)
            body = second_round(cohort, total, round=epoch - 5)
            weights.append(stage.refusal("north", stage.say("north", body, place)))
        assert weights == [Code.REPLAYED, Code.REPLAYED]

    def test_a_header_names_the_epoch_of_its_cohort(self, stage: Stage) -> None:
        cohort, total = first_sum(stage)
        place = Place(job=stage.job.digest, epoch=7, attempt=2, cohort=cohort.digest)
        packet = stage.say("north", second_round(cohort, total), place)
        assert stage.refusal("north", packet) == Code.COHORT

    def test_attempts_grow_over_epochs_too(self, stage: Stage) -> None:
        first_sum(stage)
        cohort = _next_epoch(stage)
        bundles = stage.bundles(cohort)
        body = replace(stage.first_step(cohort, bundles["north"]), train=False)
        packet = stage.say("north", body, stage.place(cohort, 1))
        assert stage.refusal("north", packet) == Code.REPLAYED

    def test_a_sum_is_decrypted_once_although_the_step_fails_afterwards(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cohort, total = first_sum(stage)
        hospital = stage.hospitals["north"]
        with monkeypatch.context() as patched:
            patched.setattr(hospital.ledger, "record_release", _fail)
            body = second_round(cohort, total, train=True)
            packet = stage.say("north", body, stage.place(cohort, 2))
            assert stage.refusal("north", packet) == Code.FAILED
        # It was applied before the step failed; what comes in its place is not looked at.
        weights = stage_weights(stage)
        body = second_round(cohort, b"anything")
        stage.read("north", stage.say("north", body, stage.place(cohort, 3)), Stepped)
        assert stage_weights(stage) is weights

    def test_a_sum_is_not_applied_again_as_that_of_the_next_round(self, stage: Stage) -> None:
        """Sums alone keep the number of the last attempt, so they may come more than once."""
        cohort, total = first_sum(stage)
        place = stage.place(cohort, 1)
        stage.read("north", stage.say("north", second_round(cohort, total), place), Stepped)
        weights = stage_weights(stage)
        packet = stage.say("north", second_round(cohort, total, round=3), place)
        assert stage.refusal("north", packet) == Code.SESSION
        # The same once more is answered, and changes nothing.
        body = second_round(cohort, b"anything")
        stage.read("north", stage.say("north", body, place), Stepped)
        assert stage_weights(stage) is weights

    def test_without_keys_nothing_is_said_of_the_weights(self, stage: Stage) -> None:
        cohort, total = first_sum(stage)
        forged = total[:5] + bytes([total[5] ^ 1]) + total[6:]
        packet = stage.say("north", second_round(cohort, forged), stage.place(cohort, 2))
        assert stage.refusal("north", packet) == Code.INTEGRITY
        packet = stage.say("north", NOTHING, stage.place(cohort, 3))
        assert weights_digest(stage_weights(stage)).encode() not in packet.header
        assert stage.refusal("north", packet) == Code.SESSION


def stage_weights(stage: Stage) -> Any:
    session = stage.members["north"]._sessions.load(stage.job.digest)
    assert session is not None
    return session.state.weights


def _fail(*_: object, **__: object) -> object:
    raise OSError("no space left")


def _next_epoch(stage: Stage) -> Cohort:
    found = [stage.members[name]._sessions.load(stage.job.digest) for name in stage.hospitals]
    cohort = next(session.cohort for session in found if session is not None)
    assert cohort is not None
    return replace(cohort, epoch=cohort.epoch + 1)


class TestCourse:
    def test_a_model_is_not_finished_before_its_rounds_are_over(self, stage: Stage) -> None:
        cohort, total = first_sum(stage)
        body = second_round(cohort, total, finish=True)
        packet = stage.say("north", body, stage.place(cohort, 1))
        assert stage.refusal("north", packet) == Code.SESSION
        assert not (stage.consortium.folder / "north" / "models").exists()

    def test_nobody_trains_beyond_the_last_round(self, tmp_path: Path) -> None:
        with staged(tmp_path / "c", rounds=1) as stage:
            cohort, total = first_sum(stage)
            body = second_round(cohort, total, train=True)
            packet = stage.say("north", body, stage.place(cohort, 2))
            assert stage.refusal("north", packet) == Code.SESSION

    def test_a_stop_after_a_release_that_never_left_settles_and_forgets(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cohort = stage.enrol()
        bundles = stage.bundles(cohort)
        hospital = stage.hospitals["north"]
        append = hospital.journal.append

        def full(kind: str, fields: Mapping[str, object]) -> object:
            return _fail() if kind == "release" else append(kind, fields)

        monkeypatch.setattr(hospital.journal, "append", full)
        packet = stage.say(
            "north", stage.first_step(cohort, bundles["north"]), stage.place(cohort, 1)
        )
        assert stage.refusal("north", packet) == Code.FAILED
        stage.read("north", stage.say("north", Stop(reason="enough")), Stopped)
        assert hospital.ledger.finished(stage.job.digest)
        assert stage.members["north"]._sessions.load(stage.job.digest) is None


class TestEnrolment:
    def test_a_job_that_expired_is_not_begun(self, stage: Stage) -> None:
        hospital = stage.hospitals["north"]
        clock = hospital.clock
        hospital.clock = lambda: clock() + timedelta(hours=25)
        late = time.time() + 26 * 3600
        packet = stage.say("north", stage.enrol_body(), deadline=late)
        assert stage.refusal("north", packet) == Code.EXPIRED

    def test_a_job_that_has_begun_is_not_cut_off_by_its_expiry(self, stage: Stage) -> None:
        cohort = stage.enrol()
        bundles = stage.bundles(cohort)
        hospital = stage.hospitals["north"]
        clock = hospital.clock
        hospital.clock = lambda: clock() + timedelta(hours=25)
        # As on Flower's Ray engine, or after another job's message: nothing is remembered.
        stage.members["north"] = Member(hospital, stage.sessions["north"])
        packet = stage.say(
            "north",
            stage.first_step(cohort, bundles["north"]),
            stage.place(cohort, 1),
            deadline=time.time() + 26 * 3600,
        )
        assert stage.read("north", packet, Stepped).update is not None

    @pytest.mark.parametrize(("mode", "code"), [("none", Code.REPLAYED), ("distributed", None)])
    def test_a_restarted_node_releases_nothing_twice_without_noise(
        self, tmp_path: Path, mode: Any, code: Code | None
    ) -> None:
        with staged(tmp_path / "c", mode=mode) as stage:
            first_sum(stage)
            stage.members["north"] = Member(stage.hospitals["north"], MemorySessions())
            packet = stage.say("north", stage.enrol_body())
            if code is not None:
                assert stage.refusal("north", packet) == code
                return
            stage.read("north", packet, Enrolled)
            session = stage.members["north"]._sessions.load(stage.job.digest)
            assert session is not None
            assert session.attempt == 1

    def test_the_patient_is_who_the_hospital_says(self, tmp_path: Path) -> None:
        """A column of visits would protect each of a patient's visits as another person's."""
        with staged(tmp_path / "c", patients=True) as stage:
            hospital = stage.hospitals["north"]
            dataset = hospital.config.datasets["sepsis"]
            for patient, code in (("person", Code.POLICY), ("patient", None)):
                datasets = {"sepsis": replace(dataset, patient=patient)}
                hospital.config = replace(hospital.config, datasets=datasets)
                packet = stage.say("north", stage.enrol_body())
                if code is None:
                    stage.read("north", packet, Enrolled)
                else:
                    assert stage.refusal("north", packet) == code

    def test_digits_that_the_sum_overflows_are_refused(self) -> None:
        for mode in ("distributed", "local"):
            job = make_job(request=make_request(mode=mode))
            strategy = strategy_of(job, job.privacy.update.length)
            check_encryption(job, strategy)
            for purpose in ("update", "evaluation"):
                packing = getattr(job.encryption, purpose)
                small = parameters_for(radix=packing.radix // 2, max_sites=packing.max_sites)
                change: dict[str, Any] = {purpose: small}
                changed = replace(job.encryption, **change)
                with pytest.raises(RefusalError, match="radix"):
                    check_encryption(replace(job, encryption=changed), strategy)


@pytest.mark.parametrize("mode", ["distributed", "local"])
def test_a_hospital_without_a_record_answers_like_any_other(tmp_path: Path, mode: Any) -> None:
    consortium = make_consortium(tmp_path / "c")
    job = make_job(consortium, make_request(mode=mode))
    path = consortium.folder / "south" / "data.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    run = run_course(consortium, job)
    assert (run.outcome.status, run.outcome.refusals) == ("completed", {})
    assert len(models(consortium, job)) == 3


def test_the_card_states_the_worst_case_of_every_cohort(tmp_path: Path) -> None:
    """An attempt with more hospitals had a smaller share of noise from each."""
    consortium = make_consortium(tmp_path / "c", hospitals=4)
    privacy = PrivacyRequest(mode="distributed", epsilon=3.0)
    job = make_job(consortium, make_request(hospitals=4, privacy=privacy))
    run = run_course(consortium, job, drop=lambda hospital, before: hospital == 3 and before >= 2)
    assert run.outcome.status == "completed"
    for name, model in models(consortium, job).items():
        with opened(consortium, name) as hospital:
            spent, worst = hospital.ledger.spent(
                population=job.dataset, partition="train", delta=job.privacy.delta
            )
        settled, settled_worst = (
            model.card.privacy.epsilon_settled,
            model.card.privacy.epsilon_settled_worst,
        )
        assert settled == pytest.approx(spent, rel=1e-6)
        assert settled_worst == pytest.approx(worst, rel=1e-6)


def _opening(error: Exception) -> Callable[[Context], Any]:
    def member(_: Context) -> Any:
        raise error

    return member


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"packet": ArrayRecord({"x": Array("uint8", (1,), "bytes", b"x")})},
        {
            "packet": ArrayRecord(
                {
                    name: Array("uint8", (1,), "bytes", b"x")
                    for name in ("kind", "sender", "header", "signature")
                }
            )
        },
    ],
)
def test_what_fails_outside_of_an_answer_leaves_no_text_behind(
    content: dict[str, ArrayRecord],
) -> None:
    """Flower sends the text of an exception to the coordinator."""
    app = make_app(_opening(InputError("/srv/records/ward-7.csv: 31 rows")))
    grid = InlineGrid(app, 1)
    message = grid.create_message(RecordDict(dict(content)), "train", 2, "")
    with pytest.raises(Exception, match=r"^this node could not answer$"):
        app(message, _context())


def _context() -> Context:
    return Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})
