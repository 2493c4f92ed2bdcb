"""The ledger's file: one SQLite table of rows that are only ever added, and the split keys.

WAL with synchronous=FULL: a row is on the disk before the call that wrote it returns. A new file
appears whole, with its first row, so an empty one is never mistaken for a new ledger.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from protocol.errors import BusyError, FedwardError, InputError, IntegrityError
from protocol.keyfile import save_secret

APPLICATION_ID = 0x46774C67
FORMAT = 1
_VERSIONS = slice(18, 20)
"""Where a database's header says that it is in WAL mode (SQLite file format, section 1.3.3)."""

_SCHEMA = (
    "CREATE TABLE rows (number INTEGER PRIMARY KEY, body BLOB NOT NULL, signature BLOB NOT NULL)",
    "CREATE TABLE split_keys (population TEXT PRIMARY KEY, key BLOB NOT NULL)",
    *(
        f"CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        for table in ("rows", "split_keys")
        for verb in ("UPDATE", "DELETE")
    ),
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)


@dataclass(frozen=True)
class Row:
    """One link of the chain.

    Args:
        number: Place in the chain, from 1.
        body: Canonical bytes that hold the number, the hash of the row before, and the content.
        signature: The node's signature over `hash`.
    """

    number: int
    body: bytes
    signature: bytes

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the body, hexadecimal: the chain's head while this row is the last."""
        return hashlib.sha256(self.body).hexdigest()


class Store:
    """An open ledger file; of one process and one thread.

    Args:
        path: The file, mode 0600.
        writable: Whether rows may be added.
        busy_timeout_s: How long to wait for another process that is writing.

    Raises:
        InputError: There is no such file, or others may read it.
        IntegrityError: The file is no ledger or is damaged.
        BusyError: Another process holds the file for too long.
    """

    def __init__(self, path: Path, *, writable: bool, busy_timeout_s: float) -> None:
        _check_mode(path)
        self.path = path
        self._pid = os.getpid()
        with self._translated():
            self._connection = _connect(path, busy_timeout_s)
            try:
                self._check_format()
                self._connection.execute(f"PRAGMA query_only = {int(not writable)}")
            except BaseException:
                self._connection.close()
                raise

    @classmethod
    def create(cls, path: Path, first: Row) -> None:
        """Make a ledger that holds its first row; another process may have been faster.

        Raises:
            InputError: The folder does not exist or cannot be written to.
        """
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            for statement in _SCHEMA:
                connection.execute(statement)
            _insert(connection, first)
            data = bytearray(connection.serialize())
        # Born in WAL mode: a switch later on fails at once where two processes open the new file.
        data[_VERSIONS] = b"\x02\x02"
        try:
            save_secret(path, bytes(data))
        except InputError:
            if not path.exists():
                raise

    def rows(self, start: int) -> list[Row]:
        """The rows from a number on, in order."""
        with self._translated():
            found = self._connection.execute(
                "SELECT number, body, signature FROM rows WHERE number >= ? ORDER BY number",
                (start,),
            ).fetchall()
        return [Row(*values) for values in found]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction that no other writer shares; all of it is kept, or nothing.

        Raises:
            BusyError: Another process is writing for too long.
            FedwardError: The disk is full or fails; nothing was written.
        """
        with self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled it back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def append(self, row: Row) -> None:
        """Add a row inside `writing`."""
        _insert(self._connection, row)

    def split_keys(self) -> dict[str, bytes]:
        """The split key of every population that has one."""
        with self._translated():
            return dict(self._connection.execute("SELECT population, key FROM split_keys"))

    def add_split_key(self, population: str, key: bytes) -> None:
        """Keep a population's split key, inside `writing`; it can never be changed."""
        self._connection.execute("INSERT INTO split_keys VALUES (?, ?)", (population, key))

    def check_pages(self) -> None:
        """Let SQLite examine every page.

        Raises:
            IntegrityError: Something is wrong with them.
        """
        with self._translated():
            (answer,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            raise _damaged(self.path, answer)

    def close(self) -> None:
        """Let go of the file."""
        with self._translated():
            self._connection.close()

    def _check_format(self) -> None:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise IntegrityError(f"{self.path}: not a privacy ledger", remedy="check the path")
        if version != FORMAT:
            raise InputError(
                f"{self.path}: format of the privacy ledger",
                expected=str(FORMAT),
                found=str(version),
                remedy="install the release of fedward that wrote it",
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        # SQLite's locks do not survive a fork: parent and child would corrupt the file.
        if os.getpid() != self._pid:
            raise InputError(
                f"{self.path}: opened by the parent process", remedy="open the ledger after a fork"
            )
        with translated(self.path):
            yield


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, which say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(path, error) from error


def _translate(path: Path, error: sqlite3.Error) -> FedwardError:
    # The first two words of a name such as SQLITE_IOERR_WRITE are its kind.
    name = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
    if isinstance(error, sqlite3.ProgrammingError):
        return InputError(f"{path}: the privacy ledger is closed, or open in another thread")
    if name in {"SQLITE_BUSY", "SQLITE_LOCKED"}:
        return BusyError(
            f"{path}: another process is writing to the privacy ledger",
            remedy="wait until it has finished, or stop the second node",
        )
    if name in {"SQLITE_FULL", "SQLITE_IOERR"}:
        return FedwardError(
            f"{path}: the privacy ledger cannot be read or written",
            found=str(error),
            remedy="free space or repair the disk; nothing was written and nothing was released",
        )
    if name in {"SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"}:
        return InputError(
            f"{path}: the privacy ledger cannot be opened or changed", found=str(error)
        )
    return _damaged(path, str(error))


def _damaged(path: Path, found: str) -> IntegrityError:
    return IntegrityError(
        f"{path}: the privacy ledger is damaged",
        found=found,
        remedy="put back the newest copy; the node blocks if that copy lacks rows",
    )


def _connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None)
    for pragma in ("synchronous = FULL", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _insert(connection: sqlite3.Connection, row: Row) -> None:
    connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (row.number, row.body, row.signature))


def _check_mode(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(f"{path}: no privacy ledger", found=error.strerror) from None
    if mode & 0o077:
        raise InputError(
            f"{path}: others may read or change the privacy ledger",
            expected="mode 0600",
            found=f"mode {mode & 0o777:04o}",
            remedy=f"run: chmod 600 {path}",
        )
