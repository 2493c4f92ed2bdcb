"""What a coordinator keeps of its jobs is whole, whenever its machine stops."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import FedwardError, InputError, IntegrityError
from protocol.jobs import Job
from server import job_folder
from server.archive import Archive
from server.checkpoint import Checkpoint, Finished, Pending, Seat
from server.job_folder import JobFolder
from server.launch import Event, Outcome
from server.rounds import start
from server.terms import Rules
from tests.consortium import make_job, make_request

SIGNATURE = bytes(range(64))
EVENT = Event(
    kind="round",
    round=1,
    sites=("north", "south"),
    at=1e9 + 0.1,
    seconds=0.1,
    bytes_up=1 << 40,
    metrics={"auroc": (0.9, 0.8, 0.1 + 0.2)},
    arrivals={"north": 0.05},
    lost={"east": "deadline"},
)


@pytest.fixture(scope="module")
def job() -> Job:
    return make_job(request=make_request())


@pytest.fixture
def folder(tmp_path: Path, job: Job) -> JobFolder:
    return Archive(tmp_path / "jobs").create(job, SIGNATURE)


def again(folder: JobFolder) -> JobFolder:
    """The same folder as another process opens it."""
    return JobFolder(folder.path)


def checkpoint(job: Job, *totals: bytes, model: bytes | None = None) -> Checkpoint:
    return Checkpoint(
        state=start(Rules.of(job)),
        sites={"north": Seat(node=7, signing=b"s" * 32, fingerprint="f" * 64, member=b"keys")},
        cohort=b"document",
        pending=tuple(
            Pending(attempt=number, purpose="update", contributors=("north",), total=total)
            for number, total in enumerate(totals, start=1)
        ),
        metrics={"auroc": (0.9, 0.8, 0.95)},
        weights_tag="ab",
        model=model,
        finished=Finished(attempt=3, confirmations={"north": bytes(64)}),
    )


def full_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From now on a call of the operating system finds no space, after half of the bytes."""
    real = getattr(os, name)

    def fail(descriptor: int, *arguments: object) -> int:
        if name == "pwrite" and len(arguments[0]) > 1:  # type: ignore[arg-type]
            half = len(arguments[0]) // 2  # type: ignore[arg-type]
            real(descriptor, bytes(arguments[0])[:half], arguments[1])  # type: ignore[call-overload]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, name, fail)


