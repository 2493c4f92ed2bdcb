from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from privacy.ledger import Ledger
from privacy.ledger_store import Row, Store
from protocol.errors import BusyError, FedwardError, InputError, IntegrityError
from tests.privacy.ledgers import BIG, CAPS, KEY, NOW, charge, job, tamper

# Workers of a parallel test run have threads, which Python 3.12 mentions at a fork.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

# A second program that holds the write lock until its standard input closes.
HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with one reservation."""
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path, KEY) as ledger:
        ledger.reserve([charge(1, 3)], CAPS, NOW)
    return path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def run_in_child(path: Path, work: str, *, bytes_limit: int | None = None) -> str:
    """What a forked child's work on an open ledger raised, as a text."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = "nothing"
        try:
            if bytes_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_limit, bytes_limit))
            getattr(sys.modules[__name__], work)(path)
        except BaseException as error:  # noqa: BLE001 - the parent looks at it
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()


def fill(path: Path) -> None:
    with Ledger.open(path, KEY) as ledger:
        for number in range(2, 500):
            ledger.reserve([charge(number)], BIG, NOW)


def test_the_file_and_its_companions_are_for_the_owner_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        with Ledger.open(path, KEY) as ledger:
            ledger.reserve([charge(2)], CAPS, NOW)
            companions = sorted(path.parent.iterdir())
            assert [file.name for file in companions] == [
                "ledger.sqlite",
                "ledger.sqlite-shm",
                "ledger.sqlite-wal",
            ]
            assert {mode(file) for file in companions} == {0o600}
    finally:
        os.umask(old)


@pytest.mark.parametrize("wide", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_open_is_refused(path: Path, wide: int) -> None:
    path.chmod(wide)
    with pytest.raises(InputError, match=f"expected mode 0600; found mode {wide:04o}; run: chmod"):
        Ledger.open(path, KEY)


def test_a_missing_ledger_is_begun_with_a_key_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no privacy ledger"):
        Ledger.open(tmp_path / "none.sqlite", None)
    with pytest.raises(InputError, match="cannot be created"):
        Ledger.open(tmp_path / "no" / "folder.sqlite", KEY)
    assert not list(tmp_path.iterdir())


def test_a_ledger_is_never_created_over_another(path: Path) -> None:
    before = path.read_bytes()
    Store.create(path, Row(1, b"another", b""))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough for a header " * 30])
def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.touch(0o600)
    path.write_bytes(content)
    for key in (KEY, None):
        with pytest.raises(IntegrityError, match=r"damaged|not a privacy ledger"):
            Ledger.open(path, key)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.touch(0o600)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY)")
    before = path.read_bytes()
    with pytest.raises(IntegrityError, match="not a privacy ledger"):
        Ledger.open(path, KEY)
    assert path.read_bytes() == before


def test_a_newer_format_is_refused_with_what_to_do(path: Path) -> None:
    tamper(path, "PRAGMA user_version = 2")
    with pytest.raises(InputError, match="expected 1; found 2; install the release"):
        Ledger.open(path, KEY)


def test_a_truncated_file_is_damaged(path: Path) -> None:
    with Ledger.open(path, KEY) as ledger:
        for number in range(2, 40):
            ledger.reserve([charge(number)], CAPS, NOW)
    path.write_bytes(path.read_bytes()[:8192])
    with pytest.raises(IntegrityError, match=r"damaged.*put back the newest copy"):
        Ledger.open(path, KEY)


def test_a_page_that_sqlite_finds_wrong_fails_verification(path: Path) -> None:
    tamper(
        path,
        "CREATE INDEX extra ON rows (body)",
        "PRAGMA writable_schema = ON",
        "DELETE FROM sqlite_master WHERE name = 'extra'",
    )
    with (
        Ledger.open(path, None) as ledger,
        pytest.raises(IntegrityError, match=r"(?s)damaged; found .*Page .* never used"),
    ):
        ledger.verify()


