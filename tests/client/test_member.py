"""What a hospital refuses, message by message, with a coordinator that does not keep the rules."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client.hospital import Hospital
from privacy.ledger_heads import sign_head
from protocol.cohort import Cohort
from protocol.cohort import Member as CohortMember
from protocol.errors import Code
from protocol.jobs import Job
from protocol.messages import (
    Enrolled,
    MakeKeys,
    Place,
    Step,
    Stepped,
    Stop,
    Stopped,
    pack,
)
from protocol.signing import SigningKey
from tests.client.stage import Stage
from tests.consortium import make_consortium


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(make_consortium(tmp_path / "c"))
    yield made
    made.close()


def _spent(hospital: Hospital, job: Job) -> tuple[float, float]:
    return hospital.ledger.spent(population=job.dataset, partition="train", delta=1e-5)


def test_a_job_is_accepted_and_its_worst_case_reserved(stage: Stage) -> None:
    packet = stage.say("north", stage.enrol_body())
    assert stage.read("north", packet, Enrolled).name == "north"
    epsilon, worst = _spent(stage.hospitals["north"], stage.job)
    assert 0 < epsilon <= 3.0 + 1e-6
    assert epsilon < worst


def test_only_the_coordinator_is_heard(stage: Stage) -> None:
    packet = stage.say("north", stage.enrol_body(), key=SigningKey.generate())
    assert stage.refusal("north", packet) == Code.SIGNATURE


def test_only_the_coordinators_jobs_are_run(stage: Stage) -> None:
    forged = SigningKey.generate().sign("job", stage.job.to_bytes())
    packet = stage.say("north", stage.enrol_body(signature=forged))
    assert stage.refusal("north", packet) == Code.SIGNATURE
    assert _spent(stage.hospitals["north"], stage.job) == (0.0, 0.0)


def test_a_message_for_somebody_else_is_refused(stage: Stage) -> None:
    other = stage.hospitals["south"].key.fingerprint
    packet = stage.say("north", stage.enrol_body(), recipient=other)
    assert stage.refusal("north", packet) == Code.SIGNATURE


def test_a_message_after_its_deadline_draws_nothing(stage: Stage) -> None:
    packet = stage.say("north", stage.enrol_body(), deadline=time.time() - 1)
    assert stage.refusal("north", packet) == Code.DEADLINE
    assert _spent(stage.hospitals["north"], stage.job) == (0.0, 0.0)


def test_a_header_that_names_another_job_is_refused(stage: Stage) -> None:
    packet = stage.say("north", stage.enrol_body(), Place(job="0" * 64))
    assert stage.refusal("north", packet) == Code.SIGNATURE


@pytest.mark.parametrize("job", ["", "*", "../../other", "0" * 63 + "\0", "F" * 64])
def test_a_job_that_is_no_digest_names_no_file(stage: Stage, job: str) -> None:
    packet = stage.say("north", Stop(reason="over"), Place(job=job))
    assert stage.refusal("north", packet) == Code.SIGNATURE


def test_steps_need_a_session(stage: Stage) -> None:
    step = Step(round=1, train=True, evaluate=False, finish=False)
    packet = stage.say("north", step, Place(job=stage.job.digest, epoch=1, attempt=1))
    assert stage.refusal("north", packet) == Code.SESSION


def test_a_step_outside_the_cohort_is_refused(stage: Stage) -> None:
    cohort = stage.enrol()
    step = Step(round=1, train=True, evaluate=False, finish=False)
    packet = stage.say("north", step, stage.place(cohort, 1))
    assert stage.refusal("north", packet) == Code.COHORT


def test_the_first_step_releases_and_is_repeated_byte_for_byte(stage: Stage) -> None:
    cohort = stage.enrol()
    bundles = stage.bundles(cohort)
    packet = pack(
        stage.first_step(cohort, bundles["north"]),
        stage.place(cohort, 1),
        stage.consortium.coordinator,
        recipient="*",
        deadline=time.time() + 60,
    )
    first = stage.members["north"].answer(packet)
    assert stage.read("north", first, Stepped).update is not None
    assert stage.members["north"].answer(packet) == first


def test_an_attempt_is_never_used_for_a_second_plaintext(stage: Stage) -> None:
    cohort = stage.enrol()
    bundles = stage.bundles(cohort)
    body = stage.first_step(cohort, bundles["north"])
    stage.read("north", stage.say("north", body, stage.place(cohort, 1)), Stepped)
    again = Step(round=1, train=True, evaluate=True, finish=False)
    packet = stage.say("north", again, stage.place(cohort, 1))
    assert stage.refusal("north", packet) == Code.REPLAYED


def test_attempts_beyond_the_reserved_ones_are_refused(stage: Stage) -> None:
    cohort = stage.enrol()
    bundles = stage.bundles(cohort)
    reserved = stage.job.privacy.update.steps + stage.job.privacy.update.spare
    body = stage.first_step(cohort, bundles["north"])
    stage.read("north", stage.say("north", body, stage.place(cohort, 1)), Stepped)
    for attempt in range(2, reserved + 1):
        body = Step(round=1, train=True, evaluate=False, finish=False)
        stage.read("north", stage.say("north", body, stage.place(cohort, attempt)), Stepped)
    packet = stage.say("north", body, stage.place(cohort, reserved + 1))
    assert stage.refusal("north", packet) == Code.BUDGET


def test_keys_from_the_coordinator_are_refused(stage: Stage) -> None:
    cohort = stage.enrol()
    bundles = stage.bundles(cohort)
    for wrong in (b"x" * 200, bundles["south"], b"\0" * 64 + bundles["north"][64:]):
        packet = stage.say("north", stage.first_step(cohort, wrong), stage.place(cohort, 1))
        assert stage.refusal("north", packet) == Code.INTEGRITY
    packet = stage.say("north", stage.first_step(cohort, None), stage.place(cohort, 1))
    assert stage.refusal("north", packet) == Code.COHORT


def test_keys_are_made_once_per_epoch_and_by_the_maker(stage: Stage) -> None:
    cohort = stage.enrol()
    stage.bundles(cohort)
    maker = cohort.maker.name
    body = MakeKeys(cohort=cohort.to_bytes())
    packet = stage.say(maker, body, stage.place(cohort, 0))
    assert stage.refusal(maker, packet) == Code.REPLAYED
    other = next(name for name in stage.hospitals if name != maker)
    packet = stage.say(other, body, stage.place(cohort, 0))
    assert stage.refusal(other, packet) == Code.COHORT


def test_an_invented_hospital_is_refused(stage: Stage) -> None:
    cohort = stage.enrol()
    invented = SigningKey.generate()
    fake = CohortMember.create(
        name="west",
        job=stage.job.digest,
        roster=stage.job.roster,
        kem=bytes(32),
        exchange=bytes([9]) + bytes(31),
        key=invented,
    )
    larger = Cohort.assemble(
        job=cohort.job, roster=cohort.roster, epoch=1, members=[*cohort.members, fake]
    )
    packet = stage.say("north", MakeKeys(cohort=larger.to_bytes()), stage.place(larger, 0))
    assert stage.refusal("north", packet) == Code.COHORT


def test_a_sum_of_something_else_destroys_the_epochs_keys(stage: Stage) -> None:
    cohort = stage.enrol()
    bundles = stage.bundles(cohort)
    body = stage.first_step(cohort, bundles["north"])
    stepped = stage.read("north", stage.say("north", body, stage.place(cohort, 1)), Stepped)
    forged = Step(
        round=2,
        train=True,
        evaluate=False,
        finish=False,
        total_attempt=1,
        contributors=tuple(member.name for member in cohort.members),
        total=stepped.update,
    )
    packet = stage.say("north", forged, stage.place(cohort, 2))
    assert stage.refusal("north", packet) == Code.INTEGRITY
    body = Step(round=1, train=True, evaluate=False, finish=False)
    packet = stage.say("north", body, stage.place(cohort, 3))
    assert stage.refusal("north", packet) == Code.SESSION


def test_a_sum_without_this_hospital_is_refused(stage: Stage) -> None:
    cohort = stage.enrol()
    bundles = stage.bundles(cohort)
    body = stage.first_step(cohort, bundles["north"])
    stage.read("north", stage.say("north", body, stage.place(cohort, 1)), Stepped)
    forged = Step(
        round=2,
        train=True,
        evaluate=False,
        finish=False,
        total_attempt=1,
        contributors=("south", "east"),
        total=b"anything",
    )
    packet = stage.say("north", forged, stage.place(cohort, 2))
    assert stage.refusal("north", packet) == Code.COHORT


def test_a_skipped_round_is_refused(stage: Stage) -> None:
    cohort = stage.enrol()
    bundles = stage.bundles(cohort)
    body = replace(stage.first_step(cohort, bundles["north"]), round=2)
    packet = stage.say("north", body, stage.place(cohort, 1))
    assert stage.refusal("north", packet) == Code.SESSION


def test_a_job_that_stops_before_it_released_costs_nothing(stage: Stage) -> None:
    stage.enrol()
    packet = stage.say("north", Stop(reason="too few"))
    assert stage.read("north", packet, Stopped).head
    assert _spent(stage.hospitals["north"], stage.job) == (0.0, 0.0)
    assert stage.read("north", stage.say("north", Stop(reason="again")), Stopped)
    assert stage.refusal("north", stage.say("north", stage.enrol_body())) == Code.REPLAYED


def test_a_job_that_stops_later_costs_what_it_released(stage: Stage) -> None:
    cohort = stage.enrol()
    bundles = stage.bundles(cohort)
    reserved, _ = _spent(stage.hospitals["north"], stage.job)
    body = stage.first_step(cohort, bundles["north"])
    stage.read("north", stage.say("north", body, stage.place(cohort, 1)), Stepped)
    stage.read("north", stage.say("north", Stop(reason="enough")), Stopped)
    spent, _ = _spent(stage.hospitals["north"], stage.job)
    assert 0 < spent < reserved


def test_a_ledger_that_lost_its_last_rows_blocks(stage: Stage) -> None:
    key = stage.hospitals["north"].key
    ahead = sign_head("e" * 64, key)
    packet = stage.say("north", stage.enrol_body(heads={key.fingerprint: ahead}))
    assert stage.refusal("north", packet) == Code.BUDGET
    assert stage.refusal("north", stage.say("north", stage.enrol_body())) == Code.BUDGET
    journal = (stage.consortium.folder / "north" / "journal.jsonl").read_text()
    assert "put the newest copy of the ledger back" in journal


@pytest.mark.parametrize("signer", [None, "south"])
def test_an_echo_that_is_not_its_own_stops_no_hospital(stage: Stage, signer: str | None) -> None:
    ahead = "e" * 64
    echo = b"nonsense" if signer is None else sign_head(ahead, stage.hospitals[signer].key)
    heads = {stage.hospitals["north"].key.fingerprint: echo}
    packet = stage.say("north", stage.enrol_body(heads=heads))
    head = stage.read("north", packet, Enrolled).head
    assert stage.hospitals["north"].ledger.check_echo(head)


def test_the_journal_keeps_the_reason_and_the_wire_only_a_code(stage: Stage) -> None:
    packet = stage.say("north", stage.enrol_body(), deadline=0.0)
    assert stage.refusal("north", packet) == Code.DEADLINE
    assert b"clock" not in packet.header
    journal = (stage.consortium.folder / "north" / "journal.jsonl").read_text()
    assert "compare this machine's clock" in journal
