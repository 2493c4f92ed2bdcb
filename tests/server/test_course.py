"""A coordinator faced with bad hospitals goes on without them, or ends and says why."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.he.sum import RemoteSum, SumProcess
from protocol import messages
from protocol.canonical import from_canonical, to_canonical
from protocol.cohort import Member
from protocol.config import parse
from protocol.errors import IntegrityError
from protocol.jobs import Publication
from protocol.messages import Enrolled, KeysMade, Packet, Place, Refused, Stepped, pack
from protocol.records import parts_of, to_record
from protocol.signing import SigningKey
from server import rounds, terms
from server.course import Course
from server.exchange import Arrival, Exchange
from server.launch import Event, Outcome
from server.requests import EncryptionRequest, EvaluationRequest, TrainingRequest
from server.sums import ClearCollector
from simulations.engine import Way, inline_app, sign
from simulations.inline import InlineGrid
from tests.consortium import make_consortium, make_job, make_request
from tests.simulations.runs import models

NAMES = ("north", "south", "east", "west")
BAD = "south"
Corrupt = Callable[[Packet, SigningKey], Packet | None]
"""From a right answer of the bad hospital, and its key, to what it sends instead; None: nothing."""


class Bench:
    """Four hospitals, one of them bad; three are enough."""

    def __init__(self, folder: Path, **request: Any) -> None:
        self.consortium = make_consortium(folder, hospitals=4)
        self.job = make_job(self.consortium, make_request(hospitals=4, **request))
        self.grid: InlineGrid | None = None

    def key(self, name: str) -> SigningKey:
        return SigningKey.load(self.consortium.folder / name / "keys" / "signing.key")

    def run(self, corrupt: Corrupt, *, bad: str = BAD, child: SumProcess | None = None) -> Outcome:
        index, key = self.consortium.names.index(bad), self.key(bad)
        with inline_app(Way.to(self.consortium)) as honest, SumProcess() as own:

            def app(message: Message, context: Context) -> Message:
                reply = honest(message, context)
                if context.node_config["partition-id"] != index:
                    return reply
                packet = corrupt(_packet(reply), key)
                if packet is None:
                    return Message(Error(1, "no answer"), reply_to=message)
                return _reply(packet, message)

            self.grid = InlineGrid(cast("ClientApp", app), 4)
            course = Course(
                sign(self.consortium, self.job), Exchange(self.grid, poll_s=0.0), child or own
            )
            return course.run()

    def others(self, bad: str = BAD) -> set[str]:
        return set(self.consortium.names) - {bad}


def _packet(reply: Message) -> Packet:
    return Packet.from_wire(parts_of(reply.content))


def _reply(packet: Packet, message: Message) -> Message:
    return Message(to_record(packet.to_wire()), reply_to=message)


def again(packet: Packet, key: SigningKey, *, place: Place | None = None, **changes: Any) -> Packet:
    """The same answer with other fields, rightly signed."""
    header = from_canonical(packet.header)
    cls: Any = {one.KIND: one for one in (Enrolled, KeysMade, Stepped)}[packet.kind]
    body = parse(cls, {**header["body"], **packet.blobs}, packet.kind)
    here = Place(
        job=header["job"],
        epoch=header["epoch"],
        attempt=header["attempt"],
        cohort=header["cohort"],
    )
    return pack(
        replace(body, **changes),
        place or here,
        key,
        recipient=header["recipient"],
        deadline=header["deadline"],
    )


def only(kind: str, change: Corrupt) -> Corrupt:
    """Corrupt answers of one kind."""
    return lambda packet, key: change(packet, key) if packet.kind == kind else packet


def reheaded(packet: Packet, key: SigningKey, **changes: Any) -> Packet:
    """The same answer with another header, rightly signed."""
    header = to_canonical({**from_canonical(packet.header), **changes})
    return replace(packet, header=header, signature=key.sign(f"packet:{packet.kind}", header))


def member(packet: Packet, key: SigningKey, **changes: Any) -> Packet:
    """An enrolment with other ephemeral keys, rightly vouched for."""
    made = replace(Member.from_bytes(packet.blobs["member"]), **changes)
    header = from_canonical(packet.header)
    job = header["job"]
    vouched = Member.create(
        name=made.name, job=job, roster=ROSTER[0], kem=made.kem, exchange=made.exchange, key=key
    )
    return again(packet, key, member=vouched.to_bytes())


ROSTER = [""]

ENROLMENTS: dict[str, tuple[Corrupt, str]] = {
    "wrong signature": (lambda p, _: replace(p, signature=bytes(64)), "deadline"),
    "no signature": (lambda p, _: replace(p, signature=b""), "deadline"),
    "another's name": (lambda p, _: replace(p, sender="0" * 64), "deadline"),
    "empty header": (lambda p, _: replace(p, header=b""), "deadline"),
    "silence": (lambda _, __: None, "deadline"),
    "another version": (lambda p, key: reheaded(p, key, version=2), "version"),
    "garbage header": (lambda p, key: reheaded(p, key, body={"x": 1}), "failed"),
    "garbage member": (lambda p, key: again(p, key, member=b"garbage"), "failed"),
    "deep member": (lambda p, key: again(p, key, member=b"[" * 100_000), "failed"),
    "another's answer kind": (
        lambda p, key: pack(
            Refused(name=BAD, reason="no such reason"),
            Place(job=from_canonical(p.header)["job"]),
            key,
            recipient=from_canonical(p.header)["recipient"],
            deadline=1e12,
        ),
        "failed",
    ),
    "zero exchange key": (lambda p, key: member(p, key, exchange=bytes(32)), "failed"),
    "zero kem key": (lambda p, key: member(p, key, kem=bytes(32)), "failed"),
    "kem key out of range": (lambda p, key: member(p, key, kem=b"\xff" * 1216), "failed"),
}


@pytest.mark.parametrize("name", ENROLMENTS)
def test_a_bad_enrolment_is_left_out_and_named(name: str, tmp_path: Path) -> None:
    corrupt, code = ENROLMENTS[name]
    bench = Bench(tmp_path / "c")
    ROSTER[0] = bench.job.roster
    outcome = bench.run(only("enrolled", corrupt))
    assert outcome.status == "completed", outcome
    assert outcome.refusals == {BAD: code}
    assert set(models(bench.consortium, bench.job)) == bench.others()


def test_two_hospitals_with_the_same_ephemeral_keys_are_not_both_taken(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "c")
    ROSTER[0] = bench.job.roster
    kept: list[Member] = []

    def copy(packet: Packet, key: SigningKey) -> Packet:
        assert bench.grid is not None
        first = next(m for m in map(_packet, bench.grid.seen) if m.kind == "enrolled")
        kept.append(Member.from_bytes(first.blobs["member"]))
        return member(packet, key, exchange=kept[0].exchange)

    outcome = bench.run(only("enrolled", copy))
    assert outcome.status == "completed"
    assert outcome.refusals == {BAD: "failed"}


def test_a_refusal_is_shown_with_its_code_although_the_job_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "c")
    config = tmp_path / "c" / BAD / "hospital.yaml"
    config.write_text(config.read_text().replace("epsilon_per_job: 1000.0", "epsilon_per_job: 0.1"))
    outcome = bench.run(lambda packet, _: packet)
    assert outcome.status == "completed"
    assert outcome.refusals == {BAD: "policy"}


def _maker(bench: Bench) -> str:
    return min(bench.consortium.names, key=lambda name: bench.key(name).fingerprint)


def _renamed(packet: Packet, key: SigningKey) -> Packet:
    bundles = from_canonical(packet.blobs["bundles"])
    return again(
        packet, key, bundles=to_canonical({f"{name}-2": one for name, one in bundles.items()})
    )


BUNDLES: dict[str, tuple[Corrupt, str]] = {
    "other names": (_renamed, "failed"),
    "garbage": (lambda p, key: again(p, key, bundles=b"garbage"), "failed"),
    "a list": (lambda p, key: again(p, key, bundles=to_canonical([1])), "failed"),
    "texts": (lambda p, key: again(p, key, bundles=to_canonical({"north": "x"})), "failed"),
    "wrong signature": (lambda p, _: replace(p, signature=bytes(64)), "signature"),
    "silence": (lambda _, __: None, "deadline"),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_maker_of_bad_bundles_is_left_out(name: str, tmp_path: Path) -> None:
    corrupt, code = BUNDLES[name]
    bench = Bench(tmp_path / "c")
    maker = _maker(bench)
    outcome = bench.run(only("keys-made", corrupt), bad=maker)
    assert outcome.status == "completed", outcome
    assert outcome.refusals == {maker: code}
    assert set(models(bench.consortium, bench.job)) == bench.others(maker)


def test_a_maker_of_bundles_that_do_not_open_ends_the_job_with_a_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "c")

    def swap(packet: Packet, key: SigningKey) -> Packet:
        bundles = from_canonical(packet.blobs["bundles"])
        names = sorted(bundles)
        turned = dict(zip(names, (bundles[name] for name in (*names[1:], names[0])), strict=True))
        return again(packet, key, bundles=to_canonical(turned))

    outcome = bench.run(only("keys-made", swap), bad=_maker(bench))
    assert outcome.status == "failed"
    assert outcome.reason == "0 hospitals are left, 3 are needed"
    assert set(outcome.refusals.values()) == {"integrity"}
    assert models(bench.consortium, bench.job) == {}


STEPS: dict[str, tuple[Corrupt, str]] = {
    "silence": (lambda _, __: None, "deadline"),
    "wrong signature": (lambda p, _: replace(p, signature=bytes(64)), "signature"),
    "another place": (
        lambda p, key: again(p, key, place=Place(job=from_canonical(p.header)["job"], epoch=9)),
        "replayed",
    ),
    "another job": (lambda p, key: again(p, key, place=Place(job="0" * 64)), "signature"),
    "short": (lambda p, key: again(p, key, update=p.blobs["update"][:-1]), "signature"),
    "long": (lambda p, key: again(p, key, update=p.blobs["update"] + b"\0"), "signature"),
    "empty": (lambda p, key: again(p, key, update=b""), "signature"),
    "nothing": (lambda p, key: again(p, key, update=None), "failed"),
    "all ones": (
        lambda p, key: again(p, key, update=b"\xff" * len(p.blobs["update"])),
        "signature",
    ),
    "another version": (lambda p, key: reheaded(p, key, version=7), "failed"),
    "fields": (lambda p, key: reheaded(p, key, body={"head": 5}), "signature"),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_bad_update_voids_the_attempt_and_the_others_finish(name: str, tmp_path: Path) -> None:
    corrupt, code = STEPS[name]
    bench = Bench(tmp_path / "c")

    def change(packet: Packet, key: SigningKey) -> Packet | None:
        return corrupt(packet, key) if "update" in packet.blobs else packet

    outcome = bench.run(only("stepped", change))
    assert outcome.status == "completed", outcome
    assert outcome.refusals == {BAD: code}
    # One that was silent is asked back once; when it is silent again, that was it.
    voids = 2 if name == "silence" else 1
    assert [event.kind for event in outcome.events].count("void") == voids
    assert set(models(bench.consortium, bench.job)) == bench.others()


def test_a_hospital_with_another_model_is_left_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "c")
    change = only("stepped", lambda p, key: again(p, key, weights_tag="ab" * 32))
    outcome = bench.run(change)
    assert outcome.status == "completed"
    assert outcome.weights_tag != "ab" * 32
    assert [event.kind for event in outcome.events].count("void") == 1


class TestWithoutMasks:
    """Mode `local` without masks: the sum goes on with whoever came."""

    REQUEST: dict[str, Any] = {  # noqa: RUF012
        "mode": "local",
        "encryption": EncryptionRequest(masks=False),
        "training": TrainingRequest(rounds=3),
        "evaluation": EvaluationRequest(every=1),
    }

    @pytest.mark.parametrize("purpose", ["update", "counts"])
    def test_half_an_answer_spoils_no_sum(self, purpose: str, tmp_path: Path) -> None:
        bench = Bench(tmp_path / "c", **self.REQUEST)

        def change(packet: Packet, key: SigningKey) -> Packet:
            if not {"update", "counts"} <= set(packet.blobs):
                return packet
            short: dict[str, Any] = {purpose: packet.blobs[purpose][:-1]}
            return again(packet, key, **short)

        outcome = bench.run(only("stepped", change))
        assert outcome.status == "completed", outcome
        assert outcome.refusals == {BAD: "signature"}
        assert "void" not in [event.kind for event in outcome.events]
        assert set(models(bench.consortium, bench.job)) == bench.others()


class TestSums:
    def test_a_summing_process_that_dies_voids_the_attempt_for_everybody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = Bench(tmp_path / "c")
        killed: list[int] = []
        residues = RemoteSum.residues

        def die(self: RemoteSum) -> bytes:
            if not killed:
                process = self._process
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                killed.append(process.pid)
            return residues(self)

        monkeypatch.setattr(RemoteSum, "residues", die)
        outcome = bench.run(lambda packet, _: packet)
        assert outcome.status == "completed", outcome
        assert outcome.refusals == {}
        assert [event.kind for event in outcome.events].count("void") == 1
        assert set(models(bench.consortium, bench.job)) == set(NAMES)

    def test_a_contribution_that_kills_the_summing_process_is_one_hospitals(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = Bench(tmp_path / "c")
        add = RemoteSum.add

        def die(self: RemoteSum, payload: bytes, *, sender: str = "") -> None:
            if sender == BAD:
                os.kill(self._process.pid, signal.SIGKILL)
            add(self, payload, sender=sender)

        monkeypatch.setattr(RemoteSum, "add", die)
        outcome = bench.run(lambda packet, _: packet)
        assert outcome.status == "completed", outcome
        assert outcome.refusals == {BAD: "signature"}
        assert set(models(bench.consortium, bench.job)) == bench.others()

    def test_every_sum_is_closed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        closed: list[RemoteSum] = []
        close = RemoteSum.close

        def note(self: RemoteSum) -> None:
            closed.append(self)
            close(self)

        monkeypatch.setattr(RemoteSum, "close", note)
        bench = Bench(tmp_path / "c", evaluation=EvaluationRequest(every=1))
        with SumProcess() as child:
            change = only("stepped", lambda p, _: replace(p, signature=bytes(64)))
            assert bench.run(change, child=child).status == "completed"
            assert len(closed) == child._opened > 3

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_plain_vector_is_finite(self, value: float) -> None:
        collector = ClearCollector(2)
        with pytest.raises(IntegrityError):
            collector.add("north", np.array([1.0, value]).tobytes())
        collector.add("south", np.ones(2).tobytes())
        assert np.frombuffer(collector.result()).tolist() == [1.0, 1.0]

    def test_lost_sums_void_an_attempt_and_nobody_is_left_out(self) -> None:
        rules = terms.Rules.of(make_job(request=make_request()))
        state = rounds.start(rules)
        for _ in range(2):
            state = rounds.advance(rules, state, _right(state))
        assert isinstance(state.command, terms.Attempt)
        after = rounds.advance(rules, state, _right(state), summed=False)
        assert (after.voids, after.members) == (1, state.members)
        assert isinstance(after.command, terms.MakeKeys)


def _right(state: terms.State) -> dict[str, terms.Answer]:
    names = ("north", "south", "east")
    return {name: terms.Answer(key=name if state.epoch == 0 else "tag") for name in names}


class TestWhatIsPublished:
    REQUEST: dict[str, Any] = {"publication": Publication(metrics=True, model=True)}  # noqa: RUF012

    def test_the_model_that_all_hand_over_is_taken(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path / "c", **self.REQUEST)
        outcome = bench.run(lambda packet, _: packet)
        weights = models(bench.consortium, bench.job)["north"].weights_P
        assert outcome.model == weights.tobytes()
        assert outcome.metrics

    @pytest.mark.parametrize("bad", ["north", "west"])
    def test_one_hospital_cannot_hand_over_a_model_of_its_own(
        self, bad: str, tmp_path: Path
    ) -> None:
        bench = Bench(tmp_path / "c", **self.REQUEST)

        def change(packet: Packet, key: SigningKey) -> Packet:
            if "model" not in packet.blobs:
                return packet
            return again(packet, key, model=bytes(len(packet.blobs["model"])), metrics={})

        outcome = bench.run(only("stepped", change), bad=bad)
        assert outcome.model is None
        assert outcome.metrics == {}

    def test_a_job_that_fails_hands_over_no_model(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path / "c", **self.REQUEST)

        def change(packet: Packet, key: SigningKey) -> Packet:
            return again(packet, key, weights_tag="x") if "model" in packet.blobs else packet

        outcome = bench.run(only("stepped", change))
        assert outcome.status == "failed"
        assert outcome.model is None


class Forgetful(InlineGrid):
    """A grid whose SuperLink takes no messages for some nodes, as Flower's two grids say it."""

    gone: Sequence[int] = ()
    named = True

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        every = list(messages)
        kept = {
            identifier
            for identifier, message in zip(super().push_messages(every), every, strict=True)
            if message.metadata.dst_node_id not in self.gone
        }
        found = [m.metadata.message_id if m.metadata.message_id in kept else "" for m in every]
        return found if self.named else [one for one in found if one]


