"""What child processes write, kept in a file that is put aside when it is full."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import IO

from protocol.logfile import LogFile

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
        self._file = LogFile(
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
        """Let go of the file; whoever adds another line opens it again."""
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
