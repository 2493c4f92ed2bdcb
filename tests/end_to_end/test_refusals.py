"""Everything that a hospital refuses, in one table: code, reason in its journal, no record read.

One hospital's supervisor and member are those of a node, with its files; the coordinator is the
test, so that it can break every rule. Jobs that are refused as such are also launched by an honest
coordinator, which must end them and show each hospital's code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from flwr.cli.build import build_fab_from_files

from client.children import Nursery
from client.data.tabular import CsvSource
from client.member import Member
from client.node_config import NodeConfig
from client.node_state import StateFolder
from client.supervisor import Desk, Supervisor
from learning.task import Table
from privacy import cohort_keys
from privacy.envelope import place_of, seal, sign_sealed
from privacy.he.sum import SumProcess
from privacy.keys import Identity
from privacy.ledger_heads import sign_head
from privacy.plan import PrivacyRequest
from protocol.bundle import SignedJob, pyproject
from protocol.canonical import to_canonical
from protocol.cohort import Cohort
from protocol.errors import Code
from protocol.jobs import Job, Named
from protocol.messages import (
    Body,
    Enrol,
    Enrolled,
    Packet,
    Place,
    Refused,
    Step,
    Stepped,
    Stop,
    open_header,
    pack,
    read_body,
)
from protocol.signing import SigningKey
from protocol.trust import Trust
from server.launch import Outcome
from server.requests import EncryptionRequest
from simulations.consortium import CONFIG, Consortium
from simulations.engine import run_job
from tests.client.stage import Stage
from tests.consortium import make_consortium, make_job, make_request, schema

HERE = "north"

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


class Reads:
    """How often records were read, by folder of the hospital."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        batches = CsvSource.batches

        def counted(source: CsvSource, columns: Sequence[str], *rows: int) -> Iterator[Table]:
            self.count += source.path.parent.name == HERE
            return batches(source, columns, *rows)

        patch.setattr(CsvSource, "batches", counted)


@dataclass
class Indoors:
    """The job's process, in this one."""

    member: Member
    pids: Mapping[str, int] = field(default_factory=dict)

    def child(self, _: str) -> Indoors:
        return self

    def ask(self, packet: Packet, **_: object) -> Packet:
        return self.member.answer(packet)

    def drop(self, _: str) -> str:
        return "ended with 0"


