"""The coordinator's roster on its disk: one edition after the other, each signed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from protocol.errors import BusyError
from protocol.keyfile import replace_file
from protocol.roster import Roster
from server.config import Folder
from server.editions import following


def update(folder: Folder, change: Callable[[Roster], Roster]) -> tuple[Roster, Roster]:
    """Sign and write the next edition; nothing is written where nothing changes.

    Args:
        folder: The coordinator's folder.
        change: From the present edition to the same one with other members.

    Returns:
        The edition before and the present one.

    Raises:
        InputError: A file cannot be read or written, or the change is refused.
        IntegrityError: The roster does not hold.
        BusyError: Another command is changing the roster.
    """
    key = folder.load_key()
    with _alone(folder):
        before = folder.load_roster(key.fingerprint)
        ca = folder.ca.read_text()
        after = following(before, change(before), address=folder.config.address, ca=ca)
        if after != before:
            replace_file(folder.roster, after.sign(key))
    return before, after


@contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """Keep other commands out, so that two never sign the same number."""
    descriptor = os.open(folder.roster.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BusyError("another command is changing the roster", remedy="try again") from None
    finally:
        os.close(descriptor)
