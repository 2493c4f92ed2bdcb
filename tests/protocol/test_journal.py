"""The journal: signed, chained, and honest about every crash."""

import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from protocol import journal as module
from protocol.canonical import from_canonical, to_canonical
from protocol.errors import BusyError, InputError, IntegrityError
from protocol.journal import FIRST, Entry, Journal, verify_journal
from protocol.signing import SigningKey

KEY = SigningKey.from_seed(bytes(range(32)))
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def open_journal(path: Path, key: SigningKey = KEY) -> Journal:
    return Journal.open(path, key, clock=lambda: NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of four entries."""
    path = tmp_path / "journal.jsonl"
    with open_journal(path) as journal:
        for number in range(4):
            journal.append("released", {"attempt": number, "digest": b"\n\x00"})
    return path


def documents(path: Path) -> list[dict[str, Any]]:
    return [from_canonical(line)["document"] for line in path.read_bytes().splitlines()]


def test_every_line_is_a_chained_signed_document(path: Path) -> None:
    lines = path.read_bytes().splitlines()
    previous = FIRST
    for number, (line, document) in enumerate(zip(lines, documents(path), strict=True)):
        assert document == {
            "sequence": number + 1,
            "previous": previous,
            "time": "2026-11-21T12:00:00.000+00:00",
            "kind": "released",
            "fields": {"attempt": number, "digest": b"\n\x00"},
        }
        assert line == KEY.sign_attached("journal", to_canonical(document))
        previous = hashlib.sha256(line).hexdigest()
    assert verify_journal(path, KEY.public) == 4
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_appending_goes_on_after_opening_again(path: Path) -> None:
    with open_journal(path) as journal:
        head = journal.head
        entry = journal.append("stopped", {})
        assert entry == Entry(sequence=5, previous=head, time=entry.time, kind="stopped", fields={})
        assert journal.head == hashlib.sha256(path.read_bytes().splitlines()[-1]).hexdigest()
    assert verify_journal(path, KEY.public) == 5


def test_an_entry_is_on_the_disk_when_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def record(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)

    with open_journal(tmp_path / "j") as journal:
        monkeypatch.setattr(os, "fsync", record)
        journal.append("released", {})
        assert synced == [(tmp_path / "j").stat().st_size]


def test_an_empty_journal_has_no_entries(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j") as journal:
        assert journal.head == FIRST
    assert verify_journal(tmp_path / "j", KEY.public) == 0


def test_the_default_clock_is_the_present_in_utc(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    with Journal.open(tmp_path / "j", KEY) as journal:
        time = datetime.fromisoformat(journal.append("x", {}).time)
    assert abs((time - before).total_seconds()) < 60


def drop(lines: list[bytes]) -> list[bytes]:
    return lines[:1] + lines[2:]


def swap(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], lines[3]]


def repeat(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[1], *lines[2:]]


def edit(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"attempt":1', b'"attempt":9'), *lines[2:]]


def blank(lines: list[bytes]) -> list[bytes]:
    return [lines[0], b"\n", *lines[1:]]


def forge(lines: list[bytes]) -> list[bytes]:
    document = from_canonical(lines[1].rstrip())["document"]
    forged = SigningKey.generate().sign_attached("journal", to_canonical(document))
    return [lines[0], forged + b"\n", *lines[2:]]


def fork(lines: list[bytes]) -> list[bytes]:
    """Another history by the same key: the third line no longer follows."""
    document = {**from_canonical(lines[1].rstrip())["document"], "kind": "other"}
    return [lines[0], KEY.sign_attached("journal", to_canonical(document)) + b"\n", *lines[2:]]


def renumber(lines: list[bytes]) -> list[bytes]:
    document = {**from_canonical(lines[3].rstrip())["document"], "sequence": 9}
    return [*lines[:3], KEY.sign_attached("journal", to_canonical(document)) + b"\n"]


def misuse(lines: list[bytes]) -> list[bytes]:
    """Other documents that the same key signed."""
    return [lines[0], KEY.sign_attached("job", b"{}") + b"\n", *lines[1:]]


def nonsense(lines: list[bytes]) -> list[bytes]:
    return [lines[0], KEY.sign_attached("journal", b"{}") + b"\n", *lines[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r":2: does not follow the line before; expected entry 2 .*; found entry 3"),
        (swap, r":2: does not follow"),
        (repeat, r":3: does not follow the line before; expected entry 3 .*; found entry 2"),
        (edit, r":2: signature of a 'journal' does not hold"),
        (blank, r":2: not a signed 'journal'"),
        (forge, r":2: 'journal' signed by another key"),
        (
            fork,
            r":3: does not follow the line before; expected entry 3 after \w+; found entry 3 after",
        ),
        (renumber, r":4: does not follow the line before; expected entry 4 .*; found entry 9"),
        (misuse, r":2: signature of a 'journal' does not hold"),
        (nonsense, r":2: a signed line that is no entry; entry: missing 'sequence'"),
    ],
)
def test_any_change_is_found_and_its_line_named(
    path: Path, change: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(IntegrityError, match=r"journal\.jsonl" + message):
        verify_journal(path, KEY.public)


def test_no_single_byte_can_change(path: Path) -> None:
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        line = data.count(b"\n", 0, place) + 1
        with pytest.raises(IntegrityError, match=f":{line}: "):
            verify_journal(path, KEY.public)


def test_another_key_verifies_nothing(path: Path) -> None:
    with pytest.raises(IntegrityError, match=":1: 'journal' signed by another key"):
        verify_journal(path, SigningKey.generate().public)
    with pytest.raises(InputError, match="cannot be read"):
        verify_journal(path.with_name("absent"), KEY.public)


def test_a_crash_at_any_byte_of_the_last_line_is_recorded(path: Path) -> None:
    data = path.read_bytes()
    last = data.rfind(b"\n", 0, -1) + 1
    for cut in range(last, len(data)):
        path.write_bytes(data[:cut])
        torn = data[last:cut]
        if torn:
            with pytest.raises(IntegrityError, match=":4: torn line; open the journal once"):
                verify_journal(path, KEY.public)
        with open_journal(path) as journal:
            journal.append("released", {})
        assert verify_journal(path, KEY.public) == (5 if torn else 4)
        if torn:
            found = documents(path)[3]
            assert found["kind"] == "recovered"
            assert found["fields"] == {
                "bytes": len(torn),
                "sha256": hashlib.sha256(torn).hexdigest(),
            }


@pytest.mark.parametrize("torn", [b"{", b"\0" * 5000, b"x" * 100_000])
def test_a_torn_first_line_and_long_ones_are_recovered(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(torn)
    open_journal(path).close()
    assert [document["fields"]["bytes"] for document in documents(path)] == [len(torn)]
    assert verify_journal(path, KEY.public) == 1


def test_a_crash_while_recovering_is_recovered_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the entry is written and before the rest is cut, the torn bytes still show."""
    torn = b"x" * 5000
    path.write_bytes(path.read_bytes() + torn)
    real = os.fsync

    def crash(descriptor: int) -> None:
        real(descriptor)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(IntegrityError, match="could not be written"):
            open_journal(path)
    open_journal(path).close()
    assert [document["kind"] for document in documents(path)[4:]] == ["recovered", "recovered"]
    assert verify_journal(path, KEY.public) == 6


def test_a_whole_last_line_that_does_not_hold_is_no_crash(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-2] + b"\n")
    with pytest.raises(IntegrityError, match=r"journal\.jsonl: not a signed 'journal'"):
        open_journal(path)
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="signed by another key"):
        open_journal(path, SigningKey.generate())
    open_journal(path).close()


