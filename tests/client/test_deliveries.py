"""A hospital in a delivery whose every message the test writes: what it agrees to, and what not."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.hospital import Hospital
from client.member import Member
from client.session import MemorySessions
from learning.artefact import save, versions
from learning.handed import shared_card
from privacy.keys import Ephemeral
from privacy.letters import Route, write_letter
from protocol.canonical import from_canonical, to_canonical
from protocol.cohort import Member as Keys
from protocol.deliveries import CONTEXT, Delivery, Statement
from protocol.delivery_messages import HandOver, Offer, Ready, Received, Vouch, Vouched
from protocol.errors import Code
from protocol.jobs import Job
from protocol.messages import Body, Packet, Place, Refused, open_header, pack, read_body
from protocol.signing import SigningKey
from protocol.trust import Trust
from simulations.consortium import Consortium
from tests.delivered import (
    HOLDERS,
    RECIPIENT,
    card_of,
    change_policy,
    delivery_of,
    fill,
    four,
    job_of,
    store,
    weights_of,
)
from tests.server.ward import copy_of

Template = tuple[Consortium, Job]


class Stage:
    """Four hospitals, and a coordinator whose every message the test writes."""

    def __init__(self, consortium: Consortium, job: Job) -> None:
        self.consortium = consortium
        self.job = job
        self.delivery = delivery_of(consortium, job)
        self._stack = ExitStack()
        self._opened: dict[str, tuple[Hospital, Member]] = {}

    def close(self) -> None:
        self._stack.close()

    def member(self, name: str) -> tuple[Hospital, Member]:
        if name not in self._opened:
            self.restart(name)
        return self._opened[name]

    def restart(self, name: str) -> None:
        """As after a kill: a new process with nothing in memory."""
        hospital = self._stack.enter_context(self.consortium.open(name))
        self._opened[name] = (hospital, Member(hospital, MemorySessions()))

    def sign(self, delivery: Delivery) -> dict[str, bytes]:
        data = delivery.to_bytes()
        return {"delivery": data, "signature": self.consortium.coordinator.sign(CONTEXT, data)}

    def offer(self, delivery: Delivery | None = None, **changes: Any) -> Offer:
        words = {**self.sign(delivery or self.delivery), "job": self.job.to_bytes()}
        return Offer(**{**words, **changes})

    def vouch(self, keys: Mapping[str, bytes], *, send: bool = False, **changes: Any) -> Vouch:
        words = {**self.sign(self.delivery), "recipients": to_canonical(dict(keys))}
        return Vouch(**{"send": send, **words, **changes})

    def say(self, name: str, body: Body, *, attempt: int = 1, about: str | None = None) -> Packet:
        hospital, member = self.member(name)
        packet = pack(
            body,
            Place(job=about or self.delivery.digest, attempt=attempt),
            self.consortium.coordinator,
            recipient=hospital.key.fingerprint,
            deadline=time.time() + 60,
        )
        return member.answer(packet)

    def read(self, name: str, packet: Packet, cls: type[Any]) -> Any:
        header = open_header(packet, self.member(name)[0].key.public)
        assert packet.kind == cls.KIND, read_body(packet, header, Refused)
        return read_body(packet, header, cls)

    def code(self, name: str, packet: Packet) -> Code:
        header = open_header(packet, self.member(name)[0].key.public)
        return read_body(packet, header, Refused).code

    def reason(self, name: str) -> str:
        """Why a hospital refused last, as only it knows."""
        path = self.consortium.folder / name / "journal.jsonl"
        line = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        return str(line["document"]["fields"]["reason"])

    def keys(self, *, attempt: int = 1) -> dict[str, bytes]:
        """The recipient's answer to an offer."""
        packet = self.say(RECIPIENT, self.offer(), attempt=attempt)
        return {RECIPIENT: self.read(RECIPIENT, packet, Ready).member}

    def letters(self, keys: Mapping[str, bytes], *, attempt: int = 1) -> dict[str, bytes]:
        """Every holder's letter to the recipient; the first has the model."""
        found = {}
        for name in HOLDERS:
            body = self.vouch(keys, send=name == HOLDERS[0])
            said = self.read(name, self.say(name, body, attempt=attempt), Vouched)
            found[name] = from_canonical(said.letters)[RECIPIENT]
        return found

    def hand(self, letters: Mapping[str, bytes], *, attempt: int = 1) -> Packet:
        body = HandOver(letters=to_canonical(dict(letters)))
        return self.say(RECIPIENT, body, attempt=attempt)

    def stored(self) -> tuple[int, ...]:
        return versions(self.consortium.folder / RECIPIENT / "models", self.job.name)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    consortium = four(tmp_path_factory.mktemp("template") / "hospitals")
    job = job_of(consortium)
    fill(consortium, job)
    return consortium, job