class TestJobs:
    def test_a_job_is_kept_as_it_was_signed(self, tmp_path: Path, job: Job) -> None:
        made = Archive(tmp_path / "jobs").create(job, SIGNATURE)
        found = Archive(tmp_path / "jobs").find(job.name)
        assert found.path == made.path
        assert (found.job.to_bytes(), found.signature) == (job.to_bytes(), SIGNATURE)
        assert found.path.stat().st_mode & 0o777 == 0o700

    def test_the_same_job_again_is_the_same_folder(self, folder: JobFolder, job: Job) -> None:
        folder.append(EVENT)
        same = Archive(folder.path.parent).create(job, SIGNATURE)
        assert same.events() == (EVENT,)

    def test_found_by_name_folder_or_digest(self, folder: JobFolder, job: Job) -> None:
        archive = Archive(folder.path.parent)
        for wanted in (job.name, folder.path.name, job.digest, job.digest[:4]):
            assert archive.find(wanted).digest == job.digest

    @pytest.mark.parametrize("wanted", ["", "abc", "another", "../jobs"])
    def test_what_is_not_there(self, wanted: str, folder: JobFolder) -> None:
        with pytest.raises(InputError, match=f"no such job; expected one of {folder.path.name}"):
            Archive(folder.path.parent).find(wanted)

    def test_two_jobs_of_one_name_are_told_apart(self, folder: JobFolder, job: Job) -> None:
        archive = Archive(folder.path.parent)
        other = archive.create(replace(job, intended_use="another"), SIGNATURE)
        with pytest.raises(InputError, match="more than one job"):
            archive.find(job.name)
        assert archive.find(other.path.name).digest == other.digest
        assert [one.digest for one in archive.jobs()] == [job.digest, other.digest]

    def test_a_folder_with_another_job_is_refused(self, folder: JobFolder) -> None:
        moved = folder.path.rename(folder.path.with_name("sepsis-risk-000000000000"))
        with pytest.raises(IntegrityError, match="not the job of this folder"):
            _ = JobFolder(moved).job

    def test_a_folder_that_does_not_hold_keeps_no_other_job_waiting(
        self, folder: JobFolder, job: Job
    ) -> None:
        archive = Archive(folder.path.parent)
        shutil.copytree(folder.path, folder.path.with_name("copy"))
        (folder.path.parent / "torn").mkdir()
        (folder.path.parent / "torn" / job_folder.JOB).write_bytes(b"{")
        assert [one.path for one in archive.jobs()] == [folder.path]
        assert [one.path for one in archive.unfinished()] == [folder.path]
        assert archive.find(job.digest).path == folder.path
        problems = "\n".join(archive.damaged())
        assert len(archive.damaged()) == 2
        assert "not the job of this folder" in problems

    def test_a_full_disk_leaves_no_half_folder(
        self, tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive = Archive(tmp_path / "jobs")
        full_disk(monkeypatch, "link")
        with pytest.raises(FedwardError, match="No space left"):
            archive.create(job, SIGNATURE)
        assert list((tmp_path / "jobs").iterdir()) == []


class TestCheckpoint:
    def test_none_before_the_first(self, folder: JobFolder) -> None:
        assert folder.checkpoint is None

    def test_what_is_kept_is_read_back(self, folder: JobFolder, job: Job) -> None:
        kept = checkpoint(job, b"sum" * 1000, b"counts", model=b"weights")
        folder.save_checkpoint(kept)
        assert again(folder).checkpoint == kept

    def test_sums_that_are_sent_no_more_are_removed(self, folder: JobFolder, job: Job) -> None:
        for total in (b"first", b"second", b"third"):
            folder.save_checkpoint(checkpoint(job, total))
        assert len(list(folder.path.glob("*.part"))) == 1

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_a_full_disk_leaves_the_one_before(
        self, call: str, folder: JobFolder, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = checkpoint(job, b"first")
        folder.save_checkpoint(before)
        full_disk(monkeypatch, call)
        with pytest.raises(FedwardError, match="nothing kept before is lost"):
            folder.save_checkpoint(checkpoint(job, b"second"))
        monkeypatch.undo()
        assert again(folder).checkpoint == before

    def test_a_sum_that_changed_is_refused(self, folder: JobFolder, job: Job) -> None:
        folder.save_checkpoint(checkpoint(job, b"first"))
        next(folder.path.glob("*.part")).write_bytes(b"other")
        with pytest.raises(IntegrityError, match="not what was kept"):
            _ = folder.checkpoint


class TestEvents:
    def test_in_order_and_exact(self, folder: JobFolder) -> None:
        events = [replace(EVENT, round=number) for number in range(3)]
        for event in events:
            folder.append(event)
        assert again(folder).events() == tuple(events)

    @pytest.mark.parametrize("cut", [1, 2, 50])
    def test_a_torn_last_line_was_not_written(self, cut: int, folder: JobFolder) -> None:
        folder.append(EVENT)
        folder.append(replace(EVENT, round=2))
        path = folder.path / "events.jsonl"
        path.write_bytes(path.read_bytes()[:-cut])
        assert folder.events() == (EVENT,)
        folder.append(replace(EVENT, round=3))
        assert [event.round for event in folder.events()] == [1, 3]

    def test_a_damaged_line_in_between_is_an_error(self, folder: JobFolder) -> None:
        folder.append(EVENT)
        path = folder.path / "events.jsonl"
        path.write_bytes(b"{\n" + path.read_bytes())
        with pytest.raises(IntegrityError, match="a line is damaged"):
            folder.events()

    def test_a_full_disk_adds_no_line(
        self, folder: JobFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.append(EVENT)
        full_disk(monkeypatch, "pwrite")
        with pytest.raises(FedwardError, match="No space left"):
            folder.append(EVENT)
        monkeypatch.undo()
        assert folder.events() == (EVENT,)

    def test_runs(self, folder: JobFolder) -> None:
        assert folder.runs == ()
        folder.add_run(1 << 60)
        folder.add_run(2)
        assert again(folder).runs == (1 << 60, 2)


class TestEnd:
    OUTCOME = Outcome(
        status="completed",
        reason="",
        refusals={"east": "policy"},
        events=(EVENT,),
        metrics={"auroc": (0.9, 0.8, 0.95)},
        weights_tag="ab",
        model=b"weights",
    )

    def test_an_outcome_ends_the_job_and_frees_what_was_kept(
        self, folder: JobFolder, job: Job
    ) -> None:
        archive = Archive(folder.path.parent)
        folder.append(EVENT)
        folder.save_checkpoint(checkpoint(job, b"sum"))
        assert [one.digest for one in archive.unfinished()] == [job.digest]
        folder.save_outcome(self.OUTCOME)
        assert again(folder).outcome == self.OUTCOME
        assert archive.unfinished() == ()
        assert folder.checkpoint is None
        assert list(folder.path.glob("*.part")) == []

    def test_a_full_disk_leaves_the_job_under_way(
        self, folder: JobFolder, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.save_checkpoint(checkpoint(job, b"sum"))
        monkeypatch.setattr(job_folder, "OUTCOME", "no such folder/outcome.json")
        with pytest.raises(FedwardError, match="cannot be written"):
            folder.save_outcome(self.OUTCOME)
        assert folder.checkpoint is not None

    def test_a_stop_is_seen_by_another_process(self, folder: JobFolder) -> None:
        assert not folder.stop_requested
        again(folder).request_stop()
        assert folder.stop_requested


class TestHeads:
    def test_newer_ones_are_kept_beside_others(self, folder: JobFolder) -> None:
        archive = Archive(folder.path.parent)
        assert archive.heads() == {}
        archive.save_heads({"north": b"1", "south": b"1"})
        folder.save_heads({})
        Archive(folder.path.parent).find(folder.path.name).save_heads({"north": b"2"})
        assert archive.heads() == {"north": b"2", "south": b"1"}
