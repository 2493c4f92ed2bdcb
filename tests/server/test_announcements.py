"""Who hears of a job's end: everybody once, whatever was restarted in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import FedwardError
from server.announcements import Announcements
from server.archive import Archive
from server.job_folder import JobFolder
from server.launch import Outcome
from server.run_folder import OUTCOME
from server.webhook import Webhook
from tests.consortium import make_job, make_request
from tests.server.premises import free_port
from tests.server.test_webhook import Receiver

ENDED = Outcome(
    status="failed",
    reason="too few hospitals",
    refusals={},
    events=(),
    metrics={},
    weights_tag="",
    model=None,
)
LINE = ("job", "sepsis: failed too few hospitals")


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return Archive(tmp_path).create(make_job(request=make_request(name="sepsis")), bytes(64))


class Life:
    """A coordinator from its start to its end."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.told: list[tuple[str, str]] = []
        self.hook = Webhook(url, lambda line: self.tell("webhook", line), pause_s=0.01)
        self.announcements = Announcements(Archive(folder), self.tell, self.hook)

    def tell(self, kind: str, text: str) -> None:
        self.told.append((kind, text))

    def look(self, times: int = 2) -> list[tuple[str, str]]:
        """What is told in a life in which it looks so often."""
        for _ in range(times):
            self.announcements.look()
        self.hook.close()
        return self.told


def test_an_end_is_told_once_and_not_again_after_a_restart(job: JobFolder, tmp_path: Path) -> None:
    receiver = Receiver(200)
    assert Life(tmp_path, receiver.url).look() == []
    job.save_outcome(ENDED)  # while no coordinator runs
    assert Life(tmp_path, receiver.url).look() == [LINE]
    assert Life(tmp_path, receiver.url).look() == []
    assert [(said["kind"], said["digest"]) for said in receiver.got] == [("job-ended", job.digest)]
    receiver.shutdown()
    receiver.server_close()


def test_a_webhook_that_took_nothing_is_told_after_the_next_start(
    job: JobFolder, tmp_path: Path
) -> None:
    job.save_outcome(ENDED)
    lost = Life(tmp_path, f"http://127.0.0.1:{free_port()}/").look()
    assert [kind for kind, _ in lost] == ["job", "webhook"]
    receiver = Receiver(200)
    assert Life(tmp_path, receiver.url).look() == [LINE]
    assert [said["status"] for said in receiver.got] == ["failed"]
    receiver.shutdown()
    receiver.server_close()


def test_without_a_webhook_the_log_is_enough(job: JobFolder, tmp_path: Path) -> None:
    job.save_outcome(ENDED)
    assert Life(tmp_path, None).look() == [LINE]
    assert Life(tmp_path, None).look() == []


def test_what_cannot_be_noted_is_said(
    job: JobFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: JobFolder) -> None:
        raise FedwardError("announced: cannot be written")

    job.save_outcome(ENDED)
    monkeypatch.setattr(JobFolder, "mark_announced", full)
    assert Life(tmp_path, None).look() == [LINE, ("webhook", "announced: cannot be written")]


def test_an_end_that_cannot_be_read_is_an_error_once(job: JobFolder, tmp_path: Path) -> None:
    job.save_outcome(ENDED)
    (job.path / OUTCOME).write_text("{}")
    life = Life(tmp_path, None)
    with pytest.raises(FedwardError):
        life.announcements.look()
    assert life.look() == []
