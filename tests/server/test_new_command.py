"""`fedward new`: files that are right as they stand, and never over somebody else's."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fedward
from client.hospital import HospitalConfig
from protocol import templates
from protocol.config import read
from protocol.errors import InputError
from server.config import Folder
from server.jobs import Origin, resolve
from server.requests import read_request

RUNNER = CliRunner()


def new(*words: str) -> None:
    done = RUNNER.invoke(fedward.app, ["new", *words])
    if done.exception is not None:
        raise done.exception


def test_a_job_resolves(tmp_path: Path) -> None:
    new("job", str(tmp_path / "mine.yaml"))
    origin = Origin(coordinator="0" * 64, roster="1" * 64, now=datetime.now(UTC))
    job = resolve(read_request(tmp_path / "mine.yaml"), origin)
    assert job.privacy.unit == "patient"
    assert len(job.sites) == job.min_sites


def test_a_hospital_is_read(tmp_path: Path) -> None:
    new("hospital", str(tmp_path / "hospital.yaml"))
    assert read(HospitalConfig, tmp_path / "hospital.yaml").datasets


def test_a_server_is_read(tmp_path: Path) -> None:
    new("server", str(tmp_path / "server.yaml"))
    assert not Folder.open(tmp_path / "server.yaml").config.shielded


@pytest.mark.parametrize("kind", ["nginx", "node-service", "server-service"])
def test_what_a_machine_needs_says_which_lines_are_yours(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    new(kind)
    (path,) = tmp_path.iterdir()
    assert path.stem == ("nginx" if kind == "nginx" else f"fedward-{kind.partition('-')[0]}")
    assert "# yours: " in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["job", "hospital", "server"])
def test_the_usual_place_is_here_and_every_line_is_explained(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    new(kind)
    lines = Path(f"{kind}.yaml").read_text(encoding="utf-8").splitlines()
    assert sum("#" in line for line in lines) >= 10
    before = Path(f"{kind}.yaml").stat()
    with pytest.raises(InputError, match=rf"{kind}\.yaml: exists already"):
        new(kind)
    assert Path(f"{kind}.yaml").stat() == before


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written; found No such file"):
        new("job", str(tmp_path / "no" / "folder.yaml"))


def test_an_installation_without_examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(templates, "_HOMES", (Path("nowhere"),))
    with pytest.raises(InputError, match=r"no example 'jobs/template\.yaml'; install"):
        new("job", str(tmp_path / "job.yaml"))


def test_a_kind_that_there_is_not() -> None:
    done = RUNNER.invoke(fedward.app, ["new", "model"])
    assert done.exit_code == 2
    assert "'model' is not" in done.output
