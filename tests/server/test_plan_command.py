"""`fedward server plan`: what a job costs, and what a marked column adds to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fedward

JOBS = Path(__file__).parents[2] / "configs" / "jobs"


def planned(path: Path) -> dict[str, object]:
    done = CliRunner().invoke(fedward.app, ["server", "plan", str(path), "--json"])
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_a_marked_column_makes_counts_noisier_by_its_block_and_costs_no_epsilon(
    tmp_path: Path,
) -> None:
    marked = JOBS / "survival_lung.yaml"
    plain = tmp_path / "plain.yaml"
    plain.write_text(marked.read_text().replace(", subgroup: true", ""))
    dearer, cheaper = planned(marked), planned(plain)
    assert (dearer["subgroups"], cheaper["subgroups"]) == ("sex", None)
    noises = [one.pop("evaluation_noise") for one in (dearer, cheaper)]
    assert isinstance(noises[0], float)
    assert isinstance(noises[1], float)
    assert noises[0] / noises[1] == pytest.approx((5.25 / 4) ** 0.5, rel=0.002)
    assert {**dearer, "subgroups": None} == cheaper


def test_a_job_that_counts_nobody_has_no_noise_to_tell(tmp_path: Path) -> None:
    text = (JOBS / "breast_cancer.yaml").read_text()
    assert "enabled: true" in text
    path = tmp_path / "job.yaml"
    path.write_text(text.replace("enabled: true", "enabled: false"))
    assert planned(path)["evaluation_noise"] is None
    shown = CliRunner().invoke(fedward.app, ["server", "plan", str(path)])
    assert "Noise of a count of held-out patients" in shown.stdout
