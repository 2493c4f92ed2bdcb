"""The coordinator's commands over a folder with jobs in it, without a coordinator that runs."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

import fedward
import server.run_command
from protocol.errors import FedwardError, InputError
from protocol.jobs import Job
from server.archive import Archive
from server.config import Folder
from server.follow import follow
from server.history import EXCHANGE_S, Record, expected_seconds
from server.job_folder import JobFolder
from server.jobs import Origin, resolve
from server.launch import Event, Outcome
from server.presence import Presence, hold, lock_of, present, require_present
from server.requested import take_resumed
from server.requests import read_request
from tests.server.premises import HOSPITALS, found, write_job

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("job") / "job.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return found(tmp_path_factory.mktemp("coordinator"))


@pytest.fixture(autouse=True)
def _empty(folder: Folder) -> None:
    """Each test has its own jobs."""
    folder.file.write_text(folder.file.read_text().replace("jobs: ", "# "))
    number = len(list(folder.file.parent.glob("jobs-*")))
    text = folder.file.read_text() + f"jobs: jobs-{number}\n"
    folder.file.write_text(text)
    (folder.file.parent / f"jobs-{number}").mkdir()


def here(folder: Folder) -> Folder:
    return Folder.open(folder.file)


def launch(folder: Folder, template: Path) -> JobFolder:
    key = folder.load_key()
    roster = folder.load_roster(key.fingerprint).digest
    origin = Origin(coordinator=key.fingerprint, roster=roster, now=datetime.now(UTC))
    job: Job = resolve(read_request(template), origin)
    return Archive(here(folder).jobs).create(job, key.sign("job", job.to_bytes()))


def event(kind: str = "round", number: int = 1, **changes: object) -> Event:
    changes = {"seconds": 2.0, "bytes_up": 1500, "bytes_down": 2500, **changes}
    return Event(kind=kind, round=number, sites=HOSPITALS, **changes)  # type: ignore[arg-type]


def end(job: JobFolder, status: str = "completed", reason: str = "") -> None:
    job.save_outcome(
        Outcome(
            status=status,
            reason=reason,
            refusals={"east": "budget"} if reason else {},
            events=job.events(),
            metrics={"auroc": (0.9, 0.85, 0.95)} if not reason else {},
            weights_tag="",
            model=None,
        )
    )


def ask(folder: Folder, *words: str) -> Result:
    return RUNNER.invoke(fedward.app, [*words, "--server", str(folder.file)], env={"COLUMNS": "80"})


def told(folder: Folder, *words: str) -> str:
    done = ask(folder, *words)
    assert done.exit_code == 0, done.exception
    if not {"--json", "--follow"} & set(words):
        lines = [line for line in done.stdout.splitlines() if "fedward server" not in line]
        assert all(len(line.rstrip()) <= 80 for line in lines)
    return done.stdout


def problem(folder: Folder, *words: str) -> str:
    done = ask(folder, *words)
    assert isinstance(done.exception, FedwardError), done.output
    return str(done.exception)


class TestDryRun:
    def test_every_hospitals_price(self, folder: Folder, template: Path) -> None:
        costs = json.loads(told(folder, "run", str(template), "--dry-run", "--json"))
        assert list(costs["hospitals"]) == list(HOSPITALS)
        north = costs["hospitals"]["north"]
        assert (north["train_size"], north["epsilon"], north["delta"]) == (800, 1.0, 1e-5)
        assert north["epsilon_worst"] > north["epsilon"]
        assert north["bytes_up"] == costs["rounds"] * costs["upload_bytes"] > 0
        assert north["connected"] is None
        assert "no earlier job" in costs["expected_from"]
        assert Archive(here(folder).jobs).jobs() == ()

    def test_as_tables(self, folder: Folder, template: Path) -> None:
        text = told(folder, "run", str(template), "--dry-run")
        assert "What each hospital would pay and move" in text
        assert "Nothing was signed or sent" in " ".join(text.split())
        assert sum(line.startswith(HOSPITALS) for line in text.splitlines()) == 3

    def test_seconds_are_those_of_earlier_jobs_with_the_task(
        self, folder: Folder, template: Path
    ) -> None:
        job = launch(folder, template)
        exchanges = job.job.training.rounds + 4
        assert expected_seconds(job.job, 0, ())[0] == exchanges * EXCHANGE_S
        for seconds in (1.0, 2.0, 9.0):
            job.append(event(seconds=seconds))
        job.append(event("enrolled", 0, seconds=100.0))
        seconds, basis = expected_seconds(job.job, 0, [job])
        assert (seconds, basis) == (2.0 * exchanges, "3 rounds of earlier jobs with this task")

    def test_a_hospital_that_is_not_enrolled(self, folder: Folder, tmp_path: Path) -> None:
        sites = [{"name": name, "train_size": 9, "test_size": 9} for name in ("a", "b", "c")]
        path = write_job(tmp_path / "job.yaml", sites=sites)
        assert problem(folder, "run", str(path), "--dry-run") == "no hospital 'a' in the roster"


def test_nothing_is_launched_without_a_coordinator(
    folder: Folder, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.run_command, "START_S", 0.0)
    assert "start it with: fedward server up" in problem(folder, "run", str(template))
    assert Archive(here(folder).jobs).jobs() == ()


class TestStatus:
    def test_nobody_and_nothing(self, folder: Folder) -> None:
        text = told(folder, "server", "status")
        assert text.startswith("Not running; start it with: fedward server up")
        assert "No job is under way." in text
        assert told(folder, "server", "history") == "No job has ended yet.\n"
        assert json.loads(told(folder, "server", "history", "--json")) == []

    def test_two_jobs_and_three_hospitals(self, folder: Folder, template: Path) -> None:
        jobs = [launch(folder, template), launch(folder, template)]
        jobs[0].append(event("enrolled", 0))
        jobs[0].append(event(number=3))
        hospitals = {"north": True, "south": False, "east": True}
        with hold(lock_of(folder)):
            Presence(pid=1, ready=True, hospitals=hospitals).save(folder)
            text = told(folder, "server", "status")
            state = json.loads(told(folder, "server", "status", "--json"))
        assert text.startswith("Running (ready) for hospitals at 127.0.0.1:")
        rows = [line.split() for line in text.splitlines()]
        assert ["south", "away"] in rows
        assert ["north", "connected"] in rows
        assert [row[2:5] for row in rows if row[:1] == ["sepsis-1"]] == [
            ["running", "3/10", "3"],
            ["waiting", "0/10", "0"],
        ]
        assert state["hospitals"] == hospitals
        assert [job["status"] for job in state["jobs"]] == ["running", "waiting"]
        assert [job["bytes_up"] for job in state["jobs"]] == [3000, 0]

    def test_a_status_that_is_not_written_yet(self, folder: Folder) -> None:
        with hold(lock_of(folder)):
            (folder.state / "status.json").write_text("")
            assert present(folder) == Presence(pid=0, ready=False)
            assert "Running (starting)" in told(folder, "server", "status")
        assert present(folder) is None


class TestHistory:
    def test_every_ended_job_once(self, folder: Folder, template: Path) -> None:
        done, failed, _ = (launch(folder, template) for _ in range(3))
        for number in range(1, 11):
            done.append(event(number=number))
        end(done)
        end(failed, "failed", "too few [hospitals]")
        entries = json.loads(told(folder, "server", "history", "--json"))
        assert [entry["status"] for entry in entries] == ["completed", "failed"]
        assert entries[0]["metrics"] == {"auroc": [0.9, 0.85, 0.95]}
        assert entries[1]["refusals"] == {"east": "budget"}
        text = told(folder, "server", "history")
        (line,) = [line for line in text.splitlines() if "completed" in line]
        assert line.split()[2:7] == ["completed", "10/10", "3", "1", "1.465"]
        assert "40.0 kB" in line
        assert f"sepsis-1 {failed.digest[:8]}: too few [hospitals]" in text


class TestLog:
    def test_all_events(self, folder: Folder, template: Path) -> None:
        job = launch(folder, template)
        for number in range(1, 20):
            job.append(event(number=number, detail="[x]"))
        text = told(folder, "server", "log", "sepsis-1")
        assert sum(line.startswith("round ") for line in text.splitlines()) == 19 + 0
        lines = told(folder, "server", "log", job.digest[:6], "--json").splitlines()
        assert [json.loads(line)["round"] for line in lines] == list(range(1, 20))

    def test_a_job_that_there_is_not(self, folder: Folder) -> None:
        assert "no-such: no such job" in problem(folder, "server", "log", "no-such")

    @pytest.mark.parametrize("as_json", [True, False])
    def test_following_until_the_end(
        self, folder: Folder, template: Path, *, as_json: bool
    ) -> None:
        job = launch(folder, template)
        job.append(event(number=1))

        def go_on() -> None:
            time.sleep(0.3)
            job.append(event(number=2, metrics={"auroc": (0.9, 0.8, 1.0)}))
            end(job)

        thread = threading.Thread(target=go_on)
        thread.start()
        text = told(folder, "server", "log", "sepsis-1", "--follow", *["--json"] * as_json)
        thread.join()
        lines = [line for line in text.splitlines() if "round" in line]
        assert len(lines) == 2
        if not as_json:
            assert "The coordinator is not running" in text
            assert "auroc 0.900 (0.800 to 1.000)" in text


class TestFollow:
    def test_a_live_table_ends_with_the_job(self, folder: Folder, template: Path) -> None:
        job = launch(folder, template)
        job.append(event(number=4))
        end(job, "stopped", "asked for")
        console = Console(force_terminal=True, width=100, record=True)
        record = follow(folder, job, console, look_s=0.01)
        assert (record.status, record.round) == ("stopped", 4)
        assert "stopped; asked for" in console.export_text()

    def test_ctrl_c_ends_the_watching_only(
        self, folder: Folder, template: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = launch(folder, template)
        console = Console(width=100, record=True)

        def interrupt(_: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(time, "sleep", interrupt)
        with pytest.raises(typer.Exit) as left:
            follow(folder, job, console)
        assert left.value.exit_code == 130
        assert f"fedward server log {job.path.name} --follow" in console.export_text()
        assert not job.stop_requested


class TestStop:
    def test_without_a_coordinator_it_waits_for_one(self, folder: Folder, template: Path) -> None:
        job = launch(folder, template)
        text = told(folder, "server", "stop", "sepsis-1")
        assert text == "sepsis-1: will be stopped at fedward server up\n"
        assert job.stop_requested
        assert take_resumed(folder) == (job.digest,)
        assert take_resumed(folder) == ()

    def test_nor_does_it_wait_longer_than_it_was_told(self, folder: Folder, template: Path) -> None:
        launch(folder, template)
        with hold(lock_of(folder)):
            text = told(folder, "server", "stop", "sepsis-1", "--wait", "0.3")
        assert text == "sepsis-1: will be stopped when its hospitals answer\n"

    def test_what_has_ended_stays_so(self, folder: Folder, template: Path) -> None:
        end(launch(folder, template))
        for verb in ("stop", "resume"):
            assert "sepsis-1 has ended; found completed" in problem(
                folder, "server", verb, "sepsis-1"
            )

    def test_resuming_needs_a_coordinator(self, folder: Folder, template: Path) -> None:
        job = launch(folder, template)
        take_resumed(folder)
        assert "no coordinator is running" in problem(folder, "server", "resume", "sepsis-1")
        with hold(lock_of(folder)):
            state = json.loads(told(folder, "server", "resume", "sepsis-1", "--json"))
        assert state["status"] == "waiting"
        assert take_resumed(folder) == (job.digest,)


def test_a_coordinator_that_is_only_starting_is_waited_for(folder: Folder) -> None:
    with pytest.raises(InputError, match="no coordinator is running"):
        require_present(folder, wait_s=0.2)
    ending = threading.Event()

    def start() -> None:
        time.sleep(0.2)
        with hold(lock_of(folder)):
            ending.wait(10)

    thread = threading.Thread(target=start)
    thread.start()
    try:
        require_present(folder, wait_s=10)
    finally:
        ending.set()
        thread.join()


def test_a_record_says_nothing_of_one_hospital(folder: Folder, template: Path) -> None:
    """What goes to the webhook: every key, so that a new one is thought about."""
    job = launch(folder, template)
    assert set(Record.of(job).to_json()) == {
        "name", "digest", "status", "reason", "created", "ended", "seconds", "round", "rounds",
        "sites", "refusals", "bytes_up", "bytes_down", "epsilon", "epsilon_worst", "delta",
        "metrics",
    }  # fmt: skip


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with (
        pytest.raises(InputError, match=r"up\.lock: cannot be made"),
        hold(tmp_path / "state" / "up.lock"),
    ):
        pass
