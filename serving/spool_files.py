"""Files of kept rows: one that grows, under a name that no source takes, and finished ones."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from protocol.keyfile import sync_folder
from serving.config import Keeping

GROWING: Final = ".growing"
_STAMP: Final = "%Y%m%dT%H%M%S%fZ"


def finish(folder: Path, rows: int, made: datetime) -> None:
    """Give the file that grows the name of a finished one.

    Args:
        folder: Of one version.
        rows: How many rows the file has.
        made: When its last row was written.
    """
    path = folder / GROWING
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.rename(folder / f"{made.astimezone(UTC).strftime(_STAMP)}-{rows}.csv")
    sync_folder(folder)


def cut(folder: Path) -> tuple[int, datetime]:
    """Cut a line off that was left half.

    Returns:
        How many rows the file that grows has, and when its last row was written.
    """
    path = folder / GROWING
    made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    return max(whole.count(b"\n") - 1, 0), made


def drop(folder: Path, settings: Keeping, now: datetime, growing: int = 0) -> None:
    """Remove finished files that are too old, and the oldest where there are too many rows.

    Args:
        folder: Of one version.
        settings: The bounds.
        now: Present time.
        growing: Rows that are in no finished file.
    """
    oldest, total = now - timedelta(days=settings.days), growing
    for path in sorted(folder.glob("*.csv"), reverse=True):
        stamp, _, rows = path.stem.partition("-")
        try:
            made = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
            total += int(rows)
        except ValueError:
            continue  # Somebody else's.
        if made < oldest or total > settings.rows:
            path.unlink(missing_ok=True)
    left = folder / GROWING
    if not growing and left.exists():
        age = datetime.fromtimestamp(left.stat().st_mtime, UTC)
        if age < oldest:
            left.unlink(missing_ok=True)
