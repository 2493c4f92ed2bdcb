"""Deliveries from the coordinator's folder to a hospital's store, whoever dies or refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.model_sender import Sender
from learning.artefact import load, versions
from privacy.keys import Ephemeral
from protocol.bundle import SignedDelivery
from protocol.canonical import from_canonical, to_canonical
from protocol.cohort import Member as Keys
from protocol.deliveries import CONTEXT
from protocol.delivery_messages import Ready
from protocol.errors import BusyError, Code, InputError, IntegrityError
from protocol.jobs import Job
from protocol.journal import verify_journal
from protocol.messages import Packet, Place, Refused, pack
from protocol.records import parts_of
from protocol.signing import SigningKey
from server.archive import Archive
from server.config import ENVIRONMENT, Folder
from server.correspondence import Correspondence
from server.delivering import Delivering, Handing
from server.delivery_folder import DeliveryArchive, DeliveryFolder, Handed
from server.delivery_rules import Rules, Standing
from server.exchange import Arrival, Exchange
from server.launch import Outcome
from server.launched import LOCK, carry_out, main
from server.offers import Offered, Offers
from server.presence import hold
from simulations.consortium import Consortium
from simulations.engine import Way, inline_app
from simulations.inline import InlineGrid
from tests.delivered import (
    HOLDERS,
    RECIPIENT,
    change_policy,
    delivery_of,
    fill,
    four,
    job_of,
    store,
    weights_of,
)
from tests.server.premises import settle
from tests.server.ward import copy_of

Lost = Callable[[int, int], bool]
Template = tuple[Consortium, Job]


class Scene:
    """A coordinator's folder, and four hospitals of which three hold a model.

    Args:
        base: An empty folder.
        template: Hospitals of which three hold the model of a job.
        holders: Which of them still do.
    """

    def __init__(self, base: Path, template: Template, holders: tuple[str, ...] = HOLDERS) -> None:
        consortium, self.job = template
        self.consortium = copy_of(consortium, base / "hospitals")
        self.folder: Folder = settle(base, self.consortium.coordinator, self.consortium.roster)
        key = self.consortium.coordinator
        self.kept_job = Archive(self.folder.jobs).create(
            self.job, key.sign("job", self.job.to_bytes())
        )
        for name in set(HOLDERS) - set(holders):
            shutil.rmtree(self.consortium.folder / name / "models" / self.job.name)

    def launch(self, **changes: Any) -> DeliveryFolder:
        made = delivery_of(self.consortium, self.job, **changes)
        signature = self.consortium.coordinator.sign(CONTEXT, made.to_bytes())
        return DeliveryArchive(self.folder).create(made, signature)

    def run(
        self,
        kept: DeliveryFolder,
        *,
        drop: Lost = lambda _, __: False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        grid_of: Callable[[ClientApp], InlineGrid] | None = None,
    ) -> Handed:
        """One life of the coordinator and of all hospitals."""
        handing = Handing(
            kept=kept,
            job=self.job,
            key=self.consortium.coordinator,
            roster=self.consortium.roster,
            pause_s=0.01,
            clock=clock,
        )
        with inline_app(Way.to(self.consortium)) as app:
            grid = InlineGrid(app, 4, drop=drop) if grid_of is None else grid_of(app)
            exchange = Exchange(grid, poll_s=0.0)
            outcome = Delivering(handing, exchange).run()
        self.seen: list[Message] = grid.seen
        kept.save_outcome(outcome)
        return outcome

    def versions(self) -> tuple[int, ...]:
        return versions(self.consortium.folder / RECIPIENT / "models", self.job.name)

    def journal(self, name: str) -> str:
        return (self.consortium.folder / name / "journal.jsonl").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    consortium = four(tmp_path_factory.mktemp("template") / "hospitals")
    job = job_of(consortium)
    fill(consortium, job)
    return consortium, job


@pytest.fixture
def scene(tmp_path: Path, template: Template) -> Scene:
    return Scene(tmp_path, template)


def test_a_hospital_that_did_not_train_gets_the_model(scene: Scene) -> None:
    kept = scene.launch()

    outcome = scene.run(kept)

    assert (outcome.status, outcome.reason, outcome.received) == ("completed", "", (RECIPIENT,))
    assert outcome.refusals == {}
    with scene.consortium.open(RECIPIENT) as west:
        model = load(west.models / scene.job.name / "1", {west.key.fingerprint})
        verify_journal(west.base / "journal.jsonl", west.key.public)
    assert model.weights_P.tobytes() == weights_of(scene.job).tobytes()
    assert model.card.handed_on_by == HOLDERS
    assert model.card.metrics["auroc"].value == 0.8
    assert model.card.importance
    assert (model.card.privacy.epsilon, model.card.privacy.epsilon_settled) == (3.0, None)
    assert '"kind":"received"' in scene.journal(RECIPIENT)
    assert all('"kind":"handed-on"' in scene.journal(name) for name in HOLDERS)
    assert [event.kind for event in kept.events()] == ["offered", "vouched", "handed-over", "ended"]
    assert kept.events()[-1].bytes_up == 0


def test_nothing_that_passes_the_coordinator_has_the_model_or_a_digest_of_it(scene: Scene) -> None:
    scene.run(scene.launch())

    with scene.consortium.open("north") as north:
        card = load(north.models / scene.job.name / "1").card
    passed = b"".join(part for message in scene.seen for part in parts_of(message.content).values())
    assert weights_of(scene.job).tobytes()[:64] not in passed
    assert card.digests.weights.encode() not in passed
    assert bytes.fromhex(card.digests.weights) not in passed


def test_one_message_of_the_letters_has_the_weights_and_the_others_only_vouch(scene: Scene) -> None:
    scene.run(scene.launch())

    packets = [Packet.from_wire(parts_of(message.content)) for message in scene.seen]
    sizes = sorted(packet.size for packet in packets if packet.kind == "vouched")
    assert sizes[2] - sizes[1] >= weights_of(scene.job).nbytes
    assert sizes[1] - sizes[0] < 64


def test_a_second_delivery_stores_no_second_version(scene: Scene) -> None:
    scene.run(scene.launch())

    again = scene.run(scene.launch(nonce="1" * 32))

    assert again.status == "completed"
    assert scene.versions() == (1,)


def test_a_lost_hospital_of_the_job_gets_its_model_from_the_others(
    tmp_path: Path, template: Template
) -> None:
    scene = Scene(tmp_path, template, holders=("north", "south"))
    change_policy(scene.consortium, "east", accept_models=True)
    for name in ("north", "south"):
        change_policy(scene.consortium, name, hand_on_to=["east"])

    outcome = scene.run(scene.launch(holders=("north", "south"), recipients=("east",)))

    assert outcome.status == "completed"
    with scene.consortium.open("east") as east:
        assert load(east.models / scene.job.name / "1").card.handed_on_by == ("north", "south")


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        (RECIPIENT, {"accept_models": False}, "west: policy"),
        ("north", {"hand_on_to": []}, "needed and 1 is left; north: policy, east: policy"),
    ],
)
def test_by_default_nothing_is_handed_on_or_taken(
    scene: Scene, name: str, changes: dict[str, Any], told: str
) -> None:
    change_policy(scene.consortium, name, **changes)
    if name != RECIPIENT:
        change_policy(scene.consortium, "east", **changes)

    outcome = scene.run(scene.launch())

    assert outcome.status == "failed"
    assert told in outcome.reason
    assert outcome.refusals[name] == Code.POLICY
    assert scene.versions() == ()


def test_one_holder_that_does_not_agree_keeps_the_others_from_nothing(scene: Scene) -> None:
    change_policy(scene.consortium, "south", hand_on_to=[])

    outcome = scene.run(scene.launch())

    assert outcome.status == "completed"
    assert outcome.refusals == {"south": Code.POLICY}


def test_another_sends_the_model_where_the_first_one_holds_another(
    tmp_path: Path, template: Template
) -> None:
    scene = Scene(tmp_path, template, holders=("south", "east"))
    with scene.consortium.open("north") as north:
        store(north, scene.job, seed=2)

    outcome = scene.run(scene.launch())

    assert outcome.status == "completed"
    with scene.consortium.open(RECIPIENT) as west:
        model = load(west.models / scene.job.name / "1")
    assert model.card.handed_on_by == ("south", "east")
    assert model.weights_P.tobytes() == weights_of(scene.job).tobytes()


@pytest.mark.parametrize("answered", [{}, {"hill": b"letter"}, {RECIPIENT: b"", "hill": b""}])
def test_a_holder_that_writes_to_others_than_it_was_asked_keeps_nobody_from_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, answered: dict[str, bytes]
) -> None:
    honest = Sender.letters

    def letters(self: Sender, *asked: Any) -> dict[str, bytes]:
        return answered if self._hospital.name == "north" else honest(self, *asked)

    monkeypatch.setattr(Sender, "letters", letters)

    outcome = scene.run(scene.launch())

    assert (outcome.status, outcome.refusals) == ("completed", {"north": Code.FAILED})


def test_holders_of_whom_no_two_agree_are_not_believed(tmp_path: Path, template: Template) -> None:
    scene = Scene(tmp_path, template, holders=("north",))
    for seed, name in enumerate(("south", "east"), start=2):
        with scene.consortium.open(name) as hospital:
            store(hospital, scene.job, seed=seed)

    outcome = scene.run(scene.launch())

    assert (outcome.status, outcome.reason) == ("failed", "west: integrity")
    assert "too few hospitals vouch" in scene.journal(RECIPIENT)
    assert scene.versions() == ()


@pytest.mark.parametrize("lost", [0, 3, 4, 6, 7])
def test_whatever_message_is_lost_the_model_arrives_once(scene: Scene, lost: int) -> None:
    sent: list[int] = []

    def drop(hospital: int, _: int) -> bool:
        sent.append(hospital)
        return len(sent) - 1 == lost

    outcome = scene.run(scene.launch(), drop=drop)

    assert outcome.status == "completed"
    assert scene.versions() == (1,)


@pytest.mark.parametrize("message", [4, 7])
def test_a_coordinator_that_dies_begins_again(scene: Scene, message: int) -> None:
    kept, sent = scene.launch(), list[int]()

    class KilledError(Exception):
        pass

    def die(hospital: int, _: int) -> bool:
        sent.append(hospital)
        if len(sent) > message:
            raise KilledError
        return False

    with pytest.raises(KilledError):
        scene.run(kept, drop=die)
    assert kept.outcome is None

    assert scene.run(kept).status == "completed"
    assert scene.versions() == (1,)
    assert kept.attempt > 1


def test_what_stands_at_the_coordinator_is_no_source(tmp_path: Path, template: Template) -> None:
    """Where job and policies hand a model to the coordinator, holders must vouch all the same."""
    scene = Scene(tmp_path, template, holders=("north",))
    planted = weights_of(scene.job, seed=9).tobytes()
    scene.kept_job.save_outcome(
        Outcome(
            status="completed", reason="", refusals={}, events=(), metrics={}, weights_tag="",
            model=planted,
        )
    )  # fmt: skip

    assert scene.run(scene.launch()).status == "failed"
    with scene.consortium.open("south") as south:
        store(south, scene.job)
    assert scene.run(scene.launch(nonce="1" * 32)).status == "completed"
    with scene.consortium.open(RECIPIENT) as west:
        model = load(west.models / scene.job.name / "1")
    assert model.weights_P.tobytes() == weights_of(scene.job).tobytes()


def test_an_answer_without_the_hospitals_signature_is_none(scene: Scene) -> None:
    """Another node that speaks for a holder and for the recipient is not heard."""
    kept = scene.launch(holders=("north", "south"))
    east = SigningKey.load(scene.consortium.folder / "east" / "keys" / "signing.key")
    said = Refused(name="north", reason="policy")
    place = Place(job=kept.digest, attempt=1)
    key = scene.consortium.coordinator
    packet = pack(said, place, east, recipient=key.fingerprint, deadline=4e9)
    north = scene.consortium.roster.card("north").fingerprint
    nobody = InlineGrid(cast("ClientApp", None), 0)
    offers = Offers(
        Offered(
            signed=kept.signed,
            delivery=kept.delivery,
            job=scene.job,
            roster=scene.consortium.roster,
        ),
        Correspondence(kept.delivery, key, Exchange(nobody, poll_s=0.0)),
        Rules.of(kept.delivery, scene.job),
    )

    def heard(one: Packet | None) -> Standing:
        return offers._take(Standing(), Arrival(7, one), place)

    assert heard(replace(packet, sender=north)) == Standing()
    assert heard(None) == Standing()
    assert heard(replace(packet, sender="0" * 64)) == Standing()
    assert heard(packet) == Standing()
    west = SigningKey.load(scene.consortium.folder / RECIPIENT / "keys" / "signing.key")
    bare = pack(
        Ready(name=RECIPIENT, holds=False), place, west, recipient=key.fingerprint, deadline=4e9
    )
    assert heard(bare) == Standing()
    roster = kept.delivery.roster
    good = Ephemeral.generate().member(name=RECIPIENT, job=kept.digest, roster=roster, key=west)
    for keys in (
        Ephemeral.generate().member(name="hill", job=kept.digest, roster=roster, key=west),
        Ephemeral.generate().member(name=RECIPIENT, job="0" * 64, roster=roster, key=west),
        # Holders could seal nothing to these, and would write to no other recipient either.
        Keys.create(
            name=RECIPIENT, job=kept.digest, roster=roster, kem=bytes(32),
            exchange=good.exchange, key=west,
        ),
    ):  # fmt: skip
        foreign = pack(
            Ready(name=RECIPIENT, holds=False, member=keys.to_bytes()), place, west,
            recipient=key.fingerprint, deadline=4e9,
        )  # fmt: skip
        assert heard(foreign) == Standing()
    # Nor is anybody heard where nobody is connected.
    assert offers.ask(Standing(), place) == Standing()
    late = pack(
        Ready(name=RECIPIENT, holds=True), Place(job=kept.digest, attempt=9), west,
        recipient=key.fingerprint, deadline=4e9,
    )  # fmt: skip
    assert heard(late) == Standing()
    newer = to_canonical({**from_canonical(bare.header), "version": 2})
    other = replace(bare, header=newer, signature=west.sign("packet:ready", newer))
    assert heard(other).refused == {RECIPIENT: Code.VERSION}


def test_it_waits_for_hospitals_until_it_expires(scene: Scene) -> None:
    end = datetime.now(UTC) + timedelta(hours=2)
    times = iter([datetime.now(UTC)] * 2)

    outcome = scene.run(
        scene.launch(),
        drop=lambda hospital, _: hospital == 3,
        clock=lambda: next(times, end),
    )

    assert outcome.status == "failed"
    assert outcome.reason == "it expired, waiting for west (not connected)"


def test_letters_wait_for_as_many_holders_as_the_recipient_wants(scene: Scene) -> None:
    """Its policy assumes two colluders and the job one; the third holder comes late."""
    change_policy(scene.consortium, RECIPIENT, min_colluding_sites=2)
    kept = scene.launch()

    outcome = scene.run(kept, drop=lambda hospital, before: hospital == 2 and before < 2)

    assert outcome.status == "completed"
    kinds = [event.kind for event in kept.events()]
    assert kinds.count("vouched") == 1
    assert "too few" not in scene.journal(RECIPIENT)
    with scene.consortium.open(RECIPIENT) as west:
        assert load(west.models / scene.job.name / "1").card.handed_on_by == HOLDERS


class Slow(InlineGrid):
    """A grid in which one hospital answers its first offer at the third look, or never.

    Args:
        app: As in `InlineGrid`.
        never: Whether it hangs.
    """

    NODE = 3

    def __init__(self, app: ClientApp, *, never: bool) -> None:
        super().__init__(app, 4)
        self.never = never
        self.looks = self.asked = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = tuple(messages)
        self.asked += sum(one.metadata.dst_node_id == self.NODE for one in messages)
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        (identifier,) = message_ids
        if self._waiting[identifier].metadata.dst_node_id == self.NODE:
            self.looks += 1
            if self.never or self.looks < 3:
                return ()
        return super().pull_messages([identifier])


class TestSlow:
    """South hangs or is slow, and has an hour for its answer."""

    def test_one_that_hangs_keeps_nobody_from_the_model(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("server.offers.ROUND_S", 0.0)

        outcome = scene.run(scene.launch(timeout_s=3600), grid_of=lambda app: Slow(app, never=True))

        assert (outcome.status, outcome.refusals) == ("completed", {})
        assert '"kind":"handed-on"' not in scene.journal("south")

    def test_one_that_is_slow_is_heard_later_and_asked_once(
        self, tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its word is needed, so the delivery waits for it, round after round."""
        monkeypatch.setattr("server.offers.ROUND_S", 0.0)
        scene, grids = Scene(tmp_path, template, holders=("north", "south")), list[Slow]()

        def grid_of(app: ClientApp) -> Slow:
            grids.append(Slow(app, never=False))
            return grids[0]

        outcome = scene.run(scene.launch(timeout_s=3600), grid_of=grid_of)

        assert outcome.status == "completed"
        assert grids[0].asked == 2  # one offer, and the letters
        assert grids[0].looks == 4


