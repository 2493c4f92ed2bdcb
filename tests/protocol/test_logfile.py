from __future__ import annotations

import logging
from pathlib import Path

import pytest

from protocol.logfile import LogFile


def say(file: LogFile, text: str) -> None:
    file.handle(logging.makeLogRecord({"msg": text}))


def test_only_the_owner_reads_what_is_written_and_what_is_put_aside(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log", maxBytes=20, backupCount=1)
    for number in range(4):
        say(file, f"line number {number}")
    file.close()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "log": "line number 3\n",
        "log.1": "line number 2\n",
    }
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_full_disk_costs_the_line_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    file = LogFile("/dev/full")
    say(file, "line")
    file.close()
    assert capfd.readouterr().err == ""