def test_a_tail_without_any_line_is_no_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 1000)
    path.write_bytes(path.read_bytes() + b"x" * 3000)
    with pytest.raises(IntegrityError, match="longer than a journal's lines are"):
        open_journal(path)


def test_long_entries_are_refused_and_nothing_is_written(path: Path) -> None:
    before = path.read_bytes()
    with open_journal(path) as journal:
        with pytest.raises(InputError, match="at most 1048576 bytes"):
            journal.append("released", {"text": "x" * module.MAX_LINE})
        with pytest.raises(InputError, match="no canonical spelling"):
            journal.append("released", {"key": object()})
        assert path.read_bytes() == before
        journal.append("released", {"text": "x" * (module.MAX_LINE - 1000)})
        journal.append("released", {})
    open_journal(path).close()
    assert verify_journal(path, KEY.public) == 6


def test_a_disk_that_refuses_ends_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with open_journal(path) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(IntegrityError, match=r"found .*No space left"):
                journal.append("released", {})
        with pytest.raises(IntegrityError, match="could not be written"):
            journal.append("released", {})
    with open_journal(path) as journal:
        journal.append("released", {})
    assert verify_journal(path, KEY.public) == 6


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: memoryview) -> int:
            self.data += bytes(data[:3])
            return min(3, len(data))

    slow: Any = Slow()
    module._write_all(slow, b"0123456789")
    assert slow.data == b"0123456789"


