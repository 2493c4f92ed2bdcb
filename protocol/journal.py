"""The record of what left this process: JSON lines, each signed and chained to the one before.

Every line is a signed document: a sequence number, the SHA-256 of the whole line before, a time, a
kind and fields. A line is on the disk before `append` returns. A crash can leave half a line at the
end, which the next opening replaces by an entry that says so. Any other change is found by
`verify_journal`, except that the last lines are gone: this shows only against a head that was kept
elsewhere (`Journal.head`).
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.errors import BusyError, FedwardError, InputError, IntegrityError
from protocol.keyfile import sync_folder
from protocol.signing import SigningKey, fingerprint, verify_attached

CONTEXT = "journal"
FIRST = "0" * 64
MAX_LINE = 1_048_576
_LOOK_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a journal.

    Args:
        sequence: Number of the line, from 1.
        previous: SHA-256 of the line before, without its line feed; zeros on the first.
        time: RFC 3339 time.
        kind: What happened, such as "released" or "refused".
        fields: What there is to say about it; nothing private.
    """

    sequence: int
    previous: str
    time: str
    kind: str
    fields: Mapping[str, Any]


class Journal:
    """An open journal; one process writes at a time. Close it, or use it as a context manager.

    Opened with `wait_s`, it is locked only while an entry is written, so that several processes of
    one node may have it open; without, it is locked while it is open.

    Guarantee: an entry that `append` returned survives a crash, and a later reader sees whether it
    was changed, moved, or dropped from the middle.
    """

    def __init__(
        self,
        file: io.FileIO,
        key: SigningKey,
        clock: Callable[[], datetime],
        wait_s: float | None,
    ) -> None:
        self._file = file
        self._wait_s = wait_s
        self._end = 0
        self._key = key
        self._clock = clock
        self._lock = Lock()
        self._sequence = 0
        self.head = FIRST
        """SHA-256 of the last line: what another party keeps to see that none is missing."""

    @classmethod
    def open(
        cls,
        path: Path,
        key: SigningKey,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait_s: float | None = None,
    ) -> Journal:
        """Open or create a journal and repair its end after a crash.

        Only the last line is verified here; `verify_journal` verifies all.

        Args:
            path: The file.
            key: The node's key, which signs each line.
            clock: The time of entries.
            wait_s: How long each entry may wait for another process that writes one; None to keep
                all other processes out while it is open.

        Raises:
            BusyError: Another process has it open, or writes for too long.
            InputError: The file cannot be opened.
            IntegrityError: The last whole line is not one that this key signed.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(f"{path}: cannot be opened", found=error.strerror) from None
        journal = cls(io.FileIO(descriptor, "r+"), key, clock, wait_s)
        try:
            with journal._exclusive():
                sync_folder(path.parent)
        except FedwardError as error:
            journal.close()
            raise error.at(str(path)) from None
        return journal

    def append(self, kind: str, fields: Mapping[str, Any]) -> Entry:
        """Write one entry; it is on the disk when this returns.

        Raises:
            InputError: The fields have no canonical bytes or are too long; nothing is written.
            IntegrityError: The disk refused, or the journal is closed; it takes no entry any more.
            BusyError: Another process writes for too long; nothing is written.
        """
        with self._lock, self._exclusive():
            return self._write(kind, fields)

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, kind: str, fields: Mapping[str, Any]) -> Entry:
        """Append a line at the file's position."""
        entry = Entry(
            sequence=self._sequence + 1,
            previous=self.head,
            time=self._clock().isoformat(timespec="milliseconds"),
            kind=kind,
            fields=fields,
        )
        line = self._key.sign_attached(CONTEXT, to_canonical(entry))
        if len(line) > MAX_LINE:
            raise InputError("an entry of the journal", expected=f"at most {MAX_LINE} bytes")
        try:
            _write_all(self._file, line + b"\n")
            os.fsync(self._file.fileno())
        except (OSError, ValueError) as error:
            # What reached the disk is unknown; the next opening finds out.
            self.close()
            raise _unwritten(str(error)) from None
        self._sequence, self.head = entry.sequence, _digest(line)
        self._end = self._file.tell()
        return entry

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the file's lock, and stand at the end of what other processes wrote meanwhile."""
        if self._file.closed:
            raise _unwritten("it is closed")
        self._acquire()
        try:
            if os.fstat(self._file.fileno()).st_size != self._end or not self._end:
                self._recover()
            yield
        finally:
            if self._wait_s is not None and not self._file.closed:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _acquire(self) -> None:
        end = time.monotonic() + (self._wait_s or 0.0)
        while True:
            try:
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise BusyError(
                        "another process has the journal open", remedy="stop it first"
                    ) from None
            time.sleep(_LOOK_S)

    def _recover(self) -> None:
        """Find the last whole line and replace what a crash left behind it by an entry."""
        size = self._file.seek(0, os.SEEK_END)
        start = self._file.seek(max(0, size - 2 * MAX_LINE - 2))
        tail = self._file.read()
        end = tail.rfind(b"\n") + 1
        torn = tail[end:]
        if end:
            line = tail[tail.rfind(b"\n", 0, end - 1) + 1 : end - 1]
            entry = _read_line(line, self._key.fingerprint)
            self._sequence, self.head = entry.sequence, _digest(line)
        elif start:
            raise IntegrityError("the last line is longer than a journal's lines are")
        self._end = self._file.seek(start + end)
        if torn:
            # The entry overwrites the torn bytes before they are cut, so that another crash here
            # leaves a torn line again and never a silent gap.
            self._write("recovered", {"bytes": len(torn), "sha256": _digest(torn)})
            self._file.truncate()
            os.fsync(self._file.fileno())


def _unwritten(found: str) -> IntegrityError:
    return IntegrityError("the journal could not be written", found=found)


def verify_journal(path: Path, public: bytes) -> int:
    """Verify every line of a journal.

    Args:
        path: The journal.
        public: The writer's Ed25519 key, 32 bytes.

    Returns:
        The number of entries.

    Raises:
        IntegrityError: A line was changed, moved, inserted or dropped, or the last is torn; the
            message names the line.
        InputError: The file cannot be read.
    """
    signer, previous, number = fingerprint(public), FIRST, 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
                place = f"{path}:{number}"
                if not line.endswith(b"\n"):
                    raise IntegrityError(
                        f"{place}: torn line", remedy="open the journal once to record the recovery"
                    )
                previous = _check_line(line[:-1], signer, previous, number, place)
    except OSError as error:
        raise InputError(f"{path}: cannot be read", found=error.strerror) from None
    return number


def _check_line(line: bytes, signer: str, previous: str, number: int, place: str) -> str:
    """Check one line against the one before.

    Returns:
        The line's digest.
    """
    try:
        entry = _read_line(line, signer)
    except IntegrityError as error:
        raise error.at(place) from None
    if (entry.sequence, entry.previous) != (number, previous):
        raise IntegrityError(
            f"{place}: does not follow the line before",
            expected=f"entry {number} after {previous[:16]}",
            found=f"entry {entry.sequence} after {entry.previous[:16]}",
        )
    return _digest(line)


def _read_line(line: bytes, signer: str) -> Entry:
    """Verify a line's exact bytes, then read them."""
    try:
        return decode(Entry, verify_attached(signer, CONTEXT, line), "entry")
    except InputError as error:
        raise IntegrityError(f"a signed line that is no entry; {error}") from None


def _write_all(file: io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