@pytest.mark.parametrize("named", [True, False])
def test_nodes_that_no_message_reaches_are_silent(named: bool, tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "c", hospitals=4)
    job = make_job(consortium, make_request(hospitals=4))
    with inline_app(Way.to(consortium)) as app, SumProcess() as child:
        grid = Forgetful(app, 4)
        grid.gone, grid.named = (3, 4), named
        outcome = Course(sign(consortium, job), Exchange(grid, poll_s=0.0), child).run()
    assert outcome.status == "failed"
    assert "2 hospitals accepted, 3 needed" in outcome.reason
    assert outcome.refusals == {"south": "deadline", "east": "deadline"}


class Returning(Forgetful):
    """A grid of which a node is away for its next few looks."""

    away = 0

    def get_node_ids(self) -> Iterable[int]:
        self.away -= 1
        self.gone = (4,) if self.away > 0 else ()
        return [node for node in super().get_node_ids() if node not in self.gone]


def test_a_member_that_comes_back_while_the_job_is_closed_settles(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "c")
    job = make_job(consortium, make_request())

    def leave(event: Event) -> None:
        if event.kind == "finished":
            grid.away, grid.gone = 3, (4,)

    with inline_app(Way.to(consortium)) as app, SumProcess() as child:
        grid = Returning(app, 3)
        launch = sign(consortium, job, watch=leave)
        outcome = Course(launch, Exchange(grid, poll_s=0.0), child).run()

    assert outcome.status == "completed"
    assert set(outcome.events[-1].arrivals) == set(consortium.names)


def test_every_node_gives_one_arrival(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "c")
    with inline_app(Way.to(consortium)) as app:
        grid = Forgetful(app, 3)
        grid.gone = (2, 3)
        packet = Packet("stop", "x", b"x", bytes(64), {})
        arrivals: list[Arrival] = []
        exchange = Exchange(grid, poll_s=0.0)
        exchange.ask(dict.fromkeys((2, 3, 4), packet), arrivals.append, timeout_s=5)
    assert sorted(arrival.node for arrival in arrivals) == [2, 3, 4]
    assert Arrival(2, None) in arrivals


@settings(max_examples=25, deadline=None)
@given(junk=st.binary(max_size=200), where=st.sampled_from(["header", "signature"]))
def test_bytes_of_any_kind_are_no_answer(junk: bytes, where: str) -> None:
    key = SigningKey.generate()
    packet = pack(
        Refused(name="x", reason="policy"), Place(job="j"), key, recipient="*", deadline=1.0
    )
    changed = replace(packet, header=junk if where == "header" else packet.header)
    signature = key.sign("packet:refused", junk) if where == "header" else junk
    with pytest.raises(IntegrityError):
        messages.open_header(replace(changed, signature=signature), key.public)
