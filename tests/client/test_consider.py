"""The dry run: the node's answer from files alone, with every reason, and nothing touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.consider_command import look
from client.member import Member
from client.session import MemorySessions
from client.situation import charges_of
from privacy.ledger import Ledger
from protocol.bundle import SignedJob
from protocol.canonical import to_canonical
from protocol.errors import Code, InputError
from protocol.jobs import Job
from protocol.messages import Enrol, Place, Refused, open_header, pack, read_body
from protocol.signing import SigningKey
from simulations.consortium import Consortium
from tests.ceremony import invoke
from tests.consortium import make_consortium, make_job, make_request

NOW = datetime.now(UTC)


@pytest.fixture
def three(tmp_path: Path) -> Consortium:
    return make_consortium(tmp_path / "all")


def policy(three: Consortium, name: str = "north", **changes: Any) -> None:
    """Change a hospital's policy."""
    path = three.folder / name / "hospital.yaml"
    document = yaml.safe_load(path.read_text())
    document["policy"].update(changes)
    path.write_text(yaml.safe_dump(document))


def signed(folder: Path, job: Job, key: SigningKey) -> Path:
    """A job's folder as a coordinator keeps it."""
    home = folder / job.name
    home.mkdir()
    (home / "job.json").write_bytes(job.to_bytes())
    (home / "job.sig").write_bytes(key.sign("job", job.to_bytes()))
    return home


def codes(three: Consortium, path: Path, name: str = "north") -> list[Code]:
    config = three.folder / name / "hospital.yaml"
    return [reason.code for reason in look(config, path, NOW).reasons]


def over_the_wire(three: Consortium, job: Job, key: SigningKey | None = None) -> Code | None:
    """The code with which the node itself refuses, None where it accepts."""
    body = job.to_bytes()
    with three.open("north") as hospital:
        letter = pack(
            Enrol(job=body, signature=(key or three.coordinator).sign("job", body), heads={}),
            Place(job=job.digest),
            three.coordinator,
            recipient=hospital.key.fingerprint,
            deadline=(NOW + timedelta(hours=1)).timestamp(),
        )
        reply = Member(hospital, MemorySessions()).answer(letter)
        header = open_header(reply, hospital.key.public)
        if reply.kind != Refused.KIND:
            return None
        return Code(read_body(reply, header, Refused).reason)


class TestAnswer:
    def test_a_job_that_may_run_costs_what_it_states(
        self, three: Consortium, tmp_path: Path
    ) -> None:
        job = make_job(three)
        path = signed(tmp_path, job, three.coordinator)
        before = {p.name: p.stat().st_mtime_ns for p in (three.folder / "north").rglob("*")}
        found = look(three.folder / "north" / "hospital.yaml", path, NOW)
        after = {p.name: p.stat().st_mtime_ns for p in (three.folder / "north").rglob("*")}
        assert after == before
        assert (found.reasons, found.asked.signed) == ((), True)
        document = found.to_json()
        assert (document["answer"], document["code"]) == ("accepted", None)
        cost = document["cost"]
        assert isinstance(cost, list)
        (stated,) = [
            row for row in cost if (row["partition"], row["trust"]) == ("train", "as stated")
        ]
        assert stated["spent"] == 0
        # The filter counts a little more than the tight epsilon that the job states.
        assert job.privacy.epsilon <= stated["asked"] < 1.5 * job.privacy.epsilon
        assert stated["left"] == pytest.approx(stated["cap"] - stated["asked"])

    def test_what_is_spent_counts(self, three: Consortium, tmp_path: Path) -> None:
        before = make_job(three)
        with three.open("north") as hospital:
            charges = list(charges_of(before, "north", "sepsis").values())
            hospital.ledger.reserve(charges, hospital.caps(before), NOW)
        path = signed(tmp_path, make_job(three), three.coordinator)
        config = three.folder / "north" / "hospital.yaml"
        cost = look(config, path, NOW).cost
        assert cost is not None
        assert cost.standings[0].spent[0] > 0
        # Its own reservation is not counted twice.
        again = look(config, _file(tmp_path / "again.json", before, three.coordinator), NOW)
        assert again.cost is not None
        assert again.cost.standings[0].spent[0] == 0
        budget = {"sepsis": {"budget": {"epsilon": 4.0, "epsilon_worst": 1000.0}, "public": True}}
        document = yaml.safe_load(config.read_text())
        config.write_text(yaml.safe_dump({**document, "populations": budget}))
        assert codes(three, path) == [Code.BUDGET]

    def test_a_job_that_is_over(self, three: Consortium, tmp_path: Path) -> None:
        job = make_job(three)
        with three.open("north") as hospital:
            charges = list(charges_of(job, "north", "sepsis").values())
            hospital.ledger.reserve(charges, hospital.caps(job), NOW)
            hospital.ledger.mark_finished(job.digest)
        assert codes(three, signed(tmp_path, job, three.coordinator)) == [Code.REPLAYED]


