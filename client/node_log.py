"""The node's log: for people on a terminal, JSON lines everywhere else, rotated in a file.

A line has a time, a level, a text and named values. Nothing private is ever logged: texts are
those of the project's errors, which hold no value of a record, no key and no count.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from protocol.logfile import LogFile

FILE = "node.jsonl"
_MEGABYTE = 2**20
# What every record has; everything else was named by who logged it.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter; a traceback is left to its type, since it may quote a value."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "text": record.getMessage(),
            **_values(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
        return json.dumps(line, default=str)


class Terminal(logging.Formatter):
    """A line for people."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        values = " ".join(f"{name}={value}" for name, value in _values(record).items())
        text = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}"
        return f"{text}  {values}" if values else text


@contextmanager
def logging_to(
    folder: Path, *, size_mb: int, kept: int, stream: TextIO | None = None
) -> Iterator[None]:
    """Log to a rotated file of mode 0600 in `folder`, and to standard error, for a while.

    Args:
        folder: The log folder.
        size_mb: Size at which a file is put aside.
        kept: How many files are kept.
        stream: In place of standard error.
    """
    size_bytes = size_mb * _MEGABYTE
    file = LogFile(folder / FILE, maxBytes=size_bytes, backupCount=kept, encoding="utf-8")
    file.setFormatter(JsonLines())
    stream = sys.stderr if stream is None else stream
    screen = logging.StreamHandler(stream)
    screen.setFormatter(Terminal() if stream.isatty() else JsonLines())
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    # Flower's clients log every request at this level.
    for name in ("httpx", "httpcore", "flwr"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in (file, screen):
        root.addHandler(handler)
    try:
        yield
    finally:
        for handler in (file, screen):
            root.removeHandler(handler)
        file.close()
        root.setLevel(level)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _values(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _OWN}