def test_one_process_writes(path: Path) -> None:
    with open_journal(path):
        with pytest.raises(BusyError, match="another process has the journal open"):
            open_journal(path)
        assert verify_journal(path, KEY.public) == 4
    open_journal(path).close()


def test_a_journal_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened; found No such file"):
        open_journal(tmp_path / "absent" / "j")


def test_threads_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with open_journal(path) as journal, ThreadPoolExecutor(4) as pool:
        entries = list(pool.map(lambda n: journal.append("x", {"n": n}), range(40)))
    assert sorted(entry.sequence for entry in entries) == list(range(1, 41))
    assert verify_journal(path, KEY.public) == 40


WRITER = """
import sys
from pathlib import Path
from protocol.journal import Journal
from protocol.signing import SigningKey
journal = Journal.open(Path(sys.argv[1]), SigningKey.from_seed(bytes(range(32))))
while True:
    print(journal.append("released", {"text": "x" * 2000}).sequence, flush=True)
"""


def test_a_killed_writer_loses_no_entry_it_reported(tmp_path: Path) -> None:
    path, reported = tmp_path / "j", 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            cwd=Path(module.__file__).parents[1],
        ) as writer:
            assert writer.stdout is not None
            for _ in range(15):
                reported = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
        open_journal(path).close()
        assert verify_journal(path, KEY.public) >= reported
    assert reported >= 45


def test_processes_that_wait_write_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with (
        Journal.open(path, KEY, wait_s=5.0) as first,
        Journal.open(path, KEY, wait_s=5.0) as second,
    ):
        for number in range(6):
            (first, second)[number % 2].append("x", {"n": number})
        assert second.head != first.head  # what the other wrote last was not asked for yet
        first.append("x", {})
    assert verify_journal(path, KEY.public) == 7


def test_one_that_waits_recovers_what_another_left_torn(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path, KEY, wait_s=5.0) as journal:
        journal.append("x", {})
        with path.open("ab") as file:
            file.write(b"half a li")
        journal.append("y", {})
    assert verify_journal(path, KEY.public) == 3


def test_whoever_waits_too_long_hears_so_and_can_go_on(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path, KEY, wait_s=0.05) as waiting:
        with path.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(BusyError, match="another process"):
                waiting.append("x", {})
        assert waiting.append("y", {}).sequence == 1
    with pytest.raises(IntegrityError, match="closed"):
        waiting.append("z", {})


def test_a_journal_kept_for_itself_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with open_journal(path) as journal:
        journal.append("x", {})
        with pytest.raises(BusyError, match="another process"):
            Journal.open(path, KEY, wait_s=0.05)
