"""What the supervisor decides, with jobs' processes replaced by objects of the same interface."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_files

from client.children import ChildGoneError
from client.hospital import Hospital
from client.known_jobs import GRACE
from client.member import Member
from client.node_config import NodeConfig
from client.node_state import StateFolder
from client.session import MemorySessions
from client.supervisor import Desk, Supervisor
from protocol.bundle import SignedDelivery, SignedJob, pyproject
from protocol.deliveries import CONTEXT
from protocol.delivery_messages import Offer, Vouch
from protocol.errors import IntegrityError
from protocol.jobs import Job
from protocol.messages import (
    Body,
    Enrol,
    Packet,
    Place,
    Refused,
    Stop,
    open_header,
    pack,
    read_body,
)
from simulations.consortium import Consortium
from tests.consortium import make_consortium, make_job, make_request
from tests.delivered import delivery_of, store

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
LATE = 4e9


@dataclass
class InlineChild:
    """A job's process that is none."""

    member: Member
    dead: bool = False

    def ask(
        self, packet: Packet, *, until: float, abandoned: Callable[[], bool] = lambda: False
    ) -> Packet:
        del until, abandoned
        if self.dead:
            raise ChildGoneError("the job's process is gone")
        return self.member.answer(packet)


@dataclass
class InlineNursery:
    """Jobs' processes as objects of this process."""

    hospital: Hospital
    children: dict[str, InlineChild] = field(default_factory=dict)

    def child(self, job: str) -> InlineChild:
        member = Member(self.hospital, MemorySessions())
        return self.children.setdefault(job, InlineChild(member))

    def drop(self, job: str) -> str:
        return "did not run" if self.children.pop(job, None) is None else "ended with 0"

    @property
    def pids(self) -> dict[str, int]:
        return dict.fromkeys(self.children, 1)


class Scene:
    """One hospital's supervisor, and a coordinator whose every message the test writes."""

    def __init__(self, consortium: Consortium, config: NodeConfig) -> None:
        self.consortium = consortium
        self.key = consortium.coordinator
        self.hospital = consortium.open("north")
        self.folder = StateFolder(self.hospital.base / "node")
        self.nursery = InlineNursery(self.hospital)
        self.reports = 0
        desk = Desk(
            name="north",
            config=config,
            key=self.hospital.key,
            roster=self.hospital.roster,
            journal=self.hospital.journal,
            folder=self.folder,
            clock=lambda: datetime.now(UTC) + self.ahead,
        )
        self.ahead = timedelta()
        self.supervisor = Supervisor(desk, self.nursery, report=self._count)  # type: ignore[arg-type]
        self.job = make_job(consortium, make_request())
        self.signed = self.sign(self.job)

    def sign(self, job: Job) -> SignedJob:
        data = job.to_bytes()
        return SignedJob(job=data, signature=self.key.sign("job", data))

    def _count(self) -> None:
        self.reports += 1

    def enrol(self, signed: SignedJob | None = None) -> Enrol:
        signed = signed or self.signed
        return Enrol(signature=signed.signature, heads={}, job=signed.job)

    def say(self, body: Body, signed: SignedJob | None = None, **files: bytes) -> Packet:
        signed = signed or self.signed
        text = pyproject(signed).encode()
        fab, _ = build_fab_from_files({"pyproject.toml": text, **files})
        packet = pack(body, Place(job=signed.digest), self.key, recipient="*", deadline=LATE)
        return self.supervisor.answer(fab, packet.to_wire())

    def deliver(self, body: Offer | Vouch, signed: SignedDelivery) -> Packet:
        fab, _ = build_fab_from_files({"pyproject.toml": pyproject(signed).encode()})
        place = Place(job=signed.digest, attempt=1)
        packet = pack(body, place, self.key, recipient="*", deadline=LATE)
        return self.supervisor.answer(fab, packet.to_wire())

    def code(self, reply: Packet) -> str:
        header = open_header(reply, self.hospital.key.public)
        return read_body(reply, header, Refused).reason

    def refused(self) -> dict[str, str]:
        """What the journal says of the last refusal."""
        lines = (self.hospital.base / "journal.jsonl").read_text().splitlines()
        fields: dict[str, str] = json.loads(lines[-1])["document"]["fields"]
        return fields

    def journal(self) -> str:
        return self.refused()["reason"]


Setting = Callable[..., Scene]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Setting]:
    opened: list[Scene] = []

    def open_scene(**config: object) -> Scene:
        consortium = make_consortium(tmp_path / "consortium")
        opened.append(Scene(consortium, NodeConfig(**{"disk_mb": 64, **config})))  # type: ignore[arg-type]
        return opened[-1]

    yield open_scene
    for one in opened:
        one.hospital.close()