def _file(path: Path, job: Job, key: SigningKey) -> Path:
    signature = key.sign("job", job.to_bytes())
    path.write_bytes(to_canonical(SignedJob(job=job.to_bytes(), signature=signature)))
    return path


Change = Callable[[Job], Job]


class TestBothSidesAgree:
    """What the dry run says first is what the node says to the coordinator."""

    @pytest.mark.parametrize(
        ("rules", "change", "code"),
        [
            ({}, lambda job: job, None),
            ({}, lambda job: replace(job, roster="0" * 64), Code.ROSTER),
            ({}, lambda job: replace(job, expires="2020-01-01T00:00:00+00:00"), Code.EXPIRED),
            ({}, lambda job: replace(job, coordinator="0" * 64), Code.SIGNATURE),
            ({}, lambda job: replace(job, dataset="other"), Code.SCHEMA),
            ({"tasks": []}, lambda job: job, Code.POLICY),
            ({"coordinators": ["0" * 64]}, lambda job: job, Code.POLICY),
            ({"hours": {"windows": []}}, lambda job: job, Code.POLICY),
            ({"min_cohort": 4}, lambda job: job, Code.POLICY),
            ({"min_colluding_sites": 2}, lambda job: job, Code.POLICY),
            ({"epsilon_per_job": 1.0}, lambda job: job, Code.POLICY),
            ({"max_parameters": 3}, lambda job: job, Code.POLICY),
            ({"datasets": {"sepsis": {"tasks": []}}}, lambda job: job, Code.POLICY),
        ],
    )
    def test_on_the_first_reason(
        self,
        three: Consortium,
        tmp_path: Path,
        rules: dict[str, Any],
        change: Change,
        code: Code | None,
    ) -> None:
        policy(three, **rules)
        job = change(make_job(three))
        found = codes(three, signed(tmp_path, job, three.coordinator))
        assert (found[0] if found else None) == code
        assert over_the_wire(three, job) == code

    def test_on_who_signed(self, three: Consortium, tmp_path: Path) -> None:
        job, stranger = make_job(three), SigningKey.generate()
        assert codes(three, signed(tmp_path, job, stranger)) == [Code.SIGNATURE]
        assert over_the_wire(three, job, stranger) == Code.SIGNATURE

    def test_on_masks(self, three: Consortium, tmp_path: Path) -> None:
        from server.requests import EncryptionRequest, TrainingRequest

        request = make_request(
            mode="local",
            training=TrainingRequest(rounds=1, local_steps=2),
            encryption=EncryptionRequest(masks=False),
        )
        job = make_job(three, request)
        policy(three, require_masks=True)
        assert codes(three, signed(tmp_path, job, three.coordinator)) == [Code.POLICY]
        assert over_the_wire(three, job) == Code.POLICY

    def test_on_columns_that_are_not_there(self, three: Consortium, tmp_path: Path) -> None:
        path = three.folder / "north" / "data.csv"
        path.write_text(path.read_text().replace("pulse", "PULSE", 1))
        job = make_job(three)
        assert codes(three, signed(tmp_path, job, three.coordinator)) == [Code.SCHEMA]
        assert over_the_wire(three, job) == Code.SCHEMA
        path.unlink()
        assert codes(three, tmp_path / job.name) == [Code.SCHEMA]
        assert over_the_wire(three, job) == Code.SCHEMA

    def test_on_a_hospital_that_the_coordinator_invented(
        self, three: Consortium, tmp_path: Path
    ) -> None:
        """It is on the roster, but nobody here confirmed it."""
        path = three.folder / "north" / "trust.json"
        document = json.loads(path.read_text())
        del document["confirmed"]["east"]
        path.write_text(json.dumps(document))
        job = make_job(three)
        assert codes(three, signed(tmp_path, job, three.coordinator)) == [Code.ROSTER]
        assert over_the_wire(three, job) == Code.ROSTER


