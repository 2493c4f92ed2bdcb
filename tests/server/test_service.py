"""A coordinator that runs, with Flower's real SuperLink and ServerApp on this machine."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

import fedward
from privacy.keys import Identity
from protocol.bundle import SignedJob
from protocol.errors import BusyError, InputError
from server import runs
from server.archive import Archive
from server.config import Folder
from server.control import Control, LinkError
from server.job_folder import JobFolder
from server.jobs import Origin, resolve
from server.presence import present
from server.requests import read_request
from server.service import Service
from server.webhook import Webhook
from tests.server.premises import HOSPITALS, certify, found, write_job, write_roster
from tests.server.test_webhook import Receiver

START_S = 90.0
RUNNER = CliRunner()

pytestmark = pytest.mark.timeout(300)


def fedward_(*words: str) -> Result:
    return RUNNER.invoke(fedward.app, words)


def until(what: Callable[[], object], seconds: float = START_S) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


class Running:
    """A service in a thread of this process."""

    def __init__(self, folder: Folder, url: str | None = None) -> None:
        self.folder = folder
        self.told: list[tuple[str, str]] = []
        self.renew = threading.Event()
        self._stop = threading.Event()
        webhook = Webhook(url, lambda line: self.tell("webhook", line), pause_s=0.01)
        self.service = Service(folder, self.tell, webhook)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.service.run(self._stop, self.renew, step_s=0.1)

    def tell(self, kind: str, text: str) -> None:
        self.told.append((kind, text))

    def ready(self) -> bool:
        found = present(self.folder)
        return found is not None and found.ready and "roster" in {kind for kind, _ in self.told}

    def count(self, kind: str) -> int:
        return sum(told == kind for told, _ in self.told)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return found(tmp_path)


@pytest.fixture
def start(folder: Folder) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def begin(url: str | None = None) -> Running:
        running = Running(folder, url)
        made.append(running)
        until(lambda: running.ready() or made[-1].count("error"))
        assert not running.count("error"), running.told
        return running

    yield begin
    for running in made:
        running.stop()


def node_names(folder: Folder) -> set[str]:
    """Whose nodes the SuperLink would let in."""
    names = {card.node_key.strip(): card.name for card in _cards(folder)}
    with Control(folder) as control:
        return {names[node.key.strip()] for node in control.nodes()}


def _cards(folder: Folder) -> tuple[Any, ...]:
    hospitals = folder.file.parent / "hospitals"
    return tuple(Identity.load(path).card() for path in sorted(hospitals.iterdir()))


def test_a_job_without_hospitals_from_launch_to_history(
    folder: Folder, start: Callable[..., Running], tmp_path: Path
) -> None:
    receiver = Receiver(200)
    running = start(receiver.url)
    server = ("--server", str(folder.file))
    assert node_names(folder) == set(HOSPITALS)
    with Control(folder) as control:
        left_over = control.submit(SignedJob(job=b"{}", signature=bytes(64)))

    second = fedward_("server", "up", str(folder.file))
    assert isinstance(second.exception, BusyError)
    assert "a coordinator is running here already" in str(second.exception)

    state = json.loads(fedward_("server", "status", "--json", *server).stdout)
    assert (state["running"], state["ready"], state["jobs"]) == (True, True, [])
    assert state["hospitals"] == dict.fromkeys(HOSPITALS, False)

    launched = fedward_("run", str(write_job(tmp_path / "job.yaml")), "--json", *server)
    assert launched.exit_code == 1, launched.output
    record = json.loads(launched.stdout)
    assert (record["status"], record["name"], record["rounds"]) == ("failed", "sepsis-1", 10)
    assert "0 hospitals accepted, 3 needed" in record["reason"]
    assert (record["epsilon"], record["delta"], record["bytes_up"]) == (1.0, 1e-5, 0)

    until(lambda: receiver.got)
    assert receiver.got[0]["kind"] == "job-ended"
    assert receiver.got[0]["status"] == "failed"
    history = json.loads(fedward_("server", "history", "--json", *server).stdout)
    assert [entry["digest"] for entry in history] == [record["digest"]]
    with Control(folder) as control:
        assert control.run(left_over).ending.startswith("stopped")  # no job's, and not begun
    assert running.count("error") == 0, running.told
    receiver.shutdown()
    receiver.server_close()


@pytest.mark.slow
class TestDeaths:
    def launch(self, folder: Folder) -> JobFolder:
        """A job that waits for hospitals for as long as the test lasts."""
        document = yaml.safe_load(folder.file.read_text())
        folder.file.write_text(yaml.safe_dump({**document, "patience_s": 120.0}))
        key = folder.load_key()
        roster = folder.load_roster(key.fingerprint).digest
        origin = Origin(coordinator=key.fingerprint, roster=roster, now=datetime.now(UTC))
        job = resolve(read_request(write_job(folder.file.parent / "job.yaml")), origin)
        kept = Archive(folder.jobs).create(job, key.sign("job", job.to_bytes()))
        until(lambda: kept.runs)
        return kept

    def over(self, folder: Folder, run: int) -> bool:
        try:
            with Control(folder) as control:
                return control.run(run).over
        except LinkError:
            return False

    def test_a_dead_superlink_is_replaced_and_the_job_goes_on(
        self, folder: Folder, start: Callable[..., Running]
    ) -> None:
        running = start()
        job = self.launch(folder)
        os.kill(running.service.superlink_pid, signal.SIGKILL)
        until(lambda: len(job.runs) == 2)
        assert running.count("ready") == 2
        assert not self.over(folder, job.runs[1])
        stopped = fedward_("server", "stop", job.path.name, "--json", "--server", str(folder.file))
        assert json.loads(stopped.stdout)["status"] == "stopped"
        assert job.outcome is not None
        again = fedward_("server", "stop", job.path.name, "--server", str(folder.file))
        assert isinstance(again.exception, InputError)
        assert "sepsis-1 has ended; found stopped" in str(again.exception)

    def test_a_dead_process_of_a_job_is_replaced_at_once(
        self, folder: Folder, start: Callable[..., Running]
    ) -> None:
        running = start()
        job = self.launch(folder)
        until(lambda: job.digest in running.service.job_pids)
        os.kill(running.service.job_pids[job.digest], signal.SIGKILL)
        until(lambda: len(job.runs) == 2, 10.0)
        said = "sepsis-1: its process was ended by signal 9 (Killed); again in 1 s"
        assert ("job", said) in running.told
        assert self.over(folder, job.runs[0])

    def test_a_frozen_process_of_a_job_is_replaced(
        self, folder: Folder, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runs, "ASK_S", 0.5)
        running = start()
        job = self.launch(folder)
        until(lambda: job.digest in running.service.job_pids)
        os.kill(running.service.job_pids[job.digest], signal.SIGSTOP)
        with Control(folder) as control:
            control.stop_run(job.runs[0])  # as Flower does after a minute without heartbeats
        until(lambda: len(job.runs) == 2, 30.0)
        assert running.count("error") == 0, running.told

    def test_a_job_whose_run_was_stopped_gets_another(
        self, folder: Folder, start: Callable[..., Running]
    ) -> None:
        running = start()
        job = self.launch(folder)
        until(lambda: job.digest in running.service.job_pids)
        with Control(folder) as control:
            control.stop_run(job.runs[0])
        until(lambda: len(job.runs) == 2)
        assert running.count("error") == 0, running.told
        resumed = fedward_("server", "resume", job.digest[:8], "--server", str(folder.file))
        assert resumed.exit_code == 0, resumed.exception

    def test_a_service_that_ends_leaves_its_job_to_the_next_one(
        self, folder: Folder, start: Callable[..., Running]
    ) -> None:
        first = start()
        job = self.launch(folder)
        first.stop()
        assert present(folder) is None
        assert job.outcome is None
        start()
        until(lambda: len(job.runs) == 2)

    def test_a_new_edition_of_the_roster_counts_at_once(
        self, folder: Folder, start: Callable[..., Running]
    ) -> None:
        start()
        Identity.create(folder.file.parent / "hospitals" / "west", "west")
        cards = tuple(card for card in _cards(folder) if card.name != "south")
        write_roster(folder, folder.load_key(), cards, 2)
        until(lambda: node_names(folder) == {"north", "east", "west"})

    def test_new_certificates_count_once_they_fit_each_other(
        self, folder: Folder, start: Callable[..., Running]
    ) -> None:
        running = start()
        before = folder.certificate.read_bytes()
        certify(folder, days=60)
        write_roster(folder, folder.load_key(), _cards(folder), 2)
        until(lambda: ("superlink", "restarts: the certificates are new") in running.told)
        until(lambda: running.count("ready") == 2)
        folder.certificate.write_bytes(before)
        until(lambda: any("server.pem" in text for kind, text in running.told if kind == "error"))
        assert node_names(folder) == set(HOSPITALS)  # the old ones stay in use meanwhile
        running.renew.set()
