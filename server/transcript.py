"""What child processes write, kept in a file that is put aside when it is full."""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

SIZE_BYTES = 8 * 2**20
KEPT = 4
_LONGEST_BYTES = 64 * 1024


class Transcript:
    """A file of lines from any number of processes, for its owner alone.

    Args:
        path: The file; what is put aside is called the same with a number.
        size_bytes: Size at which it is put aside.
        kept: How many of those are kept.
    """

    def __init__(self, path: Path, *, size_bytes: int = SIZE_BYTES, kept: int = KEPT) -> None:
        self._file = _Private(
            path, maxBytes=size_bytes, backupCount=kept, encoding="utf-8", delay=True
        )

    def follow(self, stream: IO[bytes], speaker: str = "") -> Listener:
        """Add what a process writes, in a thread of its own, until it writes no more.

        Args:
            stream: The reading end of its output; closed at the end.
            speaker: Whose lines they are, written before each; nothing where it goes without
                saying.
        """
        return Listener(self, stream, f"{speaker}: " if speaker else "")

    def add(self, line: str) -> None:
        """Add one line; a disk that is full costs the line, and holds nobody up."""
        self._file.handle(logging.makeLogRecord({"msg": line}))

    def close(self) -> None:
        """Let go of the file, on a full disk too; whoever adds another line opens it again."""
        with suppress(OSError):
            self._file.close()


class Listener(threading.Thread):
    """Reads one process's output.

    Args:
        transcript: Where the lines go.
        stream: The reading end of the output.
        prefix: Written before each line.
    """

    def __init__(self, transcript: Transcript, stream: IO[bytes], prefix: str) -> None:
        super().__init__(name="transcript", daemon=True)
        self._transcript = transcript
        self._stream = stream
        self._prefix = prefix
        self.last = ""
        """The last line that was not empty."""
        self.start()

    def run(self) -> None:
        """See threading.Thread."""
        with self._stream as lines:
            while line := lines.readline(_LONGEST_BYTES):
                text = line.decode(errors="replace").rstrip()
                self.last = text or self.last
                self._transcript.add(self._prefix + text)


class _Private(logging.handlers.RotatingFileHandler):
    """Mode 0600 for every file, and no word about a line that could not be written."""

    def _open(self) -> io.TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        file = io.FileIO(os.open(self.baseFilename, flags, 0o600), "a")
        return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """See logging.Handler."""