def test_a_job_is_answered_by_its_child_and_known_from_then_on(scene: Setting) -> None:
    stage = scene()

    assert stage.say(stage.enrol()).kind == "enrolled"
    (known,) = stage.folder.known()
    assert (known.name, known.decision, known.begun) == ("sepsis-risk", "approved", True)
    assert stage.say(Stop(reason="over")).kind == "stopped"
    assert not stage.nursery.children
    assert stage.supervisor.activity.jobs[stage.job.digest].outcome == "stopped"
    assert stage.reports > 0


def test_a_refusal_of_the_jobs_process_is_told_with_its_code(scene: Setting) -> None:
    stage = scene()

    reply = stage.say(Stop(reason="over"))

    assert stage.code(reply) == "session"
    assert stage.supervisor.activity.jobs[stage.job.digest].outcome == "refused: session"
    told = stage.supervisor.activity.last_error or ""
    assert told.endswith("stop was refused (session); the journal says why")


def test_a_bundle_with_code_is_refused_and_never_reaches_a_child(scene: Setting) -> None:
    stage = scene()

    reply = stage.say(stage.enrol(), stage.signed, **{"client/app.py": b"raise SystemExit\n"})

    assert stage.code(reply) == "integrity"
    assert "other files" in stage.journal()
    assert not stage.nursery.children
    assert stage.supervisor.activity.last_error is not None


def test_a_message_that_nobody_signed_is_refused_with_a_code(scene: Setting) -> None:
    stage = scene()
    fab, _ = build_fab_from_files({"pyproject.toml": pyproject(stage.signed).encode()})

    reply = stage.supervisor.answer(fab, {"header": b"x"})

    assert stage.code(reply) == "signature"


def test_a_bundle_that_nobody_can_read_is_named_by_its_digest(scene: Setting) -> None:
    stage = scene()

    place = Place(job=stage.job.digest)
    packet = pack(stage.enrol(), place, stage.key, recipient="*", deadline=LATE)

    reply = stage.supervisor.answer(b"no zip", packet.to_wire())

    digest = hashlib.sha256(b"no zip").hexdigest()
    assert (stage.code(reply), stage.refused()["bundle"]) == ("integrity", digest)
    assert f"bundle {digest[:12]}" in (stage.supervisor.activity.last_error or "")
    stage.say(Stop(reason="over"))
    assert "bundle" not in stage.refused()


def test_a_job_waits_for_the_administrator_and_begins_when_approved(scene: Setting) -> None:
    stage = scene(approval="manual")

    assert stage.code(stage.say(stage.enrol())) == "waiting"
    assert f"jobs approve CONFIG {stage.job.digest[:12]}" in stage.journal()
    stage.folder.decide(stage.job.digest, "approved")

    assert stage.say(stage.enrol()).kind == "enrolled"


@pytest.mark.parametrize("decision", ["denied", "left"])
def test_what_the_administrator_refused_is_refused_and_its_process_ended(
    scene: Setting, decision: str
) -> None:
    stage = scene()
    stage.say(stage.enrol())

    stage.folder.decide(stage.job.digest, decision)  # type: ignore[arg-type]
    stage.supervisor.dismiss_left()

    assert not stage.nursery.children
    assert stage.code(stage.say(stage.enrol())) == "policy"


def test_a_job_that_was_denied_gets_no_second_hearing_once_it_is_forgotten(scene: Setting) -> None:
    """Another job that asks makes room; the denied one comes back after its expiry."""
    stage = scene(approval="manual")
    assert stage.code(stage.say(stage.enrol())) == "waiting"
    stage.folder.decide(stage.job.digest, "denied")
    stage.ahead = datetime.fromisoformat(stage.job.expires) + GRACE - datetime.now(UTC)
    other = stage.sign(make_job(stage.consortium, make_request(name="other", valid_hours=1000)))

    assert stage.code(stage.say(stage.enrol(other), other)) == "waiting"
    assert [known.name for known in stage.folder.known()] == ["other"]
    assert stage.code(stage.say(stage.enrol())) == "expired"
    assert [known.name for known in stage.folder.known()] == ["other"]


def test_a_paused_node_begins_nothing_and_goes_on_with_what_began(scene: Setting) -> None:
    stage = scene()
    stage.folder.pause()
    assert stage.code(stage.say(stage.enrol())) == "busy"
    stage.folder.resume()
    assert stage.say(stage.enrol()).kind == "enrolled"
    stage.folder.pause()

    stage.supervisor.dismiss_left()

    assert stage.say(stage.enrol()).kind == "enrolled"


def test_no_job_begins_on_a_full_disk(scene: Setting) -> None:
    stage = scene(disk_mb=10**12)

    assert stage.code(stage.say(stage.enrol())) == "busy"
    assert "too full" in stage.journal()
    # Nor is it remembered, by which whoever signs jobs could fill the disk further.
    assert stage.folder.known() == []


