"""What an administrator types: status, pause, decisions, leaving, and the support bundle."""

from __future__ import annotations

import json
import logging
import time
import zipfile
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from client.cli import app
from client.hospital import Hospital
from client.known_jobs import Asked, summarise, summarise_delivery
from client.member import Member
from client.node_log import FILE, logging_to
from client.node_state import StateFolder
from client.store import DiskSessions
from protocol.errors import BusyError, InputError
from protocol.messages import Enrol, Place, pack
from simulations.consortium import Consortium
from tests import federation
from tests.consortium import make_consortium, make_job, make_request
from tests.delivered import delivery_of


class Office:
    """One hospital with a job that began there, and an administrator's terminal."""

    def __init__(self, folder: Path) -> None:
        self.consortium: Consortium = make_consortium(folder)
        self.config = federation.hospital_config(self.consortium, "north")
        self.folder = StateFolder(self.config.parent / "node")
        self.job = make_job(self.consortium, make_request())

    def begin(self, *, decision: str = "approved") -> None:
        """Let the job ask, and begin where it is approved."""
        data, key = self.job.to_bytes(), self.consortium.coordinator
        self.folder.add_job(
            Asked(
                digest=self.job.digest,
                name=self.job.name,
                summary=summarise(self.job),
                decision=decision,  # type: ignore[arg-type]
                seen="2026-11-20T08:00:00+00:00",
                expires=self.job.expires,
            )
        )
        if decision != "approved":
            return
        body = Enrol(signature=key.sign("job", data), heads={}, job=data)
        packet = pack(
            body, Place(job=self.job.digest), key, recipient="*", deadline=time.time() + 60
        )
        with Hospital.open(self.config) as hospital:
            answer = Member(hospital, DiskSessions(self.folder.jobs)).answer(packet)
        assert answer.kind == "enrolled"
        self.folder.mark_begun(self.job.digest)

    def run(self, command: str, *arguments: str) -> str:
        words = [*command.split(), str(self.config), *arguments]
        result = CliRunner().invoke(
            app, words, env={"COLUMNS": "100", "NO_COLOR": "1"}, catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        return result.output

    def status(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.run("status", "--json"))
        return found


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "consortium")


def test_a_node_that_never_ran_has_a_status(office: Office) -> None:
    found = office.status()

    assert (found["running"], found["connected"], found["jobs"]) == (False, False, {})
    assert "not running" in office.run("status")


def test_status_shows_jobs_rounds_and_budget(office: Office) -> None:
    office.begin()
    office.folder.save_status(
        {
            "connected": True,
            "coordinator": "sums.example:443",
            "answered": 3,
            "last_error": None,
            "jobs": {
                office.job.digest: {
                    "name": "sepsis-risk",
                    "message": "step",
                    "round": 2,
                    "outcome": "stepped",
                    "at": "2026-11-20T08:00:00+00:00",
                }
            },
            "processes": {office.job.digest: 4321},
        }
    )
    with office.folder.locked():
        found = office.status()
        shown = office.run("status")

    assert found["connected"] is True
    jobs = found["jobs"]
    assert isinstance(jobs, dict)
    assert jobs[office.job.digest]["round"] == 2
    assert jobs[office.job.digest]["pid"] == 4321
    assert found["budget"]
    for text in ("sums.example:443", "connected", "step: stepped", "sepsis-risk", "epsilon"):
        assert text in shown


def test_pause_and_resume(office: Office) -> None:
    assert "new jobs are refused" in office.run("pause")
    assert office.status()["paused"] is True
    assert "paused" in office.run("status")
    assert "new jobs are taken" in office.run("resume")
    assert office.status()["paused"] is False


def test_jobs_are_listed_approved_and_denied(office: Office) -> None:
    assert "no job has asked yet" in office.run("jobs list")
    office.begin(decision="waiting")

    listed = office.run("jobs list")
    assert "waiting" in listed
    assert "sepsis-risk" in listed
    assert "approved" in office.run("jobs approve", office.job.digest[:8])
    (known,) = json.loads(office.run("jobs list", "--json"))
    assert (known["decision"], known["summary"]["mode"]) == ("approved", "distributed")
    office.run("jobs deny", "sepsis-risk")
    assert office.folder.find("sepsis-risk").decision == "denied"
    with pytest.raises(InputError, match="of one job"):
        office.run("jobs approve", "unknown")