class Scene:
    """Three hospitals, the supervisor of one, and a coordinator that may break every rule."""

    def __init__(self, consortium: Consortium, job: Job, reads: Reads) -> None:
        self.stage = Stage(consortium, job)
        self.job = job
        self.key = consortium.coordinator
        self.hospital = self.stage.hospitals[HERE]
        self._reads = reads
        self.read_for_last = 0
        desk = Desk(
            name=HERE,
            config=NodeConfig(disk_mb=64),
            key=self.hospital.key,
            roster=self.hospital.roster,
            journal=self.hospital.journal,
            folder=StateFolder(self.hospital.base / "node"),
        )
        self.indoors = Indoors(self.stage.members[HERE])
        self._supervisor = Supervisor(desk, cast("Nursery", self.indoors))

    def enrol(self, *, signer: SigningKey | None = None, **changes: Any) -> Packet:
        """An enrolment as it arrives through Flower: with its bundle."""
        return self.say(self.stage.enrol_body(self.job, **changes), signer=signer)

    def say(
        self,
        body: Body,
        place: Place | None = None,
        *,
        signer: SigningKey | None = None,
        signature: bytes | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Packet:
        data = self.job.to_bytes()
        if signature is None:
            signature = (signer or self.key).sign("job", data)
        text = pyproject(SignedJob(job=data, signature=signature)).encode()
        fab, _ = build_fab_from_files({"pyproject.toml": text, **(files or {})})
        packet = pack(
            body,
            place or Place(job=self.job.digest),
            self.key,
            recipient=self.hospital.key.fingerprint,
            deadline=time.time() + 60,
        )
        before = self._reads.count
        answer = self._supervisor.answer(fab, packet.to_wire())
        self.read_for_last = self._reads.count - before
        return answer

    def read(self, packet: Packet, cls: type[Any]) -> Any:
        return self.stage.read(HERE, packet, cls)

    def first_step(self) -> tuple[Cohort, Step]:
        """An epoch in which one round was released."""
        cohort = self.stage.enrol()
        step = self.stage.first_step(cohort, self.stage.bundles(cohort)[HERE])
        self.read(self.say(step, self.stage.place(cohort, 1)), Stepped)
        return cohort, step

    def journal(self) -> dict[str, Any]:
        """The last refusal that the hospital wrote down."""
        lines = (self.hospital.base / "journal.jsonl").read_text().splitlines()
        entries = [json.loads(line)["document"] for line in lines]
        return dict([entry["fields"] for entry in entries if entry["kind"] == "refused"][-1])


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that a hospital refuses.

    Args:
        name: What it is.
        code: What the coordinator learns.
        reason: What the journal says, in part.
        job: The job, made from an honest one; None where a message is refused and no job.
        request: What the honest job is asked for by, besides the usual.
        policy: What the hospital's policy says besides the usual.
        budget: The hospital's caps.
        arrange: Changes the consortium before the hospitals open.
        send: Says what is refused; an enrolment, if left out.
    """

    name: str
    code: Code
    reason: str
    job: Callable[[Job], Job] | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, float] = field(default_factory=dict)
    arrange: Callable[[Consortium], Consortium] = lambda consortium: consortium
    send: Callable[[Scene], Packet] = lambda scene: scene.enrol()


def same(job: Job) -> Job:
    return job


def lacking(job: Job) -> Job:
    column = {"name": "bmi", "kind": "number", "unit": "kg/m2", "low": 10, "high": 80}
    return replace(job, schema={**schema(), "columns": [*schema()["columns"], column]})


def expired(job: Job) -> Job:
    end = datetime.now(UTC) - timedelta(minutes=1)
    return replace(job, expires=end.isoformat(timespec="seconds"))


def invent(consortium: Consortium) -> Consortium:
    """A roster with one more hospital, that the administrator pinned and did not confirm."""
    card = Identity.create(consortium.folder / "west" / "keys", "west").card()
    before = consortium.roster
    roster = replace(before, sequence=before.sequence + 1, members=(*before.members, card))
    signed = roster.sign(consortium.coordinator)
    for name in consortium.names:
        home = consortium.folder / name
        trust = Trust.load(home / "trust.json").adopt(roster)
        for file in ("trust.json", "roster.json"):
            (home / file).unlink()
        trust.save(home / "trust.json")
        (home / "roster.json").write_bytes(signed)
    return replace(consortium, roster=roster)


def asking_west(job: Job) -> Job:
    return replace(job, sites=(*job.sites, replace(job.sites[0], name="west")))


# -- messages -----------------------------------------------------------------------------------


def unsigned(scene: Scene) -> Packet:
    return scene.say(scene.stage.enrol_body(signature=bytes(64)), signature=bytes(64))


def wrong_signer(scene: Scene) -> Packet:
    stranger = SigningKey.generate()
    signature = stranger.sign("job", scene.job.to_bytes())
    return scene.enrol(signer=stranger, signature=signature)


def code_in_the_bundle(scene: Scene) -> Packet:
    body: Enrol = scene.stage.enrol_body()
    return scene.say(body, files={"client/app.py": b"import os\n"})


def replayed(scene: Scene) -> Packet:
    scene.read(scene.enrol(), Enrolled)
    scene.say(Stop(reason="over"))
    return scene.enrol()


def cohort_of_two(scene: Scene) -> Packet:
    whole = scene.stage.enrol()
    members = [member for member in whole.members if member.name != "south"]
    cohort = Cohort.assemble(job=whole.job, roster=whole.roster, epoch=1, members=members)
    return scene.say(scene.stage.first_step(cohort, b"x" * 200), scene.stage.place(cohort, 1))


def keys_of_the_coordinator(scene: Scene) -> Packet:
    """A bundle that is right in every part but its signer."""
    cohort = scene.stage.enrol()
    place = place_of("bundle", cohort, recipient=HERE)
    keys = cohort_keys.make(scene.job.encryption)
    sealed = seal(cohort.member(HERE).kem, place, to_canonical(keys))
    bundle = sign_sealed("bundle", place, sealed, scene.key)
    return scene.say(scene.stage.first_step(cohort, bundle), scene.stage.place(cohort, 1))


def rolled_back_checkpoint(scene: Scene) -> Packet:
    """A coordinator that came back with an old checkpoint asks for the first round again."""
    cohort, step = scene.first_step()
    again = {
        name: scene.stage.read(
            name, scene.stage.say(name, scene.stage.enrol_body()), Enrolled
        ).member
        for name in scene.stage.hospitals
    }
    later = scene.stage.begin(2, again)
    assert later is not None
    body = scene.stage.first_step(later.cohort, later.bundles[HERE])
    scene.read(scene.say(body, scene.stage.place(later.cohort, 2)), Stepped)
    return scene.say(step, scene.stage.place(cohort, 3))


def attempt_used_again(scene: Scene) -> Packet:
    cohort, step = scene.first_step()
    again = replace(step, evaluate=True, cohort=None, bundle=None)
    return scene.say(again, scene.stage.place(cohort, 1))


def ledger_put_back(scene: Scene) -> Packet:
    key = scene.hospital.key
    ahead = sign_head("e" * 64, key)
    return scene.enrol(heads={key.fingerprint: ahead})


CASES = (
    Case(name="unsigned job", code=Code.SIGNATURE, reason="job of a bundle", send=unsigned),
    Case(name="wrong signer", code=Code.SIGNATURE, reason="job of a bundle", send=wrong_signer),
    Case(
        name="bundle that carries code",
        code=Code.INTEGRITY,
        reason="it carries other files",
        send=code_in_the_bundle,
    ),
    Case(name="replayed job", code=Code.REPLAYED, reason="has ended here", send=replayed),
    Case(name="expired job", code=Code.EXPIRED, reason="the job has expired", job=expired),
    Case(
        name="another roster",
        code=Code.ROSTER,
        reason="another roster than the one pinned here",
        job=lambda job: replace(job, roster="e" * 64),
    ),
    Case(
        name="invented hospital",
        code=Code.ROSTER,
        reason="not confirmed here: west",
        job=asking_west,
        arrange=invent,
    ),
    Case(
        name="cap of one job",
        code=Code.POLICY,
        reason="epsilon 3 passes the cap per job 1",
        job=same,
        policy={"epsilon_per_job": 1.0},
    ),
    Case(
        name="cap of the population",
        code=Code.BUDGET,
        reason="the privacy budget of population",
        job=same,
        budget={"epsilon": 0.5, "epsilon_worst": 1000.0, "delta": 1e-5},
    ),
    Case(
        name="cohort too small for the policy",
        code=Code.POLICY,
        reason="min_sites 3 is too small",
        job=same,
        policy={"min_cohort": 4},
    ),
    Case(name="cohort of two", code=Code.COHORT, reason="expected", send=cohort_of_two),
    Case(
        name="too few assumed colluders",
        code=Code.POLICY,
        reason="colluding_sites 1 is too small",
        job=same,
        policy={"min_colluding_sites": 2},
    ),
    Case(
        name="masks off",
        code=Code.POLICY,
        reason="masks must be on by this policy",
        job=same,
        request={
            "privacy": PrivacyRequest(mode="local", epsilon=3.0),
            "encryption": EncryptionRequest(masks=False),
        },
        policy={"require_masks": True},
    ),
    Case(name="columns that do not fit", code=Code.SCHEMA, reason="lacks bmi", job=lacking),
    Case(
        name="unknown task",
        code=Code.TASK,
        reason="telepathy",
        job=lambda job: replace(job, task=Named(name="telepathy", options={})),
        policy={"tasks": ["telepathy"]},
    ),
    Case(
        name="model too large",
        code=Code.POLICY,
        reason="model size",
        job=same,
        policy={"max_parameters": 3},
    ),
    Case(
        name="keys of the coordinator",
        code=Code.INTEGRITY,
        reason="signature",
        send=keys_of_the_coordinator,
    ),
    Case(
        name="rolled-back checkpoint",
        code=Code.REPLAYED,
        reason="not newer",
        send=rolled_back_checkpoint,
    ),
    Case(
        name="attempt used again",
        code=Code.REPLAYED,
        reason="not newer",
        send=attempt_used_again,
    ),
    Case(
        name="ledger put back",
        code=Code.BUDGET,
        reason="put the newest copy of the ledger back",
        send=ledger_put_back,
    ),
)
# An honest coordinator waits for a node of the invented hospital, which never comes.
LAUNCHED = tuple(case for case in CASES if case.job not in (None, asking_west))


def name_of(case: Case) -> str:
    return case.name.replace(" ", "-")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture(scope="module")
def child() -> Iterator[SumProcess]:
    with SumProcess() as process:
        yield process


def arranged(case: Case, folder: Path) -> tuple[Consortium, Job]:
    """The consortium whose first hospital refuses, and the job."""
    consortium = case.arrange(make_consortium(folder))
    path = consortium.folder / HERE / CONFIG
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["policy"] |= dict(case.policy)
    if case.budget:
        document["populations"]["sepsis"]["budget"] = dict(case.budget)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    job = make_job(consortium, make_request(**case.request))
    return consortium, (case.job or same)(job)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_hospital_refuses_with_a_code_and_keeps_the_reason(
    case: Case, reads: Reads, tmp_path: Path
) -> None:
    scene = Scene(*arranged(case, tmp_path / "c"), reads)
    try:
        answer = case.send(scene)

        assert answer.kind == Refused.KIND
        header = open_header(answer, scene.hospital.key.public)
        assert read_body(answer, header, Refused) == Refused(name=HERE, reason=str(case.code))
        written = scene.journal()
        assert written["code"] == str(case.code)
        assert case.reason in written["reason"], written["reason"]
        # The reason stays here, and nobody looked at a record for it.
        assert case.reason.encode() not in answer.header
        assert not answer.blobs
        assert scene.read_for_last == 0
    finally:
        scene.stage.close()


@pytest.mark.parametrize("case", LAUNCHED, ids=name_of)
def test_the_coordinator_ends_the_job_and_shows_the_code(
    case: Case, reads: Reads, child: SumProcess, tmp_path: Path
) -> None:
    consortium, job = arranged(case, tmp_path / "c")

    outcome: Outcome = run_job(consortium, job, child=child)

    assert outcome.status == "failed"
    assert outcome.refusals[HERE] == str(case.code)
    assert outcome.reason
    assert reads.count == 0
    assert not (consortium.folder / HERE / "models").exists()


def test_what_is_not_refused_is_read(reads: Reads, tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "c")
    scene = Scene(consortium, make_job(consortium), reads)
    try:
        scene.read(scene.enrol(), Enrolled)
        assert reads.count == 0
        scene.first_step()
        assert reads.count == 1
    finally:
        scene.stage.close()