def test_a_child_that_died_is_an_error_now_and_another_child_next(scene: Setting) -> None:
    stage = scene()
    stage.say(stage.enrol())
    stage.nursery.children[stage.job.digest].dead = True

    with pytest.raises(IntegrityError, match="gone"):
        stage.say(stage.enrol())
    assert "no answer" in stage.supervisor.activity.jobs[stage.job.digest].outcome

    assert stage.say(stage.enrol()).kind in {"enrolled", "refused"}


class TestDelivery:
    """A delivery passes the same gate as a job."""

    def signed(self, stage: Scene, **changes: object) -> SignedDelivery:
        hospitals = {"holders": ("north", "south"), "recipients": ("east",), **changes}
        data = delivery_of(stage.consortium, stage.job, **hospitals).to_bytes()
        return SignedDelivery(delivery=data, signature=stage.key.sign(CONTEXT, data))

    def offer(self, stage: Scene, signed: SignedDelivery) -> Offer:
        return Offer(signature=signed.signature, delivery=signed.delivery, job=stage.job.to_bytes())

    def test_it_waits_for_the_administrator_and_goes_on_when_approved(self, scene: Setting) -> None:
        stage = scene(approval="manual")
        signed = self.signed(stage)
        store(stage.hospital, stage.job)

        assert stage.code(stage.deliver(self.offer(stage, signed), signed)) == "waiting"
        assert f"jobs approve CONFIG {signed.digest[:12]}" in stage.journal()
        (known,) = stage.folder.known()
        assert (known.name, known.begun) == ("sepsis-risk to east", False)
        assert known.asked.summary["recipients"] == ["east"]
        stage.folder.decide(signed.digest, "approved")
        # What is left is policy's business, which is to hand nothing on.
        assert stage.code(stage.deliver(self.offer(stage, signed), signed)) == "policy"
        assert "hand_on_to" in stage.journal()
        # The next try goes by a new process, which reads what the policy says then.
        assert not stage.nursery.children

    def test_letters_end_its_process(self, scene: Setting) -> None:
        stage = scene()
        object.__setattr__(stage.hospital.config.policy, "hand_on_to", ("east",))
        signed = self.signed(stage)
        store(stage.hospital, stage.job)

        assert stage.deliver(self.offer(stage, signed), signed).kind == "ready"
        assert stage.folder.known()[0].begun
        # A holder keeps nothing in memory between the two.
        assert not stage.nursery.children
        body = Vouch(
            signature=signed.signature, send=True, delivery=signed.delivery, recipients=b"{}"
        )
        assert stage.deliver(body, signed).kind == "vouched"
        assert not stage.nursery.children

    def test_beyond_a_ration_none_reaches_a_process_or_the_journal(
        self, scene: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that is new with each message counts no refusals but its own."""
        monkeypatch.setattr("client.supervisor.DELIVERIES_PER_HOUR", 3)
        stage = scene()
        signed = self.signed(stage)
        store(stage.hospital, stage.job)

        codes = [stage.code(stage.deliver(self.offer(stage, signed), signed)) for _ in range(5)]
        assert codes == ["policy"] * 3 + ["busy"] * 2
        assert "too many messages about deliveries" in stage.journal()
        # Jobs go on meanwhile.
        assert stage.say(stage.enrol()).kind == "enrolled"

    def test_no_more_than_a_few_models_are_awaited(
        self, scene: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("client.supervisor.MOST_AWAITED", 2)
        stage = scene()
        object.__setattr__(stage.hospital.config.policy, "accept_models", True)
        wanted = {"holders": ("south", "east"), "recipients": ("north",)}
        signed = [self.signed(stage, **wanted, nonce=digit * 32) for digit in "0123"]

        for one in (*signed, signed[2], signed[3]):
            assert stage.deliver(self.offer(stage, one), one).kind == "ready"

        assert set(stage.nursery.children) == {one.digest for one in signed[2:]}

    def test_one_that_was_denied_is_refused(self, scene: Setting) -> None:
        stage = scene(approval="manual")
        signed = self.signed(stage)
        stage.deliver(self.offer(stage, signed), signed)
        stage.folder.decide(signed.digest, "denied")

        assert stage.code(stage.deliver(self.offer(stage, signed), signed)) == "policy"
        assert "was denied here" in stage.journal()

    def test_a_paused_node_begins_none(self, scene: Setting) -> None:
        stage = scene()
        stage.folder.pause()
        signed = self.signed(stage)

        assert stage.code(stage.deliver(self.offer(stage, signed), signed)) == "busy"

    def test_one_between_others_is_not_remembered(self, scene: Setting) -> None:
        stage = scene()
        signed = self.signed(stage, holders=("south",))

        assert stage.code(stage.deliver(self.offer(stage, signed), signed)) == "roster"
        assert stage.folder.known() == []
