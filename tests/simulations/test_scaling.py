"""A simulation whose features are scaled by a table that its hospitals released first."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import fedward
from learning.artefact import load
from protocol.errors import InputError
from simulations.config import read_simulation
from simulations.wording import epsilon
from tests.consortium import records, schema

COMMON = {"dataset": "sepsis", "intended_use": "tests only", "schema": schema(), "sites": []}


def write(folder: Path, **changes: Any) -> Path:
    """A simulation of 1,500 invented patients at three hospitals, and both of its jobs."""
    columns = records(1500, np.random.default_rng(0))
    with (folder / "sepsis.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    privacy = {"mode": "distributed", "epsilon": 2.0}
    documents = {
        "table.yaml": COMMON
        | {"name": "sepsis-table", "task": {"name": "statistics", "options": {"bins": 0}}}
        | {"privacy": privacy, "training": {"spare_attempts": 0}},
        "job.yaml": COMMON
        | {"name": "sepsis-risk", "task": {"name": "diagnosis", "options": {}}}
        | {"privacy": privacy, "training": {"rounds": 2, "spare_attempts": 0}}
        | {"scaling": {"statistics": "sepsis-table"}},
        "simulation.yaml": {
            "name": "sepsis",
            "job": "job.yaml",
            "statistics": "table.yaml",
            "data": {"path": str(folder / "sepsis.csv")},
            "partition": {"kind": "iid"},
            "hospitals": 3,
            "arms": [{"arm": "clear"}, {"arm": "distributed", "epsilon": 3.0}],
        },
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document | changes.get(name.split(".")[0], {})))
    return folder / "simulation.yaml"


def test_the_table_comes_first_and_both_epsilons_are_printed(tmp_path: Path) -> None:
    path, kept = write(tmp_path), tmp_path / "kept"
    words = ["simulate", str(path), "-q", "--keep", str(kept), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(fedward.app, words, catch_exceptions=False)
    assert done.exit_code == 0
    told = " ".join(done.output.split())
    assert "distributed: ε 3 for training and 2 for the table that scales its features" in told
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    clear, private = result["rows"]
    assert (clear["epsilon_table"], clear["epsilon_both"]) == (None, None)
    assert (private["epsilon"], private["epsilon_table"]) == (3.0, 2.0)
    # Two Gaussian releases compose to less than the sum, and to more than either.
    assert 3.0 < private["epsilon_both"] < 5.0
    assert private["epsilon_both"] < private["epsilon_worst"] < private["epsilon_both_worst"]
    assert clear["epsilon_both_worst"] is None
    assert f"{epsilon(private['epsilon_both_worst'])} if all others collude" in told
    north = kept / "distributed-3-seed-0" / "north"
    table, model = (load(north / "models" / name / "1") for name in ("sepsis-table", "sepsis-risk"))
    scaled = model.card.schema
    assert scaled["scaled_by"] == table.card.digests.job
    age = scaled["columns"][0]
    assert (age["centre"], age["spread"]) == (pytest.approx(55, abs=6), pytest.approx(20, abs=8))
    assert "the table that scales" in (tmp_path / "out" / "result.html").read_text()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"simulation": {"statistics": None}}, "job 'sepsis-table', by which .* found none"),
        ({"table": {"name": "another"}}, "job 'sepsis-table', by which .* found 'another'"),
        ({"table": {"privacy": {"mode": "none"}}}, "expected a number, as arm 'distrib"),
        ({"job": {"scaling": None}}, "expected scaling: {statistics: sepsis-table} in the job"),
    ],
)
def test_a_job_and_the_table_that_it_names_belong_together(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        read_simulation(write(tmp_path, **changes))
