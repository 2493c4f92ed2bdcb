"""What a node says of itself stays short, however much it was asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from client.activity import Activity
from client.reception import Arrival
from protocol.bundle import SignedJob
from protocol.jobs import Job
from protocol.messages import Header, Packet
from tests.consortium import make_job, make_request

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def arrival(job: Job) -> Arrival:
    header = Header(
        kind="step", version=1, sender="", recipient="", job=job.digest, epoch=0, attempt=0,
        cohort="", deadline=0.0, body={"round": 3}, blobs={},
    )  # fmt: skip
    return Arrival(
        packet=Packet("step", "", b"", b"", {}),
        header=header,
        signed=SignedJob(job=job.to_bytes(), signature=b""),
        about=job,
    )


def test_the_last_jobs_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.activity.MOST_SHOWN", 2)
    activity, job = Activity(bytes(32), lambda: NOW), make_job(request=make_request())

    for name in ("first", "second", "first", "third"):
        activity.note(arrival(replace(job, name=name)), "under way")

    assert [one.name for one in activity.jobs.values()] == ["first", "third"]
    shown = next(iter(activity.jobs.values()))
    assert (shown.message, shown.round, shown.outcome) == ("step", 3, "under way")
