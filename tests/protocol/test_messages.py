from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.canonical import from_canonical, to_canonical
from protocol.errors import Code, IntegrityError, RefusalError
from protocol.messages import (
    EVERYBODY,
    VERSION,
    Body,
    Enrol,
    Enrolled,
    Header,
    KeysMade,
    MakeKeys,
    Packet,
    Place,
    Refused,
    Share,
    Shared,
    Step,
    Stepped,
    Stop,
    Stopped,
    open_header,
    pack,
    read_body,
)
from protocol.signing import SigningKey

KEY = SigningKey.from_seed(bytes(range(32)))
OTHER = SigningKey.from_seed(bytes(range(1, 33)))
PLACE = Place(job="a" * 64, epoch=2, attempt=5, cohort="b" * 64)
KINDS: tuple[type[Body], ...] = (
    Enrol, Enrolled, MakeKeys, KeysMade, Share, Shared, Step, Stepped, Stop, Stopped, Refused,
)  # fmt: skip
BODIES: tuple[Body, ...] = (
    Enrol(signature=bytes(64), heads={"f" * 64: b"signed statement"}, job=b'{"name":"sepsis"}'),
    Enrolled(
        name="north",
        member=b"keys",
        initial_weights="1" * 64,
        library="SEAL 4",
        head=b"2",
        step=3,
        epoch=2,
        attempt=4,
        finished=True,
    ),
    MakeKeys(cohort=b"document"),
    KeysMade(bundles=b""),
    Step(round=1, train=True, evaluate=False, finish=False),
    Step(
        round=3,
        train=True,
        evaluate=True,
        finish=True,
        total_attempt=4,
        contributors=("north", "south"),
        counts_attempt=2,
        counts_contributors=("south",),
        snapshot_sender="north",
        cohort=b"document",
        bundle=b"\0sealed",
        total=bytes(range(256)),
        counts=b"",
        snapshot=b"sealed state",
        attestations=b"words",
    ),
    Share(base=2, recipients=("south", "west"), send=True, cohort=b"document", bundle=b"\0sealed"),
    Share(base=0, recipients=(), send=False, cohort=b"document"),
    Shared(attestation=bytes(64), head=b"cd", snapshots=b"sealed"),
    Shared(attestation=b"", head=b"cd"),
    Stepped(weights_tag="ab", head=b"cd"),
    Stepped(
        weights_tag="ab",
        head=b"cd",
        metrics={"auroc": (0.9, 0.85, 0.1 + 0.2)},
        model=b"weights",
        update=b"ciphertexts",
        counts=b"more",
    ),
    Stop(reason="too few hospitals"),
    Stopped(head=b"cd"),
    Refused(name="north", reason="policy"),
)


def sent(body: Body, **changes: Any) -> Packet:
    usual: dict[str, Any] = {"recipient": EVERYBODY, "deadline": 1.5}
    return pack(body, PLACE, KEY, **{**usual, **changes})


def signed(kind: str, header: bytes, key: SigningKey = KEY, **blobs: bytes) -> Packet:
    """A packet whose header a sender chose byte by byte and signed."""
    return Packet(kind, key.fingerprint, header, key.sign(f"packet:{kind}", header), blobs)


def header_of(packet: Packet, **changes: Any) -> bytes:
    """A packet's header with other fields."""
    return to_canonical({**from_canonical(packet.header), **changes})


class TestKinds:
    def test_every_kind_has_its_own_name_and_names_its_own_blobs(self) -> None:
        assert len({kind.KIND for kind in KINDS}) == len(KINDS)
        for kind in KINDS:
            assert set(kind.BLOBS) <= {field.name for field in dataclasses.fields(kind)}

    @pytest.mark.parametrize("code", list(Code))
    def test_a_refusal_says_one_of_the_known_codes(self, code: Code) -> None:
        assert Refused(name="north", reason=str(code)).code is code

    @pytest.mark.parametrize("reason", ["", "POLICY", "the patient Zaphod", "tomorrow's code"])
    def test_any_other_reason_is_a_failure(self, reason: str) -> None:
        assert Refused(name="north", reason=reason).code is Code.FAILED


