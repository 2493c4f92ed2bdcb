"""What is said in a delivery arrives as it left, as its own kind and as no other."""

from __future__ import annotations

import dataclasses

import pytest

from protocol.canonical import to_canonical
from protocol.delivery_messages import (
    HandOver,
    Offer,
    Ready,
    Received,
    Vouch,
    Vouched,
    by_hospital,
)
from protocol.errors import IntegrityError
from protocol.messages import Body, Packet, Place, open_header, pack, read_body
from protocol.signing import SigningKey
from tests.protocol.test_messages import KINDS

KEY = SigningKey.from_seed(bytes(range(32)))
BODIES: tuple[Body, ...] = (
    Offer(signature=bytes(64), delivery=b"document", job=b"job"),
    Ready(name="north", holds=True),
    Ready(name="west", holds=False, needed=3, vouchers=("north", "south"), member=b"keys"),
    Vouch(signature=bytes(64), send=True, delivery=b"document", recipients=b"keys"),
    Vouched(letters=b"sealed"),
    HandOver(letters=b"sealed"),
    Received(name="west"),
)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.KIND)
def test_every_kind_arrives_as_it_left(body: Body) -> None:
    place = Place(job="a" * 64, attempt=3)
    packet = Packet.from_wire(pack(body, place, KEY, recipient="*", deadline=1.0).to_wire())
    header = open_header(packet, KEY.public)
    assert read_body(packet, header, type(body)) == body
    assert (header.job, header.attempt) == ("a" * 64, 3)
    for other in {type(one) for one in BODIES} - {type(body)}:
        with pytest.raises(IntegrityError):
            read_body(packet, header, other)


def test_letters_are_bytes_by_hospital() -> None:
    letters = {"north": b"sealed", "south": b""}
    assert by_hospital(to_canonical(letters)) == letters
    for data in (b"", b"{", to_canonical([]), to_canonical({"north": "text"})):
        with pytest.raises(IntegrityError, match="bytes by hospital"):
            by_hospital(data)


def test_no_kind_is_one_of_a_job() -> None:
    own = {type(body) for body in BODIES}
    assert len({kind.KIND for kind in (*own, *KINDS)}) == len(own) + len(KINDS)
    for kind in own:
        assert set(kind.BLOBS) <= {field.name for field in dataclasses.fields(kind)}
