"""Locks of the operating system's, which say who acts in a folder.

A lock ends with its process, whatever that died of, so no file has to be cleaned up after a crash.
Looking takes no lock: whoever acts is never kept out by somebody who only looks.

Source: fcntl(2), "Open file description locks" (Linux since 3.15).
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

# struct flock: type, whence, start and length (0 and 0 for the whole file), process.
_FLOCK = struct.Struct("hhqqi4x")
_WHOLE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def open_lock(path: Path) -> int:
    """Open a file that is there to be locked, and make it, mode 0600, where there is none.

    Returns:
        A descriptor that no other program inherits.

    Raises:
        OSError: It cannot be made or opened.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def lock(descriptor: int) -> bool:
    """Take the lock until the descriptor is closed.

    Returns:
        Whether it was free.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _WHOLE)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of a file now; nobody does where there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _WHOLE)
    finally:
        os.close(descriptor)
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)
