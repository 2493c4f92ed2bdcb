"""What a node keeps of its sessions on disk: never a key, never half a file."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.session import Record, Session
from client.store import DiskSessions, from_bytes, read_record, to_bytes
from privacy.keys import Ephemeral
from protocol.canonical import to_canonical
from protocol.errors import FedwardError, InputError, IntegrityError
from protocol.jobs import Job
from strategies.base import State
from tests.client.test_session import JOB, KEYS, ephemerals, fresh, late, member
from tests.consortium import make_job

SESSION = late(ephemerals())


def same(found: Record | None, kept: Record) -> bool:
    assert found is not None
    return to_bytes(found) == to_bytes(kept)


def path_of(folder: Path, job: Job = JOB) -> Path:
    return folder / f"{job.digest}.session"


class Killed(BaseException):
    """The process ends here; nothing that follows happens."""


def test_a_new_process_finds_what_the_last_one_saved(tmp_path: Path) -> None:
    DiskSessions(tmp_path).save(SESSION)
    again = DiskSessions(tmp_path)
    assert again.load(JOB.digest) is None
    assert same(again.recall(JOB.digest), SESSION.record)
    assert [job.digest for job in again.jobs()] == [JOB.digest]


def test_a_session_goes_on_with_new_keys_and_outside_any_epoch() -> None:
    ephemeral = Ephemeral.generate()
    statement = member("north", ephemeral).to_bytes()
    resumed = SESSION.record.resume(ephemeral, statement, attempt=4)
    assert same(resumed.record, SESSION.record)
    assert (resumed.ephemeral, resumed.member) == (ephemeral, statement)
    assert (resumed.cohort, resumed.keys, resumed.reply, resumed.request) == (None, None, None, "")
    assert SESSION.record.resume(ephemeral, statement, attempt=30).attempt == 30


def test_no_key_reaches_the_disk(tmp_path: Path) -> None:
    sessions = DiskSessions(tmp_path)
    sessions.save(SESSION)
    sessions.save(replace(SESSION, attempt=10))
    parts = [KEYS.bfv, KEYS.data]
    ephemeral = SESSION.ephemeral
    parts += [ephemeral._exchange.private_bytes_raw(), ephemeral._kem.private_bytes_raw()]
    if ephemeral._mlkem is not None:
        parts.append(ephemeral._mlkem.private_bytes_raw())
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert SESSION.state.weights.tobytes() in written
    for secret in parts:
        for spelt in (secret, secret.hex().encode(), base64.b64encode(secret), _url(secret)):
            assert spelt not in written
    for public in (SESSION.member, to_canonical(SESSION.cohort)):
        assert public not in written


def _url(secret: bytes) -> bytes:
    return to_canonical(secret).strip(b'"')


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "sessions"
    folder.mkdir(parents=True, mode=0o755)
    DiskSessions(folder).save(SESSION)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert path_of(folder).stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="no folder for sessions"):
        DiskSessions(tmp_path / "file" / "sessions")


def test_what_is_not_on_disk_changes_no_file(tmp_path: Path) -> None:
    sessions = DiskSessions(tmp_path)
    sessions.save(SESSION)
    before = path_of(tmp_path).stat().st_ino
    sessions.save(replace(SESSION, request="0" * 64, reply=None, keys=None, cohort=None, made=9))
    assert path_of(tmp_path).stat().st_ino == before
    sessions.save(replace(SESSION, counted=9))
    assert path_of(tmp_path).stat().st_ino != before


@pytest.mark.parametrize("at", ["fsync", "replace"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_kill_at_any_step_of_a_save_leaves_the_old_session_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, count: int
) -> None:
    sessions = DiskSessions(tmp_path)
    old, new = SESSION, replace(SESSION, attempt=10, state=replace(SESSION.state, step=8))
    sessions.save(old)
    left = [count]

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return real(*args)

        return step

    with monkeypatch.context() as patched:
        # A killed process cleans nothing up.
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        if at == "fsync":
            patched.setattr(os, "fsync", dying(os.fsync))
        else:
            patched.setattr(Path, "replace", dying(Path.replace))
        try:
            sessions.save(new)
        except Killed:
            pass
        else:
            assert left[0] > 0
    again = DiskSessions(tmp_path)
    found = again.recall(JOB.digest)
    assert found is not None
    assert to_bytes(found) in (to_bytes(old.record), to_bytes(new.record))
    assert [file.name for file in tmp_path.iterdir()] == [path_of(tmp_path).name]


def test_a_full_disk_is_said_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = DiskSessions(tmp_path)
    sessions.save(SESSION)
    later = replace(SESSION, attempt=10)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(FedwardError, match=r"No space left.*free space.*stays charged"):
            sessions.save(later)
    # This process remembers what it used up; another finds the session before.
    assert sessions.load(JOB.digest) == later
    assert same(DiskSessions(tmp_path).recall(JOB.digest), SESSION.record)
    sessions.save(later)
    assert same(DiskSessions(tmp_path).recall(JOB.digest), later.record)


def test_a_dropped_job_leaves_nothing(tmp_path: Path) -> None:
    sessions = DiskSessions(tmp_path)
    sessions.save(SESSION)
    (tmp_path / f".{path_of(tmp_path).name}.0123").touch()
    path_of(tmp_path).with_suffix(".damaged").touch()
    sessions.drop(JOB.digest)
    assert list(tmp_path.iterdir()) == []
    assert DiskSessions(tmp_path).recall(JOB.digest) is None


def test_a_file_that_cannot_be_removed_is_said(tmp_path: Path) -> None:
    sessions = DiskSessions(tmp_path)
    path_of(tmp_path).mkdir()
    with pytest.raises(FedwardError, match="remove the file by hand"):
        sessions.drop(JOB.digest)
    with pytest.raises(FedwardError, match="cannot be read"):
        sessions.recall(JOB.digest)


def test_a_damaged_file_is_set_aside_and_the_job_unknown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    DiskSessions(tmp_path).save(SESSION)
    other = make_job()
    DiskSessions(tmp_path).save(fresh(other))
    data = bytearray(path_of(tmp_path).read_bytes())
    data[-1] ^= 1
    path_of(tmp_path).write_bytes(data)
    sessions = DiskSessions(tmp_path)
    assert [job.digest for job in sessions.jobs()] == [other.digest]
    assert sessions.recall(JOB.digest) is None
    assert "damaged" in caplog.text
    assert path_of(tmp_path).with_suffix(".damaged").read_bytes() == data
    sessions.save(SESSION)
    assert same(DiskSessions(tmp_path).recall(JOB.digest), SESSION.record)


def test_the_file_of_another_job_is_refused(tmp_path: Path) -> None:
    other = make_job()
    path_of(tmp_path).write_bytes(to_bytes(fresh(other).record))
    with pytest.raises(IntegrityError, match="another job"):
        read_record(path_of(tmp_path))


def test_another_releases_fields_are_refused_without_quoting_them() -> None:
    data = to_bytes(SESSION.record)
    start = len(b"fedward-session/1\n") + 40
    content = data[start:].replace(b'"counted"', b'"kounted"')
    forged = data[: start - 40] + hashlib.sha256(content).digest() + data[start - 8 : start]
    with pytest.raises(IntegrityError, match="another release") as error:
        from_bytes(forged + content)
    assert "kounted" not in str(error.value)


@settings(max_examples=60)
@given(cut=st.integers(0, 10_000), flip=st.integers(0, 7), short=st.booleans())
def test_every_torn_or_changed_file_is_noticed(cut: int, flip: int, *, short: bool) -> None:
    data = bytearray(to_bytes(SESSION.record))
    place = cut % len(data)
    if short:
        del data[place:]
    else:
        data[place] ^= 1 << flip
    with pytest.raises(IntegrityError):
        from_bytes(bytes(data))


def test_a_large_state_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    values = np.random.Generator(np.random.PCG64(1)).normal(size=200_000)
    session: Session = replace(fresh(), state=State(values, (values * 1e-300, -values), 3))
    DiskSessions(tmp_path).save(session)
    found = DiskSessions(tmp_path).recall(JOB.digest)
    assert found is not None
    assert found.state.to_bytes() == session.state.to_bytes()
