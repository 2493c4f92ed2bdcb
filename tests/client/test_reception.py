"""Nothing that the pinned coordinator did not sign gets past the door."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_files

from client.reception import Arrival, receive
from protocol.bundle import SignedJob, pyproject
from protocol.errors import Code, IntegrityError, RefusalError
from protocol.messages import Body, Enrol, Place, Stop, pack
from protocol.signing import SigningKey
from simulations.consortium import Consortium
from tests.consortium import make_consortium, make_job, make_request

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


class Door:
    """A consortium's coordinator, and one who would like to be it."""

    def __init__(self, consortium: Consortium) -> None:
        self.consortium = consortium
        self.key = consortium.coordinator
        self.job = make_job(consortium, make_request())
        self.signed = self.sign(self.key)

    def sign(self, key: SigningKey, job: bytes | None = None) -> SignedJob:
        data = self.job.to_bytes() if job is None else job
        return SignedJob(job=data, signature=key.sign("job", data))

    def enrol(self, signed: SignedJob) -> Enrol:
        return Enrol(signature=signed.signature, heads={}, job=signed.job)

    def knock(
        self, body: Body, *, bundle: SignedJob | None = None, key: SigningKey | None = None
    ) -> Arrival:
        fab, _ = build_fab_from_files({"pyproject.toml": pyproject(bundle or self.signed).encode()})
        place = Place(job=self.job.digest)
        packet = pack(body, place, key or self.key, recipient="*", deadline=time.time() + 60)
        return receive(fab, packet.to_wire(), self.key.public)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Door:
    folder: Path = tmp_path_factory.mktemp("door")
    return Door(make_consortium(folder))


def test_a_signed_job_and_its_enrolment_come_in(door: Door) -> None:
    arrival = door.knock(door.enrol(door.signed))

    assert arrival.job == door.job
    assert arrival.header.kind == "enrol"


def test_a_job_that_somebody_else_signed_is_refused(door: Door) -> None:
    forged = door.sign(SigningKey.generate())

    with pytest.raises(RefusalError, match="job of a bundle") as refusal:
        door.knock(door.enrol(forged), bundle=forged)

    assert refusal.value.code is Code.SIGNATURE


def test_signed_bytes_that_are_no_job_are_refused(door: Door) -> None:
    nothing = door.sign(door.key, b"{}")

    with pytest.raises(RefusalError, match="job of a bundle"):
        door.knock(door.enrol(nothing), bundle=nothing)


def test_a_packet_that_somebody_else_signed_is_refused(door: Door) -> None:
    with pytest.raises(IntegrityError):
        door.knock(door.enrol(door.signed), key=SigningKey.generate())


def test_a_packet_of_another_job_than_its_bundle_is_refused(door: Door) -> None:
    other = door.sign(door.key, replace(door.job, nonce="0" * 32).to_bytes())

    with pytest.raises(RefusalError, match="another job than its run's bundle"):
        door.knock(Stop(reason="over"), bundle=other)


def test_an_enrolment_that_carries_another_job_is_refused(door: Door) -> None:
    other = door.sign(door.key, replace(door.job, nonce="0" * 32).to_bytes())

    with pytest.raises(IntegrityError, match="carries another job"):
        door.knock(door.enrol(other))
