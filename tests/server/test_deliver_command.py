"""`fedward server deliver` and what other commands say of deliveries, without a SuperLink."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import typer
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

import fedward
from protocol.deliveries import CONTEXT
from protocol.errors import FedwardError, InputError, IntegrityError
from protocol.jobs import Job
from protocol.signing import verify
from server.announcements import DeliveriesUnderWay
from server.archive import Archive
from server.config import Folder
from server.deliver_command import completed, planned
from server.delivery_folder import DeliveryArchive, DeliveryFolder, Handed
from server.delivery_view import DeliveryRecord
from server.follow import follow_delivery
from server.launch import Event, Outcome
from server.presence import hold, lock_of
from server.webhook import Webhook
from simulations.consortium import Consortium
from tests.consortium import make_consortium, make_job, make_request
from tests.delivered import HOLDERS, RECIPIENT, ROWS, delivery_of
from tests.server.premises import settle
from tests.server.test_archive import full_disk

RUNNER = CliRunner()
DONE = Handed(status="completed", reason="", received=(RECIPIENT,), refusals={})
FAILED = Handed(status="failed", reason="west: policy", received=(), refusals={RECIPIENT: "policy"})


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return make_consortium(tmp_path_factory.mktemp("hospitals"), hospitals=4, rows=ROWS)


@pytest.fixture(scope="module")
def job(consortium: Consortium) -> Job:
    return make_job(consortium, make_request(hospitals=3, rows=ROWS))


@pytest.fixture
def folder(tmp_path: Path, consortium: Consortium, job: Job) -> Folder:
    """A coordinator with one completed job."""
    made = settle(tmp_path, consortium.coordinator, consortium.roster)
    made.state.mkdir(mode=0o700)
    keep(made, consortium, job)
    return made


def keep(folder: Folder, consortium: Consortium, job: Job, status: str = "completed") -> None:
    signature = consortium.coordinator.sign("job", job.to_bytes())
    Archive(folder.jobs).create(job, signature).save_outcome(
        Outcome(
            status=status, reason="", refusals={}, events=(), metrics={}, weights_tag="", model=None
        )
    )


def launch(folder: Folder, consortium: Consortium, job: Job, **changes: str) -> DeliveryFolder:
    delivery = delivery_of(consortium, job, **changes)
    signature = consortium.coordinator.sign(CONTEXT, delivery.to_bytes())
    return DeliveryArchive(folder).create(delivery, signature)


def note(kept: DeliveryFolder, kind: str = "offered", attempt: int = 1) -> None:
    kept.append(Event(kind=kind, round=0, sites=(), attempt=attempt, bytes_up=5, detail="waits"))


def run(folder: Folder, *words: str) -> Result:
    return RUNNER.invoke(fedward.app, [*words, "--server", str(folder.file)])


def told(folder: Folder, *words: str) -> str:
    done = run(folder, *words)
    assert done.exit_code == 0, done.output
    return done.output


@contextmanager
def running(folder: Folder, outcome: Handed) -> Iterator[None]:
    """A coordinator that ends the next delivery like this."""
    stop = threading.Event()

    def serve() -> None:
        with hold(lock_of(folder)):
            while not stop.wait(0.02):
                for kept in DeliveryArchive(folder).unfinished():
                    note(kept)
                    kept.save_outcome(outcome)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


class TestDeliver:
    def test_it_signs_keeps_follows_and_says_what_to_do_next(
        self, folder: Folder, job: Job, consortium: Consortium
    ) -> None:
        with running(folder, DONE):
            text = told(folder, "server", "deliver", job.name, "--to", RECIPIENT)
        assert "Delivering sepsis-risk to west, kept as sepsis-risk-" in text
        assert "offered" in text
        assert "completed" in text
        assert "fedward client models promote CONFIG sepsis-risk" in text
        (kept,) = DeliveryArchive(folder).deliveries()
        assert (kept.delivery.holders, kept.delivery.recipients) == (HOLDERS, (RECIPIENT,))
        assert (kept.delivery.job, kept.delivery.roster) == (job.digest, consortium.roster.digest)
        signed = kept.signed
        verify(consortium.coordinator.public, CONTEXT, signed.delivery, signed.signature)

    def test_one_that_fails_says_who_refused_and_leaves_with_1(
        self, folder: Folder, job: Job
    ) -> None:
        with running(folder, FAILED):
            done = run(folder, "server", "deliver", job.name, "--to", RECIPIENT)
        assert done.exit_code == 1
        assert "west: policy" in done.output
        with running(folder, FAILED):
            done = run(folder, "server", "deliver", job.name, "--to", RECIPIENT, "--json")
        assert done.exit_code == 1
        found = json.loads(done.output)
        assert (found["kind"], found["status"]) == ("delivery", "failed")
        assert found["refusals"] == {RECIPIENT: "policy"}

    def test_nothing_is_signed_where_no_coordinator_runs(self, folder: Folder, job: Job) -> None:
        done = run(folder, "server", "deliver", job.name, "--to", RECIPIENT)
        assert isinstance(done.exception, InputError)
        assert "fedward server up" in str(done.exception)
        assert DeliveryArchive(folder).deliveries() == ()

    def test_its_help_teaches(self) -> None:
        text = RUNNER.invoke(fedward.app, ["server", "deliver", "--help"]).output
        for word in ("hand_on_to", "accept_models", "colluding_sites", "promote", "--to"):
            assert word in text


class TestPlanned:
    def plan(self, job: Job, consortium: Consortium, *to: str) -> None:
        key = consortium.coordinator.fingerprint
        planned(job, consortium.roster, to, key, timedelta(hours=1))

    def test_a_hospital_that_nobody_knows(self, job: Job, consortium: Consortium) -> None:
        with pytest.raises(InputError, match="no hospital 'nowhere' in the roster"):
            self.plan(job, consortium, "nowhere")

    def test_a_model_without_privacy(self, job: Job, consortium: Consortium) -> None:
        bare = replace(job, privacy=replace(job.privacy, mode="none"))
        with pytest.raises(InputError, match=r"not handed on; .*mode none"):
            self.plan(bare, consortium, RECIPIENT)

    def test_too_few_are_left_to_vouch_and_what_to_do_instead(
        self, job: Job, consortium: Consortium
    ) -> None:
        with pytest.raises(
            InputError, match=r"2 hospitals .*\(colluding_sites: 1\).*found 1"
        ) as no:
            self.plan(job, consortium, "north", "south")
        assert "fedward client models export" in str(no.value)
        two = replace(job, privacy=replace(job.privacy, colluding_sites=2))
        with pytest.raises(InputError, match="found 2 in the roster"):
            self.plan(two, consortium, "north")
        self.plan(two, consortium, RECIPIENT)


class TestCompleted:
    def test_of_jobs_of_one_name_the_one_that_was_completed(
        self, folder: Folder, job: Job, consortium: Consortium
    ) -> None:
        keep(folder, consortium, replace(job, nonce="1" * 32), "failed")
        archive = Archive(folder.jobs)
        assert completed(archive, job.name).digest == job.digest
        keep(folder, consortium, replace(job, nonce="2" * 32))
        with pytest.raises(InputError, match="more than one job"):
            completed(archive, job.name)
        assert completed(archive, job.digest[:8]).digest == job.digest

    def test_one_that_was_not_has_no_model(
        self, folder: Folder, job: Job, consortium: Consortium
    ) -> None:
        other = replace(job, name="other")
        keep(folder, consortium, other, "failed")
        with pytest.raises(InputError, match=r"has no model; .*found failed"):
            completed(Archive(folder.jobs), "other")
        going = replace(job, name="going")
        Archive(folder.jobs).create(going, bytes(64))
        with pytest.raises(InputError, match="under way"):
            completed(Archive(folder.jobs), "going")


class TestOtherCommands:
    def test_status_and_history(self, folder: Folder, job: Job, consortium: Consortium) -> None:
        kept = launch(folder, consortium, job)
        assert "Deliveries under way" in told(folder, "server", "status")
        (found,) = json.loads(told(folder, "server", "status", "--json"))["deliveries"]
        assert (found["status"], found["seconds"] < 60) == ("waiting", True)
        note(kept)
        (found,) = json.loads(told(folder, "server", "status", "--json"))["deliveries"]
        assert (found["status"], found["reason"], found["bytes_up"]) == ("running", "waits", 5)
        kept.save_outcome(FAILED)
        text = told(folder, "server", "history")
        assert "Deliveries that have ended" in text
        assert "west: policy" in text
        ended = json.loads(told(folder, "server", "history", "--json"))
        assert [one.get("kind") for one in ended] == [None, "delivery"]
        assert "Deliveries" not in told(folder, "server", "status")

    def test_log(self, folder: Folder, job: Job, consortium: Consortium) -> None:
        kept = launch(folder, consortium, job)
        note(kept)
        name = kept.path.name
        assert "attempt  1" in told(folder, "server", "log", name)
        (line,) = told(folder, "server", "log", name, "--json").splitlines()
        assert json.loads(line)["kind"] == "offered"
        kept.save_outcome(DONE)
        assert "offered" in told(folder, "server", "log", kept.digest[:8], "--follow")

    def test_a_name_of_two_ends_neither(
        self, folder: Folder, job: Job, consortium: Consortium
    ) -> None:
        kept, other = (launch(folder, consortium, job, nonce=digit * 32) for digit in "01")
        keep(folder, consortium, replace(job, name=kept.digest[:8]), status="failed")

        for verb in ("stop", "log"):
            done = run(folder, "server", verb, kept.digest[:8])
            assert "more than one job or delivery" in str(done.exception)
            assert kept.path.name in str(done.exception)
        assert not kept.stop_requested
        told(folder, "server", "stop", kept.path.name, "--wait", "0")
        assert (kept.stop_requested, other.stop_requested) == (True, False)

    def test_stop(self, folder: Folder, job: Job, consortium: Consortium) -> None:
        kept = launch(folder, consortium, job)
        assert "will be stopped" in told(folder, "server", "stop", kept.path.name, "--wait", "0")
        assert kept.stop_requested
        with running(folder, DONE):
            deadline = time.monotonic() + 10
            while kept.outcome is None and time.monotonic() < deadline:
                time.sleep(0.02)
        done = run(folder, "server", "stop", kept.path.name)
        assert "stores no second version" in str(done.exception)

    def test_ctrl_c_leaves_it_alone(
        self, folder: Folder, job: Job, consortium: Consortium, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = launch(folder, consortium, job)

        def interrupt(_: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("server.follow.time.sleep", interrupt)
        console = Console(record=True, quiet=False, width=200)
        with pytest.raises(typer.Exit) as left:
            follow_delivery(folder, kept, console)
        assert left.value.exit_code == 130
        text = console.export_text()
        assert "waits for fedward server up" in text
        assert f"fedward server log {kept.path.name}" in text


class TestFolder:
    def test_a_copy_under_another_name_is_left_alone(
        self, folder: Folder, job: Job, consortium: Consortium
    ) -> None:
        kept = launch(folder, consortium, job)
        digest = kept.digest
        kept.path.rename(kept.path.with_name("copy"))
        archive = DeliveryArchive(folder)
        assert archive.deliveries() == ()
        with pytest.raises(IntegrityError, match="not the delivery of this folder"):
            _ = DeliveryFolder(kept.path.with_name("copy")).delivery
        with pytest.raises(InputError, match="no such delivery"):
            archive.find(digest)

    def test_a_disk_that_is_full_leaves_no_half(
        self, folder: Folder, job: Job, consortium: Consortium, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full_disk(monkeypatch, "link")
        with pytest.raises(FedwardError, match=r"cannot be written.*No space left"):
            launch(folder, consortium, job)
        assert list((folder.jobs / "deliveries").iterdir()) == []

    def test_the_same_again_is_the_same_folder(
        self, folder: Folder, job: Job, consortium: Consortium
    ) -> None:
        kept = launch(folder, consortium, job)
        note(kept)
        again = DeliveryArchive(folder).create(kept.delivery, bytes(64))
        assert again.events() == kept.events()
        assert again.signed == kept.signed

    def test_its_record_while_it_waits(
        self, folder: Folder, job: Job, consortium: Consortium
    ) -> None:
        kept = launch(folder, consortium, job)
        assert DeliveryRecord.of(kept).status == "waiting"
        assert kept.attempt == 0

    def test_the_service_tells_once_how_it_ended(
        self, folder: Folder, job: Job, consortium: Consortium
    ) -> None:
        kept, said = launch(folder, consortium, job), list[tuple[str, str]]()
        heard: list[tuple[str, object]] = []

        class Listener:
            def tell(self, kind: str, record: Mapping[str, object]) -> None:
                heard.append((kind, record["status"]))

        going = DeliveriesUnderWay(
            DeliveryArchive(folder),
            lambda kind, line: said.append((kind, line)),
            cast("Webhook", Listener()),
        )
        assert [one.digest for one in going.look()] == [kept.digest]
        kept.save_outcome(FAILED)
        assert going.look() == ()
        assert going.look() == ()
        assert said == [("delivery", "sepsis-risk to west: failed west: policy")]
        assert heard == [("delivery-ended", "failed")]
