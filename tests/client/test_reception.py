"""Nothing that the pinned coordinator did not sign gets past the door."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_files

from client.reception import Arrival, receive
from protocol.bundle import Signed, SignedDelivery, SignedJob, pyproject
from protocol.deliveries import CONTEXT
from protocol.delivery_messages import HandOver, Offer, Vouch
from protocol.errors import Code, IntegrityError, RefusalError
from protocol.messages import Body, Enrol, Place, Stop, pack
from protocol.signing import SigningKey
from simulations.consortium import Consortium
from tests.consortium import make_consortium, make_job, make_request
from tests.delivered import delivery_of

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


class Door:
    """A consortium's coordinator, and one who would like to be it."""

    def __init__(self, consortium: Consortium) -> None:
        self.consortium = consortium
        self.key = consortium.coordinator
        self.job = make_job(consortium, make_request())
        self.signed = self.sign(self.key)
        self.delivery = delivery_of(consortium, self.job)
        data = self.delivery.to_bytes()
        self.delivered = SignedDelivery(delivery=data, signature=self.key.sign(CONTEXT, data))

    def sign(self, key: SigningKey, job: bytes | None = None) -> SignedJob:
        data = self.job.to_bytes() if job is None else job
        return SignedJob(job=data, signature=key.sign("job", data))

    def enrol(self, signed: SignedJob) -> Enrol:
        return Enrol(signature=signed.signature, heads={}, job=signed.job)

    def knock(
        self,
        body: Body,
        *,
        bundle: Signed | None = None,
        key: SigningKey | None = None,
        about: str | None = None,
    ) -> Arrival:
        fab, _ = build_fab_from_files({"pyproject.toml": pyproject(bundle or self.signed).encode()})
        place = Place(job=about or self.job.digest)
        packet = pack(body, place, key or self.key, recipient="*", deadline=time.time() + 60)
        return receive(fab, packet.to_wire(), self.key.public)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Door:
    folder: Path = tmp_path_factory.mktemp("door")
    return Door(make_consortium(folder))


def test_a_signed_job_and_its_enrolment_come_in(door: Door) -> None:
    arrival = door.knock(door.enrol(door.signed))

    assert arrival.about == door.job
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


def offer(door: Door, delivery: bytes | None = None) -> Offer:
    return Offer(
        signature=door.delivered.signature,
        delivery=delivery or door.delivered.delivery,
        job=door.signed.job,
    )


def test_a_signed_delivery_and_its_offer_come_in(door: Door) -> None:
    arrival = door.knock(offer(door), bundle=door.delivered, about=door.delivery.digest)

    assert arrival.about == door.delivery
    assert (arrival.digest, arrival.title) == (door.delivery.digest, "sepsis-risk to west")
    # Letters carry no document: they are about the bundle's.
    letters = HandOver(letters=b"")
    assert door.knock(letters, bundle=door.delivered, about=door.delivery.digest)


@pytest.mark.parametrize("context", ["job", "roster"])
def test_a_delivery_that_was_signed_as_something_else_is_refused(door: Door, context: str) -> None:
    data = door.delivered.delivery
    wrong = SignedDelivery(delivery=data, signature=door.key.sign(context, data))

    with pytest.raises(RefusalError, match="delivery of a bundle") as refusal:
        door.knock(offer(door), bundle=wrong, about=door.delivery.digest)

    assert refusal.value.code is Code.SIGNATURE


def test_a_job_that_was_signed_as_a_delivery_is_refused(door: Door) -> None:
    data = door.signed.job
    for wrong in (
        SignedJob(job=data, signature=door.key.sign(CONTEXT, data)),
        SignedDelivery(delivery=data, signature=door.key.sign(CONTEXT, data)),
    ):
        with pytest.raises(RefusalError, match="of a bundle"):
            door.knock(offer(door), bundle=wrong)


def test_an_offer_that_carries_another_delivery_or_comes_with_a_job_is_refused(door: Door) -> None:
    with pytest.raises(IntegrityError, match="carries another delivery"):
        door.knock(offer(door, b"{}"), bundle=door.delivered, about=door.delivery.digest)
    vouch = Vouch(signature=b"", send=True, delivery=b"{}", recipients=b"{}")
    with pytest.raises(IntegrityError, match="carries another delivery"):
        door.knock(vouch, bundle=door.delivered, about=door.delivery.digest)
    with pytest.raises(IntegrityError, match="carries another delivery"):
        door.knock(offer(door))
    with pytest.raises(RefusalError, match="another job than its run's bundle"):
        door.knock(offer(door), bundle=door.delivered)