class TestRoundTrip:
    @pytest.mark.parametrize("body", BODIES, ids=lambda body: body.KIND)
    def test_every_kind_arrives_as_it_left(self, body: Body) -> None:
        packet = sent(body)
        arrived = Packet.from_wire(packet.to_wire())
        assert arrived == packet
        header = open_header(arrived, KEY.public)
        assert read_body(arrived, header, type(body)) == body

    @given(
        number=st.integers(-(2**64), 2**64),
        names=st.lists(st.text(max_size=5)).map(tuple),
        total=st.none() | st.binary(max_size=40),
        counts=st.none() | st.binary(max_size=40),
    )
    def test_whatever_the_fields_hold(
        self,
        number: int,
        names: tuple[str, ...],
        total: bytes | None,
        counts: bytes | None,
    ) -> None:
        body = Step(
            round=number,
            train=True,
            evaluate=False,
            finish=False,
            contributors=names,
            total=total,
            counts=counts,
        )
        packet = Packet.from_wire(sent(body).to_wire())
        assert read_body(packet, open_header(packet, KEY.public), Step) == body

    def test_the_header_is_what_was_said(self) -> None:
        packet = sent(MakeKeys(cohort=b"document"), recipient="f" * 64, deadline=7)
        assert open_header(packet, KEY.public) == Header(
            kind="make-keys",
            version=VERSION,
            sender=KEY.fingerprint,
            recipient="f" * 64,
            job=PLACE.job,
            epoch=2,
            attempt=5,
            cohort=PLACE.cohort,
            deadline=7.0,
            body={},
            blobs={"cohort": hashlib.sha256(b"document").hexdigest()},
        )

    def test_a_blob_that_is_absent_is_not_an_empty_one(self) -> None:
        packet = sent(Step(round=1, train=True, evaluate=False, finish=False, total=b""))
        assert packet.blobs == {"total": b""}
        body = read_body(packet, open_header(packet, KEY.public), Step)
        assert (body.total, body.counts) == (b"", None)

    def test_blobs_travel_beside_the_header_once(self) -> None:
        body = Stepped(weights_tag="ab", head=b"cd", update=b"0123456789" * 100)
        packet = sent(body)
        names = {"kind", "sender", "header", "signature", "blob:update"}
        assert set(packet.to_wire()) == names
        assert len(packet.header) < 1000
        assert packet.size == len(packet.header) + 64 + 1000


