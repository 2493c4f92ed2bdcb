"""What becomes of a run that comes to nothing; with a real SuperLink: test_service.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from protocol.bundle import SignedJob
from server.archive import Archive
from server.job_folder import JobFolder
from server.run_folder import RUNS
from server.runs import CLAIM_S, Runs, _Going
from tests.consortium import make_job, make_request
from tests.server.premises import lay_out


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return Archive(tmp_path / "jobs").create(make_job(request=make_request(name="sepsis")), b"")


def test_a_run_that_nobody_gets_is_given_up_after_a_while(tmp_path: Path, job: JobFolder) -> None:
    told: list[tuple[str, str]] = []
    runs = Runs(lay_out(tmp_path, 0, {}), lambda kind, text: told.append((kind, text)))
    now_s = time.monotonic()
    runs._going[job.digest] = _Going(job, 7, now_s)
    runs.look()
    assert (runs.numbers, runs.pids, told) == ({job.digest: 7}, {}, [])
    runs._going[job.digest] = _Going(job, 7, now_s - CLAIM_S - 1.0)
    runs.look()
    assert runs.numbers == {}
    assert told == [("job", "sepsis: Flower did not hand its run over; again in 1 s")]
    runs.end()


class Submitting:
    """A SuperLink that takes each run and hands none over."""

    def __init__(self) -> None:
        self.submitted: list[str] = []

    def submit(self, signed: SignedJob) -> int:
        self.submitted.append(signed.digest)
        return 8

    def claim(self) -> None:
        return None


def test_a_job_that_cannot_be_submitted_waits_and_keeps_no_other_waiting(
    tmp_path: Path, job: JobFolder
) -> None:
    told: list[tuple[str, str]] = []
    other = Archive(tmp_path / "jobs").create(make_job(request=make_request(name="stroke")), b"")
    (job.path / RUNS).write_text("no number\n")
    runs = Runs(lay_out(tmp_path, 0, {}), lambda kind, text: told.append((kind, text)))
    superlink: Any = Submitting()
    for _ in range(2):
        runs.keep((job, other), superlink, superlink)
    assert superlink.submitted == [other.digest]
    assert runs.numbers == {other.digest: 8}
    assert [text[:8] for _, text in told] == ["sepsis: ", "stroke: "]
    assert "a line is damaged" in told[0][1]
    assert told[0][1].endswith("; again in 1 s")
