from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def survive(folder: Path, kills: int) -> int:
    """Releases made while this many writers were killed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.privacy.ledger_storm", str(folder), str(kills)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(rf"{kills} kills, (\d+) releases\n", done.stdout)
    assert found is not None, done.stdout
    return int(found[1])


def test_no_kill_loses_a_release(tmp_path: Path) -> None:
    assert survive(tmp_path, 20) > 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_kill_of_two_hundred_loses_a_release(tmp_path: Path) -> None:
    assert survive(tmp_path, 200) > 200
