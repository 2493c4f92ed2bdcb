"""Processes that have read a file end when it is replaced."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from client.watched import Files, dismiss_outdated
from protocol.keyfile import replace_file


@dataclass
class Running:
    """Jobs' processes that are none."""

    jobs: list[str]
    ended: list[str] = field(default_factory=list)

    @property
    def pids(self) -> dict[str, int]:
        return dict.fromkeys(self.jobs, 1)

    def drop(self, job: str) -> str:
        self.jobs.remove(job)
        self.ended.append(job)
        return "ended with 0"


def test_a_file_counts_as_replaced_once(tmp_path: Path) -> None:
    trust, roster = tmp_path / "trust.json", tmp_path / "roster.json"
    replace_file(trust, b"one")
    files = Files(trust, roster)
    assert not files.replaced()

    replace_file(trust, b"two")
    assert [files.replaced(), files.replaced()] == [True, False]
    replace_file(roster, b"it is there now")
    assert [files.replaced(), files.replaced()] == [True, False]
    roster.unlink()
    assert [files.replaced(), files.replaced()] == [True, False]


def test_every_process_ends_when_a_confirmation_is_taken_back(tmp_path: Path) -> None:
    trust = tmp_path / "trust.json"
    replace_file(trust, b"north, south")
    files, running = Files(trust), Running(["a", "b"])
    assert dismiss_outdated(files, running) == 0

    replace_file(trust, b"north, east!")

    assert dismiss_outdated(files, running) == 2
    assert running.ended == ["a", "b"]
    assert dismiss_outdated(files, running) == 0