class TestFiles:
    def test_a_job_without_its_signature(self, three: Consortium, tmp_path: Path) -> None:
        path = tmp_path / "job.json"
        path.write_bytes(make_job(three).to_bytes())
        assert codes(three, path) == [Code.SIGNATURE]

    def test_a_coordinators_request(self, three: Consortium, tmp_path: Path) -> None:
        path = tmp_path / "job.yaml"
        document = json.loads(json.dumps(_request()))
        path.write_text(yaml.safe_dump(document))
        found = look(three.folder / "north" / "hospital.yaml", path, NOW)
        assert (found.reasons, found.asked.signed) == ((), False)

    @pytest.mark.parametrize("content", [b"no job", b'{"job":1}', b"PK no zip"])
    def test_what_is_no_job(self, three: Consortium, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "file"
        path.write_bytes(content)
        config = three.folder / "north" / "hospital.yaml"
        assert invoke("client", "consider", path, "--config", config).exit_code != 0
        with pytest.raises(InputError, match="cannot be read"):
            look(config, tmp_path / "none", NOW)
        job = make_job(three)
        home = signed(tmp_path, job, three.coordinator)
        (home / "job.sig").write_text("?")
        with pytest.raises(InputError, match="no signature; expected 64 bytes"):
            look(config, home, NOW)


class TestCommand:
    def test_accepts_and_refuses(self, three: Consortium, tmp_path: Path) -> None:
        path = _file(tmp_path / "signed.json", make_job(three), three.coordinator)
        args = ("client", "consider", path, "--config", three.folder / "north" / "hospital.yaml")
        accepted = invoke(*args)
        assert (accepted.exit_code, "would take part" in accepted.stdout) == (0, True)
        policy(three, tasks=[], max_rounds=1)
        refused = invoke(*args)
        assert refused.exit_code == 1
        assert "say only: policy" in refused.stdout
        assert refused.stdout.count("- policy: ") == 2
        document = json.loads(invoke(*args, "--json").stdout)
        assert [reason["code"] for reason in document["reasons"]] == ["policy", "policy"]

    def test_a_hospital_that_is_not_asked_pays_nothing(
        self, three: Consortium, tmp_path: Path
    ) -> None:
        path = three.folder / "north" / "hospital.yaml"
        path.write_text(path.read_text().replace("name: north", "name: west"))
        job = _file(tmp_path / "signed.json", make_job(three), three.coordinator)
        result = invoke("client", "consider", job, "--config", path, "--json")
        assert json.loads(result.stdout)["cost"] == []


def _request() -> dict[str, Any]:
    """The request of `make_request` as a person writes it."""
    request = make_request()
    return {
        "name": request.name,
        "dataset": request.dataset,
        "schema": dict(request.schema),
        "task": {"name": "diagnosis", "options": {}},
        "sites": [vars(site) for site in request.sites],
        "intended_use": "tests only",
        "privacy": {"mode": "distributed", "epsilon": 3.0},
        "training": {"rounds": 2},
    }


def test_a_ledger_is_only_read(three: Consortium, tmp_path: Path) -> None:
    with three.open("north") as hospital:
        head = hospital.ledger.head
    codes(three, signed(tmp_path, make_job(three), three.coordinator))
    with Ledger.open(three.folder / "north" / "ledger.sqlite", None) as ledger:
        assert ledger.head == head