class TestTampering:
    """Whatever a carrier changes is found before a byte of it is parsed."""

    PACKET = sent(BODIES[5])

    @settings(max_examples=150)
    @given(data=st.data())
    def test_any_bit_of_any_part(self, data: st.DataObject) -> None:
        wire = self.PACKET.to_wire()
        part = data.draw(st.sampled_from([name for name, value in wire.items() if value]))
        changed = bytearray(wire[part])
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
        with pytest.raises(IntegrityError):
            open_header(Packet.from_wire({**wire, part: bytes(changed)}), KEY.public)

    @pytest.mark.parametrize(
        "change",
        [
            lambda blobs: {**blobs, "total": b""},
            lambda blobs: {**blobs, "total": blobs["bundle"], "bundle": blobs["total"]},
            lambda blobs: {name: blob for name, blob in blobs.items() if name != "total"},
            lambda blobs: {**blobs, "model": b"one more"},
            lambda _: {},
        ],
        ids=["emptied", "swapped", "taken out", "added", "none"],
    )
    def test_blobs(self, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
        packet = dataclasses.replace(self.PACKET, blobs=change(dict(self.PACKET.blobs)))
        with pytest.raises(IntegrityError, match="not what its sender signed"):
            open_header(packet, KEY.public)

    @pytest.mark.parametrize("kind", ["stepped", "stop", "", "step\0", "nonsense"])
    def test_a_packet_as_another_kind(self, kind: str) -> None:
        with pytest.raises(IntegrityError, match="does not hold"):
            open_header(dataclasses.replace(self.PACKET, kind=kind), KEY.public)

    def test_another_sender(self) -> None:
        with pytest.raises(IntegrityError, match=f"one by {OTHER.fingerprint}"):
            open_header(self.PACKET, OTHER.public)

    @pytest.mark.parametrize("part", ["kind", "sender", "header", "signature"])
    def test_parts_that_are_missing(self, part: str) -> None:
        wire = self.PACKET.to_wire()
        del wire[part]
        with pytest.raises(IntegrityError, match="hints, header, signature and blobs"):
            Packet.from_wire(wire)

    @pytest.mark.parametrize("part", ["blobs", "extra", "Blob:total", ""])
    def test_parts_that_are_unknown(self, part: str) -> None:
        with pytest.raises(IntegrityError, match="nothing else"):
            Packet.from_wire({**self.PACKET.to_wire(), part: b""})

    @pytest.mark.parametrize("hint", ["kind", "sender"])
    @pytest.mark.parametrize("value", [b"\xff\xfe", "stäp".encode(), b"s" * 65, b"s" * 10_000])
    def test_a_hint_that_is_no_short_text(self, hint: str, value: bytes) -> None:
        with pytest.raises(IntegrityError, match="kind and sender; expected at most 64 ASCII"):
            Packet.from_wire({**self.PACKET.to_wire(), hint: value})


class TestWhatASenderSigned:
    """A sender with a right key who signs what is wrong."""

    PACKET = sent(Stop(reason="over"))

    @pytest.mark.parametrize(
        "header",
        [b"", b"{}", b"[1]", b"\xff", b'{"kind" : "stop"}'],
        ids=["nothing", "empty", "a list", "no text", "a second spelling"],
    )
    def test_no_header(self, header: bytes) -> None:
        with pytest.raises(IntegrityError, match="a signed header cannot be read"):
            open_header(signed("stop", header), KEY.public)

    def test_a_header_with_one_field_more_or_less(self) -> None:
        fields = from_canonical(self.PACKET.header)
        for odd in ({**fields, "extra": 1}, {k: v for k, v in fields.items() if k != "cohort"}):
            with pytest.raises(IntegrityError, match="a signed header cannot be read"):
                open_header(signed("stop", to_canonical(odd)), KEY.public)

    def test_another_kind_in_the_header_than_outside(self) -> None:
        header = header_of(self.PACKET, kind="step")
        with pytest.raises(IntegrityError, match="a packet's kind, sender or content"):
            open_header(signed("stop", header), KEY.public)

    def test_somebody_elses_name(self) -> None:
        header = header_of(self.PACKET, sender=OTHER.fingerprint)
        with pytest.raises(IntegrityError, match="a packet's kind, sender or content"):
            open_header(signed("stop", header), KEY.public)

    @pytest.mark.parametrize("version", [0, VERSION + 1])
    def test_another_protocol_version(self, version: int) -> None:
        header = header_of(self.PACKET, version=version)
        with pytest.raises(RefusalError, match="same release of fedward on both sides") as caught:
            open_header(signed("stop", header), KEY.public)
        assert (caught.value.code, caught.value.found) == (Code.VERSION, str(version))

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ({}, "missing"),
            ({"reason": 1}, "wrong type"),
            ({"reason": "over", "more": 1}, "unknown key"),
        ],
    )
    def test_a_body_that_does_not_fit(self, body: dict[str, object], problem: str) -> None:
        packet = signed("stop", header_of(self.PACKET, body=body))
        header = open_header(packet, KEY.public)
        with pytest.raises(IntegrityError, match="a stop packet's fields do not fit") as caught:
            read_body(packet, header, Stop)
        assert problem in str(caught.value.__cause__)

    def test_a_blob_that_its_kind_does_not_have(self) -> None:
        digest = {"total": hashlib.sha256(b"sum").hexdigest()}
        packet = signed("stop", header_of(self.PACKET, blobs=digest), total=b"sum")
        header = open_header(packet, KEY.public)
        with pytest.raises(IntegrityError, match="does not fit where stop is expected"):
            read_body(packet, header, Stop)

    def test_another_kind_than_is_expected(self) -> None:
        header = open_header(self.PACKET, KEY.public)
        with pytest.raises(IntegrityError, match=r"a stop packet .* where stopped is expected"):
            read_body(self.PACKET, header, Stopped)

    def test_a_blob_that_must_be_there(self) -> None:
        packet = signed("make-keys", header_of(self.PACKET, kind="make-keys", body={}))
        header = open_header(packet, KEY.public)
        with pytest.raises(IntegrityError, match="fields do not fit"):
            read_body(packet, header, MakeKeys)
