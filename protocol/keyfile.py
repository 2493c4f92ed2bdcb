"""Files that are there whole or not at all, for their owner alone.

Secrets are created once and never overwritten; what changes is replaced in one step.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.errors import InputError

MAX_BYTES = 65_536


def save_secret(path: Path, data: bytes) -> None:
    """Create a file of mode 0600 that either holds all of `data` or does not exist.

    The bytes are written and synchronised under another name, which is then linked to `path`:
    linking fails where the name is taken, so a key that exists is never lost.

    Raises:
        InputError: The file exists already or cannot be created.
    """
    try:
        with _draft(path, data) as draft:
            os.link(draft, path)
    except FileExistsError:
        raise InputError(
            f"{path}: exists already", remedy="move it away first; keys are never overwritten"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be created", found=error.strerror) from None


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in the place of a file, mode 0600; a crash leaves the old bytes or the new ones.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        with _draft(path, data) as draft:
            draft.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written", found=error.strerror) from None


def load_secret(path: Path, most: int = MAX_BYTES) -> bytes:
    """Read a file that nobody but its owner can read.

    Args:
        path: The file.
        most: Bytes that are read; what follows them is not.

    Raises:
        InputError: The file cannot be read, or its group or everybody may read or change it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & 0o077:
                raise InputError(
                    f"{path}: others may read this key",
                    expected="mode 0600",
                    found=f"mode {mode & 0o777:04o}",
                    remedy=f"run: chmod 600 {path}",
                )
            return file.read(most)
    except OSError as error:
        raise InputError(f"{path}: cannot be read", found=error.strerror) from None


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _draft(path: Path, data: bytes) -> Iterator[Path]:
    """A synchronised file beside `path`, to be linked or moved there; then the folder is synced."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)
