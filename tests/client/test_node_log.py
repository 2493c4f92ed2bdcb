"""Lines for people, lines for programs, and files that do not grow for ever."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

from client.node_log import FILE, logging_to

LOG = logging.getLogger("tests.node_log")


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_program_gets_one_object_a_line(tmp_path: Path) -> None:
    stream = io.StringIO()
    with logging_to(tmp_path, size_mb=1, kept=1, stream=stream):
        LOG.info("answered", extra={"seconds": 0.5, "job": "abc"})
        LOG.debug("not wanted")

    for text in (stream.getvalue(), (tmp_path / FILE).read_text()):
        (line,) = map(json.loads, text.splitlines())
        assert (line["level"], line["text"], line["seconds"]) == ("info", "answered", 0.5)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_person_gets_text(tmp_path: Path) -> None:
    stream = Screen()
    with logging_to(tmp_path, size_mb=1, kept=1, stream=stream):
        LOG.warning("paused")
        LOG.info("answered", extra={"round": 2})

    first, second = stream.getvalue().splitlines()
    assert first.endswith("warning paused")
    assert second.endswith("answered  round=2")


def test_an_exceptions_text_is_left_out(tmp_path: Path) -> None:
    with logging_to(tmp_path, size_mb=1, kept=1, stream=io.StringIO()):
        try:
            int("Ms Miller, born 1950")
        except ValueError:
            LOG.exception("no answer")

    (line,) = map(json.loads, (tmp_path / FILE).read_text().splitlines())
    assert line["error"] == "ValueError"
    assert "Miller" not in json.dumps(line)


def test_files_are_put_aside_and_dropped(tmp_path: Path) -> None:
    with logging_to(tmp_path, size_mb=1, kept=2, stream=io.StringIO()):
        for _ in range(40):
            LOG.info("x" * 100_000)
    before = len(logging.getLogger().handlers)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        FILE,
        f"{FILE}.1",
        f"{FILE}.2",
    ]
    assert all(path.stat().st_size <= 2**20 for path in tmp_path.iterdir())
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    assert len(logging.getLogger().handlers) == before