def test_deliveries_stand_among_the_jobs(office: Office) -> None:
    delivery = delivery_of(office.consortium, office.job)
    asked = Asked(
        digest=delivery.digest,
        name=delivery.title,
        summary=summarise_delivery(delivery),
        decision="waiting",
        seen="2026-11-21T12:00:00+00:00",
        expires=delivery.expires,
    )
    office.folder.add_job(asked)
    office.begin(decision="waiting")

    listed = office.run("jobs list")
    assert "sepsis-risk to west" in listed
    assert "delivery" in listed
    assert "approved sepsis-risk to west" in office.run("jobs approve", delivery.digest[:8])
    # A job of the model's name is still found by that name.
    office.run("jobs deny", "sepsis-risk")
    told = json.loads(office.run("jobs list", "--json"))
    by_digest = {one["digest"]: one["decision"] for one in told}
    assert by_digest == {delivery.digest: "approved", office.job.digest: "denied"}


def test_a_job_that_was_left_stays_left(office: Office) -> None:
    office.begin()

    assert "left sepsis-risk" in office.run("leave", "sepsis-risk", "--yes")

    assert office.folder.find("sepsis-risk").decision == "left"
    with Hospital.open(office.config) as hospital:
        assert hospital.ledger.finished(office.job.digest)
        assert not DiskSessions(office.folder.jobs).jobs()
    with pytest.raises(InputError, match="left 'sepsis-risk'"):
        office.run("jobs approve", "sepsis-risk")


def test_leaving_settles_what_a_kill_came_before(office: Office) -> None:
    office.begin()
    # The node died between its answer and the note that the job had begun.
    (office.folder.path / "known" / f"{office.job.digest}.begun").unlink()

    for _ in range(2):
        assert "left sepsis-risk" in office.run("leave", "sepsis-risk", "--yes")

    with Hospital.open(office.config) as hospital:
        account = hospital.ledger.account(office.job.digest)
    assert account is not None
    assert (account.status, account.finished) == ("void", True)


def test_leaving_waits_for_the_answer_under_way(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.node_commands._ENDED_S", 0.3)
    office.begin()
    office.folder.save_status({"processes": {office.job.digest: 1}})

    with office.folder.locked(), pytest.raises(BusyError, match="still answers"):
        office.run("leave", "sepsis-risk", "--yes")

    assert office.folder.find("sepsis-risk").decision == "left"


def test_leaving_for_good_deletes_the_keys(office: Office) -> None:
    office.begin()
    keys = office.config.parent / "keys"
    with office.folder.locked(), pytest.raises(BusyError, match="the node runs"):
        office.run("leave", "--all", "--forget-keys", "--yes")
    assert (keys / "signing.key").exists()

    office.run("leave", "--all", "--forget-keys", "--yes")

    assert sorted(path.name for path in keys.iterdir()) == ["card.json"]


@pytest.mark.parametrize("words", [[], ["job", "--all"], ["job", "--forget-keys"]])
def test_leaving_asks_for_clear_words(office: Office, words: list[str]) -> None:
    with pytest.raises(InputError):
        office.run("leave", *words, "--yes")


def test_the_support_bundle_holds_nothing_private(office: Office, tmp_path: Path) -> None:
    document = yaml.safe_load(office.config.read_text())
    document["node"] = {"proxy": "http://user:geheim@proxy.example:3128"}
    office.config.write_text(yaml.safe_dump(document))
    office.begin()
    with logging_to(office.folder.logs, size_mb=1, kept=1):
        logging.getLogger("test").warning("a line of the log")
    target = tmp_path / "bundle.zip"

    office.run("status", "--support-bundle", str(target))

    with zipfile.ZipFile(target) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert set(files) == {
        "versions.json",
        "status.json",
        "checks.json",
        "config.json",
        f"logs/{FILE}",
    }
    assert b"a line of the log" in files[f"logs/{FILE}"]
    assert json.loads(files["config.json"])["node"]["memory_mb"] == 8192
    checks = {one["check"]: one["verdict"] for one in json.loads(files["checks.json"])}
    assert checks["keys"] == "ok"
    assert set(checks.values()) <= {"ok", "warn", "fail"}
    everything = b"\n".join(files.values())
    for secret in _secrets(office):
        assert secret not in everything
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="exists already"):
        office.run("status", "--support-bundle", str(target))


def _secrets(office: Office) -> list[bytes]:
    """Key material, password, records, and hashes and epsilons of the ledger."""
    base = office.config.parent
    keys = [
        line
        for name in ("signing.key", "exchange.key", "node.key")
        for line in (base / "keys" / name).read_bytes().splitlines()
        if not line.startswith(b"-----")
    ]
    records = (base / "data.csv").read_bytes().splitlines()[1:]
    with Hospital.open(office.config) as hospital:
        head = hospital.ledger.head.encode()
        spent = repr(hospital.ledger.report().balances[0].admission[0]).encode()
    found = [*keys, *records, b"geheim", b"data.csv", head, spent]
    assert all(len(secret) > 4 for secret in found)
    return found
