"""A consortium whose coordinator and hospitals can be killed at any message and come back."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from client.app import make_app
from client.hospital import Hospital
from client.member import Member
from client.store import DiskSessions
from learning.artefact import load
from privacy.he.sum import SumProcess
from protocol.canonical import from_canonical
from protocol.jobs import Job
from protocol.messages import Packet
from protocol.records import parts_of
from server.archive import Archive
from server.course import Course
from server.exchange import Exchange
from server.job_folder import JobFolder
from server.launch import Outcome, Patience
from simulations.consortium import Consortium
from simulations.engine import sign
from simulations.inline import InlineGrid

BEFORE, AFTER = "before", "after"
"""A message is lost on its way to a hospital, or its answer is."""


class KilledError(Exception):
    """The coordinator's process is gone."""


@dataclass(frozen=True)
class Death:
    """Who dies at which message.

    Args:
        message: Number of the message, from 0.
        when: `before` a hospital gets it or `after` it has carried it out.
        hospital: Whether the hospital dies.
        coordinator: Whether the coordinator dies.
    """

    message: int
    when: str
    hospital: bool
    coordinator: bool


class Hospitals:
    """The hospitals' nodes: each opens from its disk when a message comes and it is not up."""

    def __init__(self, consortium: Consortium, deaths: tuple[Death, ...]) -> None:
        self._consortium = consortium
        self._deaths = {death.message: death for death in deaths}
        self._up: dict[str, tuple[Hospital, Member]] = {}
        self.messages = 0
        self.received = dict.fromkeys(consortium.names, 0)
        self.gone: dict[str, int] = {}
        self.kinds: list[str] = []
        self.left: set[tuple[str, int, str, str]] = set()
        self._app = make_app(self._member)

    def __call__(self, message: Message, context: Context) -> Message:
        name = self._consortium.names[int(context.node_config["partition-id"])]
        death = self._deaths.get(self.messages)
        self.messages += 1
        self.received[name] += 1
        if self.received[name] > self.gone.get(name, self.messages):
            return Message(Error(1, "the hospital is gone"), reply_to=message)
        self.kinds.append(Packet.from_wire(parts_of(message.content)).kind)
        if death is None:
            return self._answer(name, message, context)
        if death.when == AFTER:
            self._answer(name, message, context)
        if death.hospital:
            self.kill(name)
        if death.coordinator:
            raise KilledError
        return Message(Error(1, "the hospital did not answer"), reply_to=message)

    def _answer(self, name: str, message: Message, context: Context) -> Message:
        """A hospital's answer; what it releases is noted as whoever carries it would see it."""
        reply = self._app(message, context)
        packet = Packet.from_wire(parts_of(reply.content))
        attempt = int(from_canonical(packet.header)["attempt"])
        for purpose, blob in (("update", "update"), ("evaluation", "counts")):
            if blob in packet.blobs:
                digest = hashlib.sha256(packet.blobs[blob]).hexdigest()
                self.left.add((name, attempt, purpose, digest))
        return reply

    def kill(self, name: str) -> None:
        """What was in memory only is gone."""
        if name in self._up:
            self._up.pop(name)[0].close()

    def close(self) -> None:
        for name in tuple(self._up):
            self.kill(name)

    @contextmanager
    def _member(self, context: Context) -> Iterator[Member]:
        name = self._consortium.names[int(context.node_config["partition-id"])]
        if name not in self._up:
            hospital = self._consortium.open(name)
            sessions = DiskSessions(self._consortium.folder / name / "sessions")
            self._up[name] = (hospital, Member(hospital, sessions))
        yield self._up[name][1]


@dataclass
class Ward:
    """One job at one consortium, with the coordinator's archive.

    Args:
        consortium: Hospitals that nothing has happened to.
        job: The job.
        child: The process that adds.
        deaths: Who dies when.
    """

    consortium: Consortium
    job: Job
    child: SumProcess | None
    deaths: tuple[Death, ...] = ()
    patience: Patience = field(default_factory=lambda: Patience(rejoin_s=5.0))
    lives: int = 0

    def __post_init__(self) -> None:
        self.hospitals = Hospitals(self.consortium, self.deaths)

    @property
    def base(self) -> Path:
        return self.consortium.folder / "archive"

    def folder(self) -> JobFolder:
        return Archive(self.base).find(self.job.name)

    def run(self, *, watch: Callable[[Course], None] = lambda _: None) -> Outcome:
        """Run the job, in as many lives of the coordinator as it takes."""
        launch = sign(self.consortium, self.job)
        Archive(self.base).create(self.job, launch.signature)
        try:
            while True:
                outcome = self._live(watch)
                if outcome is not None:
                    self.folder().save_outcome(outcome)
                    return outcome
        finally:
            self.hospitals.close()

    def _live(self, watch: Callable[[Course], None]) -> Outcome | None:
        """One life of the coordinator: everything comes from the disk."""
        self.lives += 1
        archive = Archive(self.base)
        launch = replace(
            sign(self.consortium, self.job), heads=archive.heads(), patience=self.patience
        )
        grid = InlineGrid(cast("ClientApp", self.hospitals), len(self.consortium.names), keep=False)
        course = Course(launch, Exchange(grid, poll_s=0.0), self.child, self.folder())
        watch(course)
        try:
            return course.run()
        except KilledError:
            return None

    def weights(self) -> set[bytes]:
        """The finished weights of all hospitals; every one of them must have one version."""
        found = set()
        for name in self.consortium.names:
            store = self.consortium.folder / name / "models" / self.job.name
            assert sorted(path.name for path in store.iterdir()) == ["1"], name
            found.add(load(store / "1").weights_P.tobytes())
        return found

    def check_ledgers(self) -> None:
        """No attempt used twice, nothing released that is not charged, nothing left reserved."""
        for name in self.consortium.names:
            with self.consortium.open(name) as hospital:
                account = hospital.ledger.account(self.job.digest)
            assert account is not None
            assert account.over, name
            for purpose, charge in account.charges.items():
                left = [one for one in self.hospitals.left if one[::2] == (name, purpose)]
                assert len({attempt for _, attempt, _, _ in left}) == len(left), (name, purpose)
                assert len(left) <= account.used[purpose] <= charge.steps, (name, purpose)

    def finished(self) -> dict[str, bool]:
        """Whether each hospital was told of the job's end, and keeps nothing of it any more."""
        found = {}
        for name in self.consortium.names:
            with self.consortium.open(name) as hospital:
                account = hospital.ledger.account(self.job.digest)
            kept = tuple((self.consortium.folder / name / "sessions").iterdir())
            found[name] = account is not None and account.finished and not kept
        return found


def copy_of(consortium: Consortium, folder: Path) -> Consortium:
    """The same consortium in another folder."""
    shutil.copytree(consortium.folder, folder)
    return replace(consortium, folder=folder)