@pytest.fixture
def stage(tmp_path: Path, template: Template) -> Iterator[Stage]:
    consortium, job = template
    made = Stage(copy_of(consortium, tmp_path / "hospitals"), job)
    yield made
    made.close()


def test_offer_letters_model(stage: Stage) -> None:
    for name in HOLDERS:
        ready = stage.read(name, stage.say(name, stage.offer()), Ready)
        assert (ready.name, ready.holds, ready.member) == (name, True, None)
        assert (ready.needed, ready.vouchers) == (0, ())

    stage.read(RECIPIENT, stage.hand(stage.letters(stage.keys())), Received)

    assert stage.stored() == (1,)


class TestRecipient:
    def test_asked_again_it_has_the_same_keys_and_later_new_ones(self, stage: Stage) -> None:
        first = stage.keys()
        assert stage.keys() == first
        assert stage.keys(attempt=2) != first
        assert stage.code(RECIPIENT, stage.say(RECIPIENT, stage.offer())) is Code.REPLAYED

    def test_one_that_has_the_model_says_so_and_stores_no_other(self, stage: Stage) -> None:
        letters = stage.letters(stage.keys())
        stage.hand(letters)

        stage.read(RECIPIENT, stage.hand(letters), Received)
        ready = stage.read(RECIPIENT, stage.say(RECIPIENT, stage.offer(), attempt=2), Ready)

        assert (ready.holds, ready.member, stage.stored()) == (True, None, (1,))

    def test_letters_of_before_a_restart_open_nothing(self, stage: Stage) -> None:
        letters = stage.letters(stage.keys())
        stage.restart(RECIPIENT)

        assert stage.code(RECIPIENT, stage.hand(letters)) is Code.SESSION
        stage.keys(attempt=2)
        assert stage.code(RECIPIENT, stage.hand(letters)) is Code.REPLAYED
        assert stage.code(RECIPIENT, stage.hand(letters, attempt=2)) is Code.INTEGRITY
        assert stage.stored() == ()

    def test_one_letter_alone_or_letters_swapped_are_not_believed(self, stage: Stage) -> None:
        letters = stage.letters(stage.keys())
        first, second, third = HOLDERS
        for wrong in (
            {first: letters[first]},
            {second: letters[second], third: letters[third]},
            {first: letters[first], second: letters[third]},
            {first: letters[first], RECIPIENT: letters[second]},
            {first: letters[first], second: b""},
        ):
            assert stage.code(RECIPIENT, stage.hand(wrong)) is Code.INTEGRITY
            assert "too few hospitals vouch" in stage.reason(RECIPIENT)
        # The letters themselves are still good.
        stage.read(RECIPIENT, stage.hand(letters), Received)

    def test_what_comes_after_the_end_is_not_taken(self, stage: Stage) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=50)
        stage.delivery = replace(stage.delivery, expires=soon.isoformat())
        letters = stage.letters(stage.keys())
        stage.member(RECIPIENT)[0].clock = lambda: datetime.now(UTC) + timedelta(seconds=55)

        assert stage.code(RECIPIENT, stage.hand(letters)) is Code.EXPIRED
        assert stage.stored() == ()

    def test_the_journal_has_a_model_before_the_store(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed in between, it is asked again, and no model is there that no line tells of."""

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        letters = stage.letters(stage.keys())
        with monkeypatch.context() as patch:
            patch.setattr("client.model_recipient.save", die)
            with pytest.raises(KeyboardInterrupt):
                stage.hand(letters)
        path = stage.consortium.folder / RECIPIENT / "journal.jsonl"
        entry = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["document"]
        assert (entry["kind"], entry["fields"]["folder"], stage.stored()) == ("received", "1", ())
        stage.restart(RECIPIENT)

        stage.read(RECIPIENT, stage.hand(stage.letters(stage.keys())), Received)
        assert stage.stored() == (1,)

    def test_letters_that_are_no_letters(self, stage: Stage) -> None:
        stage.keys()
        for data in (b"", to_canonical([]), to_canonical({"north": "text"})):
            packet = stage.say(RECIPIENT, HandOver(letters=data))
            assert stage.code(RECIPIENT, packet) is Code.INTEGRITY

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"weights": b"1234"}, Code.INTEGRITY),
            ({"weights": np.zeros(1).tobytes()}, Code.INTEGRITY),
            ({"card": b"{}"}, Code.INTEGRITY),
            ({"card": {"rounds": 7, "digests": {"layout": "0" * 64}}}, Code.INTEGRITY),
            ({"layout": "0" * 64}, Code.INTEGRITY),
            ({"card": {"privacy": {"mode": "local"}}}, Code.INTEGRITY),
            ({"card": {"preprocessing": 999}}, Code.VERSION),
        ],
    )
    def test_what_two_colluding_holders_vouch_for_is_still_read_strictly(
        self, stage: Stage, changes: dict[str, Any], code: Code
    ) -> None:
        keys = Keys.from_bytes(stage.keys()[RECIPIENT])
        letters = {
            name: forged(stage, name, keys, changes, send=name == "north")
            for name in ("north", "south")
        }

        assert stage.code(RECIPIENT, stage.hand(letters)) is code
        assert stage.stored() == ()

    def test_a_hospital_that_is_confirmed_no_longer_does_not_count(self, stage: Stage) -> None:
        letters = stage.letters(stage.keys())
        path = stage.consortium.folder / RECIPIENT / "trust.json"
        Trust.load(path).forget("south").forget("east").save(path)
        stage.restart(RECIPIENT)

        assert stage.code(RECIPIENT, stage.say(RECIPIENT, stage.offer())) is Code.COHORT
        assert "confirm more of them" in stage.reason(RECIPIENT)
        assert stage.code(RECIPIENT, stage.hand(letters)) is Code.SESSION

    def test_only_hospitals_of_the_job_count(self, stage: Stage) -> None:
        stage.delivery = delivery_of(
            stage.consortium, stage.job, holders=("north", "west"), recipients=("east",)
        )
        change_policy(stage.consortium, "east", accept_models=True)

        assert stage.code("east", stage.say("east", stage.offer())) is Code.COHORT
        assert "found 1" in stage.reason("east")

    @pytest.mark.parametrize(
        ("policy", "code", "told"),
        [
            ({"accept_models": False}, Code.POLICY, "accept_models: true"),
            ({"tasks": ["imaging"]}, Code.POLICY, "policy.tasks"),
            ({"max_parameters": 1}, Code.POLICY, "model size"),
            ({"min_colluding_sites": 3}, Code.COHORT, "expected 4 that the job asked"),
            ({"coordinators": ["0" * 64]}, Code.POLICY, "is not allowed"),
        ],
    )
    def test_its_policy(self, stage: Stage, policy: dict[str, Any], code: Code, told: str) -> None:
        change_policy(stage.consortium, RECIPIENT, **policy)

        assert stage.code(RECIPIENT, stage.say(RECIPIENT, stage.offer())) is code
        assert told in stage.reason(RECIPIENT)

    def test_a_model_without_privacy_a_task_that_is_not_here_another_job(
        self, stage: Stage
    ) -> None:
        job = stage.job
        for other, code in (
            (replace(job, privacy=replace(job.privacy, mode="none")), Code.POLICY),
            (replace(job, task=replace(job.task, options={"unheard": "of"})), Code.TASK),
            (replace(job, layout="0" * 64), Code.VERSION),
        ):
            stage.job = other
            stage.delivery = delivery_of(stage.consortium, other)
            assert stage.code(RECIPIENT, stage.say(RECIPIENT, stage.offer())) is code
        stage.delivery = delivery_of(stage.consortium, job)
        assert stage.code(RECIPIENT, stage.say(RECIPIENT, stage.offer())) is Code.SIGNATURE
        # Under another name it would be stored again each time.
        stage.job, stage.delivery = job, delivery_of(stage.consortium, job, name="another")
        assert stage.code(RECIPIENT, stage.say(RECIPIENT, stage.offer())) is Code.SIGNATURE
        packet = stage.say(RECIPIENT, stage.offer(job=b"{}"))
        assert stage.code(RECIPIENT, packet) is Code.SIGNATURE


def forged(stage: Stage, name: str, keys: Keys, changes: Mapping[str, Any], *, send: bool) -> bytes:
    """A letter of a holder that says what it likes."""
    weights = weights_of(stage.job)
    data = changes.get("weights", weights.tobytes())
    card = from_canonical(shared_card(card_of(stage.job, weights)))
    digest = hashlib.sha256(data).hexdigest()
    layout = changes.get("layout", stage.job.layout)
    card["digests"] |= {"weights": digest, "layout": layout}
    extra = changes.get("card", {})
    if isinstance(extra, bytes):
        shared = extra
    else:
        for key, value in extra.items():
            card[key] = {**card[key], **value} if isinstance(value, dict) else value
        shared = to_canonical(card)
    statement = Statement(
        delivery=stage.delivery.digest,
        recipient=RECIPIENT,
        job=stage.job.digest,
        layout=layout,
        weights=digest,
        card=shared,
    )
    route = Route(
        delivery=stage.delivery.digest,
        roster=stage.delivery.roster,
        attempt=1,
        sender=name,
        recipient=RECIPIENT,
    )
    key = stage.member(name)[0].key
    return write_letter(statement, route, kem=keys.kem, weights=data if send else None, key=key)


def test_a_policy_that_assumes_more_colluders_wants_more_to_agree(stage: Stage) -> None:
    change_policy(stage.consortium, RECIPIENT, min_colluding_sites=2)
    letters = stage.letters(stage.keys())
    two = {name: letters[name] for name in HOLDERS[:2]}

    assert stage.code(RECIPIENT, stage.hand(two)) is Code.INTEGRITY
    stage.read(RECIPIENT, stage.hand(letters), Received)


class TestHolder:
    def test_the_journal_has_it_before_it_leaves_and_it_is_the_same_model_again(
        self, stage: Stage
    ) -> None:
        keys = stage.keys()
        stage.letters(keys)
        path = stage.consortium.folder / "south" / "journal.jsonl"
        entry = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["document"]
        assert entry["kind"] == "handed-on"
        assert entry["fields"]["delivery"] == stage.delivery.digest
        assert list(entry["fields"]["letters"]) == [RECIPIENT]
        assert entry["fields"]["weights"] is False
        # Asked again, letters are sealed anew and say the same.
        stage.read(RECIPIENT, stage.hand(stage.letters(keys)), Received)

    @pytest.mark.parametrize("to", [[], ["east"]])
    def test_nothing_goes_to_whom_its_policy_does_not_name(
        self, stage: Stage, to: list[str]
    ) -> None:
        keys = stage.keys()
        change_policy(stage.consortium, "north", hand_on_to=to)

        assert stage.code("north", stage.say("north", stage.offer())) is Code.POLICY
        assert "policy.hand_on_to" in stage.reason("north")
        assert stage.code("north", stage.say("north", stage.vouch(keys))) is Code.POLICY

    def test_one_that_hands_nothing_on_does_not_tell_what_it_holds(self, stage: Stage) -> None:
        change_policy(stage.consortium, "north", hand_on_to=[])
        other = replace(stage.delivery, job="0" * 64)

        packet = stage.say("north", stage.offer(other), about=other.digest)
        assert stage.code("north", packet) is Code.POLICY

    def test_nothing_goes_to_whom_nobody_confirmed(self, stage: Stage) -> None:
        path = stage.consortium.folder / "north" / "trust.json"
        Trust.load(path).forget(RECIPIENT).save(path)

        assert stage.code("north", stage.say("north", stage.offer())) is Code.ROSTER

    def test_what_it_does_not_hold_or_not_whole(self, stage: Stage) -> None:
        place = stage.consortium.folder / "north" / "models" / stage.job.name / "1"
        (place / "card.json").write_bytes((place / "card.json").read_bytes() + b" ")
        assert stage.code("north", stage.say("north", stage.offer())) is Code.SESSION
        other = replace(stage.delivery, job="0" * 64)
        packet = stage.say("south", stage.offer(other), about=other.digest)
        assert stage.code("south", packet) is Code.SESSION

    def test_one_that_was_handed_the_model_vouches_for_nothing(self, stage: Stage) -> None:
        """Else two that collude count as three where somebody believed them before."""
        hospital = stage.member("north")[0]
        shutil.rmtree(hospital.models)
        store(hospital, stage.job, handed_on_by=("south", "east"))
        keys = stage.keys()

        assert stage.code("north", stage.say("north", stage.offer())) is Code.SESSION
        assert "was itself handed on, by south, east" in stage.reason("north")
        assert stage.code("north", stage.say("north", stage.vouch(keys))) is Code.SESSION

    def test_a_model_of_mode_none(self, stage: Stage) -> None:
        hospital = stage.member("north")[0]
        place = hospital.models / stage.job.name / "1"
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
        weights = weights_of(stage.job)
        card = card_of(stage.job, weights)
        save(
            hospital.models,
            replace(card, privacy=replace(card.privacy, mode="none")),
            weights,
            hospital.key,
        )

        assert stage.code("north", stage.say("north", stage.offer())) is Code.POLICY
        assert "mode 'none' is not handed on" in stage.reason("north")

    def test_keys_that_the_recipient_did_not_vouch_for_in_this_delivery(self, stage: Stage) -> None:
        real = stage.keys()[RECIPIENT]
        thief = SigningKey.generate()

        def keys(key: SigningKey, job: str, name: str = RECIPIENT) -> bytes:
            ephemeral = Ephemeral.generate()
            roster = stage.delivery.roster
            return ephemeral.member(name=name, job=job, roster=roster, key=key).to_bytes()

        west = stage.member(RECIPIENT)[0].key
        east = stage.member("east")[0].key
        for wrong in (
            {RECIPIENT: keys(thief, stage.delivery.digest)},
            {RECIPIENT: keys(west, stage.job.digest)},
            {RECIPIENT: keys(west, stage.delivery.digest, "hill")},
            {"east": keys(east, stage.delivery.digest, "east")},
            {"east": real},
            {RECIPIENT: b"nothing"},
        ):
            packet = stage.say("north", stage.vouch(wrong))
            assert stage.code("north", packet) is Code.SIGNATURE

    def test_a_recipient_is_asked_for_no_letter(self, stage: Stage) -> None:
        packet = stage.say(RECIPIENT, stage.vouch({}))
        assert stage.code(RECIPIENT, packet) is Code.ROSTER


class TestOrigin:
    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"version": 2}, Code.VERSION),
            ({"coordinator": "0" * 64}, Code.SIGNATURE),
            ({"roster": "0" * 64}, Code.ROSTER),
            ({"holders": ("south", "east")}, Code.ROSTER),
            (
                {"expires": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()},
                Code.EXPIRED,
            ),
        ],
    )
    def test_a_delivery_that_is_not_for_this_hospital_now(
        self, stage: Stage, changes: dict[str, Any], code: Code
    ) -> None:
        other = delivery_of(stage.consortium, stage.job, **changes)
        packet = stage.say("north", stage.offer(other), about=other.digest)
        assert stage.code("north", packet) is code

    def test_one_that_the_coordinator_did_not_sign_as_one(self, stage: Stage) -> None:
        data = stage.delivery.to_bytes()
        for signature in (
            SigningKey.generate().sign(CONTEXT, data),
            stage.consortium.coordinator.sign("job", data),
        ):
            packet = stage.say("north", stage.offer(signature=signature))
            assert stage.code("north", packet) is Code.SIGNATURE

    def test_a_packet_of_another_delivery_than_it_carries(self, stage: Stage) -> None:
        packet = stage.say("north", stage.offer(), about="0" * 64)
        assert stage.code("north", packet) is Code.SIGNATURE