def test_a_second_process_that_writes_makes_the_ledger_busy(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with Ledger.open(path, KEY, busy_timeout_s=0.05) as ledger:
            with pytest.raises(BusyError, match=r"another process is writing.*wait until"):
                ledger.reserve([charge(2)], CAPS, NOW)
            assert ledger.report().rows == 2
            holder.communicate()
            ledger.reserve([charge(2)], CAPS, NOW)


def test_two_ledgers_in_turn_see_each_others_rows(path: Path) -> None:
    with Ledger.open(path, KEY) as first, Ledger.open(path, KEY) as second:
        for number in range(2, 8):
            (first, second)[number % 2].reserve([charge(number)], CAPS, NOW)
        assert first.head == second.head
        assert first.verify().rows == 8


def test_a_write_that_the_disk_refuses_is_said_and_leaves_the_ledger_whole(path: Path) -> None:
    answer = run_in_child(path, "fill", bytes_limit=40_000)
    assert answer.startswith("FedwardError: ")
    assert "cannot be read or written" in answer
    assert "free space or repair the disk; nothing was written" in answer
    with Ledger.open(path, KEY) as ledger:
        rows = ledger.verify().rows
        assert 2 < rows < 500
        ledger.reserve([charge(900)], CAPS, NOW)


def test_a_full_disk_is_said_and_nothing_is_written(path: Path) -> None:
    with closing(Store(path, writable=True, busy_timeout_s=0.0)) as store:
        store._connection.execute("PRAGMA max_page_count = 8")
        full_disk = pytest.raises(FedwardError, match="database or disk is full; free space")
        with full_disk as full, store.writing():
            store.append(Row(3, bytes(100_000), b""))
        assert type(full.value) is FedwardError
        assert len(store.rows(1)) == 2


@pytest.mark.parametrize("table", ["rows", "split_keys"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET rowid = rowid + 1"])
def test_rows_are_only_ever_added(path: Path, table: str, change: str) -> None:
    with Ledger.open(path, KEY) as ledger:
        ledger.split_key("cardiology")
    refused = pytest.raises(sqlite3.IntegrityError, match="append-only")
    with closing(sqlite3.connect(path)) as connection, refused:
        connection.execute(change.format(table))


def test_a_row_number_is_taken_once(path: Path) -> None:
    with closing(Store(path, writable=True, busy_timeout_s=0.0)) as store:
        with pytest.raises(IntegrityError, match="damaged"), store.writing():
            store.append(Row(2, b"again", b""))
        assert [row.number for row in store.rows(1)] == [1, 2]


def test_a_store_for_reading_writes_nothing(path: Path) -> None:
    refused = pytest.raises(InputError, match="cannot be opened or changed")
    with closing(Store(path, writable=False, busy_timeout_s=0.0)) as store:
        with refused, store.writing():
            store.append(Row(3, b"", b""))
        assert len(store.rows(1)) == 2


def test_a_ledger_does_not_cross_a_fork(path: Path) -> None:
    global inherited
    with Ledger.open(path, KEY) as inherited:
        answer = run_in_child(path, "use_inherited")
        assert answer.startswith("InputError")
        assert "opened by the parent process" in answer
        inherited.void(job(1))


inherited: Ledger


def use_inherited(_: Path) -> None:
    inherited.reserve([charge(2)], CAPS, NOW)


def test_another_process_id_is_enough_to_be_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(path, KEY) as ledger, monkeypatch.context() as changed:
        changed.setattr("privacy.ledger_store.os.getpid", lambda: -1)
        with pytest.raises(InputError, match="open the ledger after a fork"):
            ledger.report()
        changed.undo()
        assert ledger.report().rows == 2


def test_a_ledger_does_not_cross_threads_or_its_end(path: Path) -> None:
    caught: list[BaseException] = []

    def use() -> None:
        try:
            ledger.reserve([charge(2)], CAPS, NOW)
        except InputError as error:
            caught.append(error)

    with Ledger.open(path, KEY) as ledger:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    use()
    assert ["closed, or open in another thread" in str(error) for error in caught] == [True, True]
