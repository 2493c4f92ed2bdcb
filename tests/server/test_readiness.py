"""What a coordinator refuses to start with, and what it is told to do about it."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from protocol.errors import InputError
from server.config import Folder
from server.readiness import check_port, check_ready
from tests.server.premises import certify, found, write_roster

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("coordinator")
    folder = found(base)
    certify(folder, days=90)  # another authority, so the roster is signed again
    key = folder.load_key()
    write_roster(folder, key, folder.load_roster(key.fingerprint).members)
    return base


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Folder:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Folder.open(tmp_path / "server.yaml")


def test_all_is_right(folder: Folder) -> None:
    assert check_ready(folder, NOW) == ()


def test_certificates_that_end_soon_are_a_warning(folder: Folder) -> None:
    warnings = check_ready(folder, NOW + timedelta(days=70))
    assert [warning.split(": ")[0][-10:] for warning in warnings] == ["tls/ca.pem", "server.pem"]
    assert all("renew it before" in warning for warning in warnings)


@pytest.mark.parametrize("days", [-400, 91])
def test_a_certificate_out_of_its_time_may_be_the_clocks_fault(folder: Folder, days: int) -> None:
    with pytest.raises(InputError, match=r"not valid now.*machine's clock.*set the clock right"):
        check_ready(folder, NOW + timedelta(days=days))


def remove(name: str) -> Callable[[Folder], None]:
    return lambda folder: (folder.file.parent / name).unlink()


def write(name: str, text: str) -> Callable[[Folder], int]:
    return lambda folder: (folder.file.parent / name).write_text(text)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (remove("keys/signing.key"), r"signing\.key: cannot be read"),
        (remove("roster.json"), r"roster\.json: cannot be read.*enrol"),
        (remove("tls/ca.pem"), r"ca\.pem: cannot be read"),
        (remove("tls/server.key"), r"server\.key: cannot be read"),
        (write("tls/server.pem", "x"), r"server\.pem: no certificate"),
        (write("tls/server.key", "x"), r"server\.key: no private key"),
        (lambda folder: folder.certificate_key.chmod(0o640), r"others may read this key"),
        (certify, r"ca\.pem: not the authority that the roster names"),
    ],
)
def test_a_file_that_is_wrong(
    folder: Folder, break_it: Callable[[Folder], object], message: str
) -> None:
    break_it(folder)
    with pytest.raises(InputError, match=message):
        check_ready(folder, NOW)


def test_files_that_do_not_fit_each_other(folder: Folder) -> None:
    kept = {path: path.read_bytes() for path in (folder.ca, folder.certificate)}
    certify(folder)
    folder.ca.write_bytes(kept[folder.ca])
    with pytest.raises(InputError, match=r"server\.pem: not issued by ca\.pem"):
        check_ready(folder, NOW)
    folder.certificate.write_bytes(kept[folder.certificate])
    with pytest.raises(InputError, match=r"server\.key: not the key of server\.pem"):
        check_ready(folder, NOW)


def test_another_address_than_the_rosters(folder: Folder) -> None:
    text = folder.file.read_text().replace("127.0.0.1", "localhost", 1)
    folder.file.write_text(text)
    with pytest.raises(InputError, match=r"roster\.json: another address than server\.yaml"):
        check_ready(Folder.open(folder.file), NOW)


def test_a_certificate_without_the_public_name(folder: Folder) -> None:
    text = folder.file.read_text().replace("127.0.0.1", "federation.example.org", 1)
    folder.file.write_text(text)
    with pytest.raises(InputError, match=r"does not name federation\.example\.org"):
        check_ready(Folder.open(folder.file), NOW)


@pytest.mark.parametrize(("free", "full"), [(2**30, False), (2**20, True)])
def test_little_disk_is_a_warning_and_none_an_error(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, free: int, *, full: bool
) -> None:
    usage = shutil.disk_usage(folder.file.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    if full:
        with pytest.raises(InputError, match=r"the disk is full; expected 200 MiB free; found 1 M"):
            check_ready(folder, NOW)
    else:
        assert check_ready(folder, NOW) == (
            f"{folder.file.parent}: only 1024 MiB are left on the disk",
        )


def test_a_port_that_is_taken(folder: Folder) -> None:
    check_port(folder.config)
    taken = pytest.raises(InputError, match=r"bind: .* cannot be listened on.*already in use")
    with socket.create_server(folder.config.listens), taken:
        check_port(folder.config)


def test_a_port_that_becomes_free_in_time(folder: Folder) -> None:
    """As after a coordinator was killed: its SuperLink ends a moment later."""
    listener = socket.create_server(folder.config.listens)
    closing = threading.Timer(0.3, listener.close)
    closing.start()
    check_port(folder.config, wait_s=10.0)
    closing.join()
