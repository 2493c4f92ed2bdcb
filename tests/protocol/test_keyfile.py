"""Secret files: whole, private, and never overwritten."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from protocol.errors import InputError
from protocol.keyfile import load_secret, replace_file, save_secret


def test_a_secret_is_created_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    before = os.umask(0)
    try:
        save_secret(path, b"secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_secret(path) == b"secret"
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    save_secret(path, b"first")
    with pytest.raises(InputError, match="exists already"):
        save_secret(path, b"second")
    assert load_secret(path) == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_of_many_writers_one_wins_with_all_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    contents = [bytes([index]) * 4096 for index in range(8)]

    def attempt(data: bytes) -> bool:
        try:
            save_secret(path, data)
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, contents))
    assert won.count(True) == 1
    assert load_secret(path) == contents[won.index(True)]


def test_a_crash_while_writing_leaves_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be created; found No space left"):
        save_secret(tmp_path / "signing.key", b"secret")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be created; found No such file"):
        save_secret(tmp_path / "absent" / "signing.key", b"secret")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644, 0o777])
def test_a_secret_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "signing.key"
    save_secret(path, b"secret")
    path.chmod(mode)
    with pytest.raises(InputError, match=f"found mode {mode:04o}; run: chmod 600") as caught:
        load_secret(path)
    assert "secret" not in str(caught.value).replace(str(path), "")


def test_owner_only_modes_and_links_are_read(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    save_secret(path, b"secret")
    path.chmod(0o400)
    (tmp_path / "link").symlink_to(path)
    assert load_secret(tmp_path / "link") == b"secret"


def test_an_absent_secret_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read; found No such file"):
        load_secret(tmp_path / "signing.key")


def test_replacing_a_file_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(b"old")
    path.chmod(0o644)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_crash_while_replacing_leaves_the_old_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "trust.json"
    replace_file(path, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written; found No space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
