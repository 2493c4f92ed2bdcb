"""What a node need not remember of the jobs that asked, and what it must."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.known_jobs import GRACE, Asked, Known, check_unknown, forgettable, summarise
from protocol.errors import Code, RefusalError
from tests.consortium import make_consortium, make_job, make_request

NOW = datetime(2026, 11, 20, tzinfo=UTC)
LATER, LONG_AGO = NOW + timedelta(days=1), NOW - GRACE - timedelta(seconds=1)


def known(
    digest: str,
    *,
    expires: datetime | str = LATER,
    begun: bool = False,
    decided: bool = False,
    delivery: bool = False,
    seen: int = 1,
) -> Known:
    asked = Asked(
        digest=digest,
        name="sepsis",
        summary={"recipients": ["west"]} if delivery else {},
        decision="waiting",
        seen=f"2026-11-0{seen}",
        expires=str(expires),
    )
    return Known(asked=asked, decision="denied", begun=begun, decided=decided)


def test_what_nobody_needs_is_forgotten_after_its_expiry() -> None:
    asked = [
        known("over", expires=LONG_AGO),
        known("denied", expires=LONG_AGO, decided=True),
        known("never", expires="some day"),
        known("handed", expires=LONG_AGO, begun=True, delivery=True),
        known("shown", expires=NOW - timedelta(days=1)),
        known("awaited"),
    ]

    assert set(forgettable(asked, NOW)) == {"over", "denied", "never", "handed"}


def test_a_job_that_began_stays_whatever_the_time() -> None:
    """Where its session was lost, only this record leads `leave` to the budget that it holds."""
    assert forgettable([known("begun", expires=LONG_AGO, begun=True)], NOW) == ()


def test_of_what_nobody_decided_on_the_last_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.known_jobs.MOST_UNDECIDED", 2)
    asked = [
        known("newest", seen=5),
        known("old", seen=2),
        known("denied", seen=1, decided=True),
        known("began", seen=1, begun=True),
        known("handed", seen=3, begun=True, delivery=True),
        known("newer", seen=4),
    ]

    assert set(forgettable(asked, NOW)) == {"old", "handed"}


def test_an_expired_document_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    job = make_job(make_consortium(tmp_path), make_request())
    end = datetime.fromisoformat(job.expires)

    check_unknown(job, end - timedelta(seconds=1))
    with pytest.raises(RefusalError, match="not known here") as refusal:
        check_unknown(job, end)
    assert refusal.value.code == Code.EXPIRED


def test_a_summary_says_what_is_asked_for(tmp_path: Path) -> None:
    job = make_job(make_consortium(tmp_path), make_request())

    summary = summarise(job)

    assert summary["epsilon"] == job.privacy.epsilon
    assert (summary["hospitals"], summary["mode"]) == (3, "distributed")
