"""Where results go, known before the work begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import fedward
from protocol.errors import InputError
from simulations.output import folder_for


def test_a_folder_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    asked, otherwise = tmp_path / "new" / "folder", tmp_path / "other"
    assert folder_for(asked, otherwise) == asked
    assert folder_for(None, otherwise) == otherwise
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "further/down"])
def test_a_file_in_the_way_is_said(tmp_path: Path, below: str) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(InputError, match="taken is no folder; choose --out"):
        folder_for(taken / below, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="nothing may be written"):
        folder_for(tmp_path / "out", tmp_path)


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("simulate demo --out", "choose --out"),
        ("simulate demo --keep", "choose another --keep"),
        ("simulate statistics --out", "choose --out"),
        ("audit audit --out", "choose --out"),
    ],
)
def test_no_command_works_for_results_that_cannot_be_written(
    tmp_path: Path,
    command: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    monkeypatch.setattr("sys.argv", ["fedward", *command.split(), str(taken)])
    with pytest.raises(SystemExit) as end:
        fedward.main()
    assert end.value.code == 2
    # The work would have said first what it does.
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"taken is no folder; {remedy}")
