"""A real process, killed at every write that it makes to last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mode", "fewest"), [("distributed", 12), ("none", 5)])
def test_a_kill_at_any_write_leaves_a_node_that_goes_on(
    tmp_path: Path, mode: str, fewest: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.client.killed", str(tmp_path), mode],
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.split()[-1]) >= fewest
