"""`fedward simulate` of statistics: what was released beside what is true, and its pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

import fedward
from protocol.errors import InputError
from simulations.config import read_simulation
from simulations.tables import Comparison, compare
from simulations.tables_report import save, table

SCHEMA: dict[str, Any] = {
    "label": {"name": "died", "classes": ["no", "yes"]},
    "targets": [{"name": "days", "kind": "number", "unit": "days", "low": 0, "high": 100}],
    "columns": [
        {"name": "age", "kind": "number", "unit": "years", "low": 0, "high": 100},
        {"name": "sex", "kind": "category", "categories": ["female", "male"]},
    ],
}


def write(folder: Path, *arms: dict[str, Any], **changes: Any) -> Path:
    """A simulation of 240 invented patients at three hospitals."""
    rng = np.random.default_rng(0)
    rows = zip(
        np.round(np.clip(rng.normal(60, 12, 240), 0, 100), 1),
        rng.choice(["female", "male", ""], 240),
        rng.choice(["no", "yes"], 240),
        np.round(np.minimum(rng.exponential(50, 240), 100), 1),
        strict=True,
    )
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("age", "sex", "died", "days"), *rows])
    job = {
        "name": "table-one",
        "dataset": "invented",
        "intended_use": "tests",
        "task": {
            "name": "statistics",
            "options": {"bins": 8, "fewer_than": 3, "curves": {"time": "days", "intervals": 4}},
        },
        "sites": [],
        "privacy": {"mode": "distributed", "epsilon": 1.0, "delta": 1e-5},
        "training": {"spare_attempts": 0},
        "schema": SCHEMA,
        **changes,
    }
    simulation = {
        "name": "invented",
        "job": "job.yaml",
        "data": {"path": str(folder / "data.csv")},
        "hospitals": 3,
        "partition": {"kind": "iid"},
        "test_fraction": 0.0,
        "arms": list(arms),
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    path = folder / "simulation.yaml"
    path.write_text(yaml.safe_dump(simulation), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    private = {"arm": "distributed", "epsilon": 8.0}
    return write(tmp_path_factory.mktemp("simulation"), {"arm": "clear"}, private)


@pytest.fixture(scope="module")
def compared(path: Path) -> Comparison:
    return compare(read_simulation(path))


def run(*words: str) -> Result:
    return CliRunner().invoke(fedward.app, ["simulate", *words], env={"COLUMNS": "80"})


def test_in_the_clear_the_truth_is_told_and_with_noise_something_near_it(
    compared: Comparison,
) -> None:
    clear, private = compared.told
    assert compared.hospitals == 3
    assert compared.truth.patients is not None
    assert compared.truth.patients.value == 240
    assert (clear.covered, clear.epsilon_worst, clear.table.noise) == (1.0, None, 0.0)
    assert private.epsilon_worst is not None
    assert private.epsilon_worst > 8
    # Of some forty intervals; far fewer hold if the noise is another than the table says.
    assert private.covered > 0.6
    assert private.table.noise > 1
    found, true = private.table.numbers["age"].mean, compared.truth.numbers["age"].mean
    assert found is not None
    assert true is not None
    assert 0 < abs(found.value - true.value) < 5 * (found.high - found.low)


def test_it_is_printed_saved_and_drawn(compared: Comparison, tmp_path: Path) -> None:
    files = save(compared, tmp_path / "out")
    assert [file.name for file in files] == [
        "result.json",
        "result-1-clear.png",
        "result-2-distributed.png",
    ]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files[1:])
    document = json.loads(files[0].read_text(encoding="utf-8"))
    assert document == json.loads(json.dumps(compared.to_json()))
    assert [arm["arm"] for arm in document["arms"]] == ["clear", "distributed"]
    assert table(compared).row_count == 16
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="results cannot be written"):
        save(compared, tmp_path / "file")


def test_the_command_runs_tables_where_the_job_counts(path: Path, tmp_path: Path) -> None:
    once = path.with_name("once.yaml")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document |= {"arms": document["arms"][:1], "seeded_noise": True}
    once.write_text(yaml.safe_dump(document), encoding="utf-8")
    keep = ["--keep", str(tmp_path / "kept")]
    done = run(str(once), "--out", str(tmp_path / "shown"), *keep)
    assert done.exit_code == 0, done.exception
    assert "true in interval" in done.stdout
    assert "noise was seeded" in done.stdout
    assert (tmp_path / "kept" / "0-clear" / "north" / "models" / "table-one" / "1").is_dir()


def test_only_federated_arms_count(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="arm 'pooled' of a statistics job; expected one of clear"):
        compare(read_simulation(write(tmp_path, {"arm": "pooled"})))


def test_another_task_has_no_table(tmp_path: Path) -> None:
    other = write(tmp_path, {"arm": "clear"}, task={"name": "survival", "options": {}})
    with pytest.raises(InputError, match="expected 'statistics'; found 'survival'"):
        compare(read_simulation(other))
