"""Flower's Ray engine and the inline engine give the same model, bit for bit, under one seed.

Ray listens on every interface, so the job runs in a network namespace of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPT = """
import json, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from simulations.engine import run_job
from tests.consortium import make_consortium, make_job, make_request
from tests.simulations.runs import models

digests = {}
for engine in ("inline", "ray"):
    consortium = make_consortium(Path(sys.argv[1]) / engine, noise_seed=11)
    # On a busy machine each of Ray's workers takes half a minute for its imports alone.
    job = make_job(consortium, make_request(timeout_s=200))
    outcome = run_job(consortium, job, engine=engine)
    found = models(consortium, job)
    digests[engine] = sorted({m.card.digests.weights for m in found.values()}) + [outcome.status]
print("DIGESTS " + json.dumps(digests))
"""


def _isolated() -> list[str] | None:
    """How to run a command in a network namespace of its own, None where this is not allowed."""
    unshare, ip = shutil.which("unshare"), shutil.which("ip")
    if unshare is None or ip is None:
        return None
    prefix = [unshare, "-n", "sh", "-c", f'{ip} link set lo up && exec "$0" "$@"']
    probe = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return prefix if probe.returncode == 0 else None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ray_and_inline_agree(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'simulation' is not installed")
    prefix = _isolated()
    if prefix is None:
        pytest.skip("no network namespaces here, and Ray would listen on every interface")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*prefix, sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=root,
        env=environment,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("DIGESTS ")]
    assert lines, done.stdout[-2000:] + done.stderr[-4000:]
    digests = json.loads(lines[0].removeprefix("DIGESTS "))
    assert digests["inline"] == digests["ray"]
    assert digests["inline"][-1] == "completed"
    assert len(digests["inline"]) == 2
