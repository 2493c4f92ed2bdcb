"""Three hospitals and a coordinator whose every message the test writes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from client.hospital import Hospital
from client.member import Member
from client.session import MemorySessions, Sessions
from client.store import DiskSessions
from privacy.he.parameters import num_words
from privacy.he.sum import CiphertextSum
from privacy.he.words import framed_size
from protocol.canonical import from_canonical, to_canonical
from protocol.cohort import Cohort
from protocol.cohort import Member as CohortMember
from protocol.errors import Code
from protocol.jobs import Job
from protocol.messages import (
    Body,
    Enrol,
    Enrolled,
    KeysMade,
    MakeKeys,
    Packet,
    Place,
    Refused,
    Share,
    Shared,
    Step,
    Stepped,
    open_header,
    pack,
    read_body,
)
from protocol.signing import SigningKey
from server.sums import ClearCollector
from simulations.consortium import Consortium
from tests.consortium import make_job, make_request


@dataclass
class Epoch:
    """A cohort, its members' bundles, and whether they have them yet."""

    cohort: Cohort
    bundles: Mapping[str, bytes]
    new: bool = True

    @property
    def names(self) -> list[str]:
        return [member.name for member in self.cohort.members]


@dataclass(frozen=True)
class Given:
    """A state that was shared: by whom, sealed for whom, and who vouches for it."""

    sender: str
    snapshots: Mapping[str, bytes]
    attestations: Mapping[str, bytes]


