from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from server.transcript import Transcript


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.log"


def say(transcript: Transcript, data: bytes, speaker: str = "") -> str:
    """Let a process write this; the last line as the listener has it."""
    reading, writing = os.pipe()
    listener = transcript.follow(os.fdopen(reading, "rb"), speaker)
    os.write(writing, data)
    os.close(writing)
    listener.join(10)
    assert not listener.is_alive()
    return listener.last


def test_every_line_is_there_with_its_speaker(path: Path) -> None:
    transcript = Transcript(path)
    assert say(transcript, b"begins\nends\n\n", "sepsis") == "ends"
    assert say(transcript, b"caf\xe9 without an end") == "caf\ufffd without an end"
    transcript.close()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines == ["sepsis: begins", "sepsis: ends", "sepsis: ", "caf\ufffd without an end"]


def test_two_processes_write_one_file(path: Path) -> None:
    transcript = Transcript(path)
    names = ("north", "south")
    writers = [
        threading.Thread(target=say, args=(transcript, b"line\n" * 500, name)) for name in names
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    transcript.close()
    lines = path.read_text().splitlines()
    assert {name: lines.count(f"{name}: line") for name in names} == {"north": 500, "south": 500}


def test_a_full_file_is_put_aside_and_the_oldest_goes(path: Path) -> None:
    transcript = Transcript(path, size_bytes=1000, kept=2)
    say(transcript, b"".join(b"line %03d\n" % number for number in range(400)))
    transcript.close()
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["jobs.log", "jobs.log.1", "jobs.log.2"]
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = "".join(file.read_text() for file in (files[2], files[1], files[0])).splitlines()
    assert kept == [f"line {number:03d}" for number in range(400 - len(kept), 400)]


def test_what_cannot_be_written_holds_nobody_up(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As on a disk that is full."""
    transcript = Transcript(tmp_path / "gone" / "jobs.log")
    assert say(transcript, b"line\n" * 20000 + b"last\n") == "last"
    (tmp_path / "gone").mkdir()
    assert say(transcript, b"there is space again\n") == "there is space again"
    transcript.close()
    assert (tmp_path / "gone" / "jobs.log").read_text() == "there is space again\n"
    assert capfd.readouterr().err == ""


def test_a_line_without_end_is_cut(path: Path) -> None:
    transcript = Transcript(path)
    reading, writing = os.pipe()
    listener = transcript.follow(os.fdopen(reading, "rb"))
    with os.fdopen(writing, "wb") as file:
        file.write(b"x" * 200_000)
    listener.join(10)
    transcript.close()
    assert max(map(len, path.read_text().splitlines())) == 64 * 1024
