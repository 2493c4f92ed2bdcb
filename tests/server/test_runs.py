"""What becomes of a run that comes to nothing; with a real SuperLink: test_service.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from server.archive import Archive
from server.job_folder import JobFolder
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