class Stage:
    """Three hospitals and a coordinator whose every message the test writes."""

    def __init__(
        self, consortium: Consortium, job: Job | None = None, *, disk: bool = False
    ) -> None:
        self.consortium = consortium
        self.job = job or make_job(consortium, make_request())
        self._disk = disk
        self.hospitals: dict[str, Hospital] = {}
        self.members: dict[str, Member] = {}
        self.sessions: dict[str, Sessions] = {}
        for name in consortium.names:
            self._open(name)

    def _open(self, name: str) -> None:
        self.hospitals[name] = self.consortium.open(name)
        self.sessions[name] = DiskSessions(self.folder(name)) if self._disk else MemorySessions()
        self.members[name] = Member(self.hospitals[name], self.sessions[name])

    def folder(self, name: str) -> Path:
        """Where a hospital's sessions are, if on disk."""
        return self.consortium.folder / name / "sessions"

    def reopen(self, name: str) -> None:
        """As after a kill: a new process has what is on the disk."""
        self.hospitals[name].close()
        self._open(name)

    def close(self) -> None:
        for hospital in self.hospitals.values():
            hospital.close()

    def say(
        self,
        name: str,
        body: Body,
        place: Place | None = None,
        *,
        key: SigningKey | None = None,
        recipient: str | None = None,
        deadline: float | None = None,
    ) -> Packet:
        packet = pack(
            body,
            place or Place(job=self.job.digest),
            key or self.consortium.coordinator,
            recipient=recipient or self.hospitals[name].key.fingerprint,
            deadline=time.time() + 60 if deadline is None else deadline,
        )
        return self.members[name].answer(packet)

    def read(self, name: str, packet: Packet, cls: type[Any]) -> Any:
        header = open_header(packet, self.hospitals[name].key.public)
        assert packet.kind == cls.KIND, read_body(packet, header, Refused)
        return read_body(packet, header, cls)

    def refusal(self, name: str, packet: Packet) -> Code:
        header = open_header(packet, self.hospitals[name].key.public)
        return read_body(packet, header, Refused).code

    def enrol_body(self, job: Job | None = None, **changes: Any) -> Enrol:
        job = job or self.job
        signature = self.consortium.coordinator.sign("job", job.to_bytes())
        return replace(Enrol(signature=signature, heads={}, job=job.to_bytes()), **changes)

    def enrol(self) -> Cohort:
        members = []
        for name in self.hospitals:
            enrolled = self.read(name, self.say(name, self.enrol_body()), Enrolled)
            members.append(CohortMember.from_bytes(enrolled.member))
        return Cohort.assemble(
            job=self.job.digest, roster=self.job.roster, epoch=1, members=members
        )

    def begin(self, number: int, members: Mapping[str, bytes]) -> Epoch | None:
        """The next epoch of hospitals that have just enrolled, with keys where it needs any.

        None where its maker has gone meanwhile.
        """
        cohort = Cohort.assemble(
            job=self.job.digest,
            roster=self.job.roster,
            epoch=number,
            members=[CohortMember.from_bytes(member) for member in members.values()],
        )
        if self.job.encryption.scheme == "none":
            return Epoch(cohort, {})
        packet = self.ask_for_keys(cohort)
        if packet.kind == Refused.KIND:
            return None
        made = self.read(cohort.maker.name, packet, KeysMade)
        return Epoch(cohort, from_canonical(made.bundles))

    def share(self, epoch: Epoch, attempt: int, base: int, without: Sequence[str]) -> Given:
        """Let all members but those vouch for their state, and one of them seal it."""
        holders = [name for name in epoch.names if name not in without]
        attestations, snapshots = {}, {}
        for name in holders:
            body = Share(
                base=base,
                recipients=tuple(without),
                send=name == holders[0],
                cohort=epoch.cohort.to_bytes(),
                bundle=epoch.bundles.get(name),
            )
            packet = self.say(name, body, self.place(epoch.cohort, attempt))
            shared = self.read(name, packet, Shared)
            attestations[name] = shared.attestation
            if shared.snapshots is not None:
                snapshots = from_canonical(shared.snapshots)
        return Given(holders[0], snapshots, attestations)

    def step(
        self, epoch: Epoch, attempt: int, name: str, *, given: Given | None = None, **body: Any
    ) -> Packet:
        """A `Step` to one member: with cohort and keys, and a snapshot, if these are due."""
        shared = given is not None and name in given.attestations
        if epoch.new and not shared:
            body |= {"cohort": epoch.cohort.to_bytes(), "bundle": epoch.bundles.get(name)}
        if given is not None and not shared:
            body |= {
                "snapshot_sender": given.sender,
                "snapshot": given.snapshots[name],
                "attestations": to_canonical(given.attestations),
            }
        wanted = {"train": False, "evaluate": False, "finish": False}
        return self.say(name, Step(**(wanted | body)), self.place(epoch.cohort, attempt))

    def add(self, epoch: Epoch, purpose: str, replies: Mapping[str, Stepped]) -> bytes:
        """The sum of what the members released."""
        privacy, encryption = self.job.privacy, self.job.encryption
        release = privacy.update if purpose == "update" else privacy.evaluation
        packing = encryption.update if purpose == "update" else encryption.evaluation
        assert release is not None
        total: Any
        if packing is None:
            total = ClearCollector(release.length)
        else:
            words = framed_size(num_words(release.length, packing), epoch.cohort.size)
            total = CiphertextSum(packing, words)
        for name, reply in replies.items():
            payload = reply.update if purpose == "update" else reply.counts
            if packing is None:
                total.add(name, payload)
            else:
                total.add(payload, sender=name)
        found: bytes = total.result() if packing is None else total.residues()
        return found

    def ask_for_keys(self, cohort: Cohort) -> Packet:
        body = MakeKeys(cohort=cohort.to_bytes())
        return self.say(cohort.maker.name, body, self.place(cohort, 0))

    def bundles(self, cohort: Cohort) -> Mapping[str, bytes]:
        made = self.read(cohort.maker.name, self.ask_for_keys(cohort), KeysMade)
        found: dict[str, bytes] = from_canonical(made.bundles)
        return found

    def place(self, cohort: Cohort, attempt: int) -> Place:
        return Place(job=self.job.digest, epoch=cohort.epoch, attempt=attempt, cohort=cohort.digest)

    def first_step(self, cohort: Cohort, bundle: bytes | None) -> Step:
        return Step(
            round=1,
            train=True,
            evaluate=False,
            finish=False,
            cohort=cohort.to_bytes(),
            bundle=bundle,
        )