def test_it_does_not_try_for_ever(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipient that dies of every letter costs its holders a bounded number of journal lines."""
    monkeypatch.setattr("server.delivering.MOST_ATTEMPTS", 2)
    received: list[int] = []

    def drop(hospital: int, _: int) -> bool:
        # The recipient hears every offer and no letter.
        received.extend([hospital] if hospital == 3 else [])
        return hospital == 3 and len(received) % 2 == 0

    outcome = scene.run(scene.launch(), drop=drop)

    assert outcome.status == "failed"
    assert outcome.reason == "2 attempts came to nothing, the last with west (deadline)"
    assert scene.journal("north").count('"kind":"handed-on"') == 2


def test_a_recipient_that_never_takes_its_letters_is_asked_ever_more_seldom(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(Delivering, "_wait", lambda _, seconds: waits.append(seconds))
    end = datetime.now(UTC) + timedelta(hours=2)
    times = iter([datetime.now(UTC)] * 3)
    sent: list[int] = []

    def drop(hospital: int, _: int) -> bool:
        sent.append(hospital)
        # The first four are offers; before each of the others to west come three to the holders.
        return len(sent) > 4 and hospital == 3 and sent[-2] != 3

    outcome = scene.run(scene.launch(), drop=drop, clock=lambda: next(times, end))

    assert outcome.refusals == {RECIPIENT: Code.DEADLINE}
    assert waits == pytest.approx([0.01, 0.02, 0.04])


def test_one_of_an_older_roster_asks_nobody(scene: Scene) -> None:
    outcome = scene.run(scene.launch(roster="0" * 64))

    assert (outcome.status, scene.seen) == ("failed", [])
    assert "deliver the model again" in outcome.reason


def test_somebody_can_end_it(scene: Scene) -> None:
    kept = scene.launch()
    kept.request_stop()

    assert scene.run(kept).status == "stopped"
    assert scene.seen == []


class TestLaunched:
    def start(self, scene: Scene, signed: SignedDelivery) -> None:
        with inline_app(Way.to(scene.consortium)) as app:
            carry_out(scene.folder, signed, InlineGrid(app, 4), poll_s=0.0)

    def test_its_end_is_kept_and_it_is_not_done_twice(self, scene: Scene) -> None:
        kept = scene.launch()
        self.start(scene, kept.signed)
        assert kept.outcome is not None
        assert kept.outcome.status == "completed"
        events = kept.events()
        self.start(scene, kept.signed)
        assert kept.events() == events

    def test_one_that_somebody_else_signed_is_refused(self, scene: Scene) -> None:
        signed = scene.launch().signed
        forged = replace(signed, signature=SigningKey.generate().sign(CONTEXT, signed.delivery))
        with pytest.raises(IntegrityError, match="signature of a 'delivery'"):
            self.start(scene, forged)

    def test_a_signature_on_a_job_is_none_on_a_delivery(self, scene: Scene) -> None:
        signed = scene.launch().signed
        as_job = scene.consortium.coordinator.sign("job", signed.delivery)
        with pytest.raises(IntegrityError, match="signature of a 'delivery'"):
            self.start(scene, replace(signed, signature=as_job))

    def test_one_that_is_not_in_the_folder_is_refused(self, scene: Scene) -> None:
        kept = scene.launch()
        signed = kept.signed
        kept.path.rename(kept.path.with_name(".away"))
        with pytest.raises(InputError, match="no such delivery"):
            self.start(scene, signed)

    def test_one_whose_job_was_taken_away_is_over(self, scene: Scene) -> None:
        kept = scene.launch()
        scene.kept_job.path.rename(scene.folder.jobs / ".away")
        self.start(scene, kept.signed)
        assert kept.outcome is not None
        assert kept.outcome.status == "failed"
        assert "no such job" in kept.outcome.reason

    def test_one_that_another_process_carries_out_is_left_to_it(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = scene.launch()
        monkeypatch.setattr("server.launched.HANDOVER_S", 0.0)
        with hold(kept.path / LOCK), pytest.raises(BusyError, match="another process is at work"):
            self.start(scene, kept.signed)

    def test_flowers_own_runner_finds_it_by_the_runs_configuration(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context = Context(
            run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={"delivery": "x"}
        )
        monkeypatch.setenv(ENVIRONMENT, str(scene.folder.file))
        with (
            inline_app(Way.to(scene.consortium)) as app,
            pytest.raises(InputError, match="not a signed delivery"),
        ):
            main(InlineGrid(app, 4), context)
