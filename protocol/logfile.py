"""A file of lines for its owner alone, put aside when it is full.

A disk that takes no line costs the line; whoever had something to say is neither stopped nor told.
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
from contextlib import suppress


class LogFile(logging.handlers.RotatingFileHandler):
    """Mode 0600 for every file, and no word about what could not be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """See logging.Handler."""

    def close(self) -> None:
        """See logging.Handler; what waits to be written is lost where the disk is full."""
        with suppress(OSError):
            super().close()

    def _open(self) -> io.TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        file = io.FileIO(os.open(self.baseFilename, flags, 0o600), "a")
        return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8")
