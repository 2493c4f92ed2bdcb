"""Every installed task that learns, in both private modes: from a table to a model everywhere."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from learning.schema import Column, Schema
from privacy.plan import PrivacyRequest
from protocol.config import parse
from protocol.jobs import Named
from server.requests import JobRequest, TrainingRequest
from simulations.arrays import Column as Cells
from simulations.arrays import save_npz
from simulations.config import Arm, DataConfig, Simulation, SimulationConfig
from simulations.partition import Partition
from simulations.sweep import run
from tests.contracts.cases import CASES, Case

ROWS = 90
FIRST = {case.name: case for case in reversed(CASES.values())}


def cells(column: Column, rng: np.random.Generator) -> Cells:
    """Plausible values of a column."""
    if column.kind == "array":
        low, high = column.bounds
        return low + (high - low) * rng.random((ROWS, *column.shape))
    if column.kind == "number":
        low, high = column.bounds
        return [f"{low + (high - low) * part:.3f}" for part in rng.random(ROWS)]
    if column.kind == "text":
        return [" ".join(rng.choice(["no", "fever", "cough"], size=4)) for _ in range(ROWS)]
    choices = column.labels or ("0", "1")
    return [choices[code] for code in rng.integers(len(choices), size=ROWS)]


def write_table(folder: Path, case: Case) -> Path:
    """Invented rows with every column that a case's schema names, and where they stand."""
    schema, rng = parse(Schema, case.schema, "schema"), np.random.default_rng(0)
    table = {column.name: cells(column, rng) for column in (*schema.columns, *schema.targets)}
    label = schema.label
    kind = Column(name=label.name, kind="category", categories=label.classes or ("3", "7"))
    table[label.name] = cells(kind, rng)
    if schema.patient is not None:
        table[schema.patient] = [str(row) for row in range(ROWS)]
    if any(column.kind == "array" for column in schema.columns):
        save_npz(folder / "data.npz", table)
        return folder / "data.npz"
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return folder / "data.csv"


@pytest.mark.parametrize("name", sorted(FIRST))
def test_a_private_job_ends_with_a_model(name: str, tmp_path: Path) -> None:
    assert_a_private_job_ends_with_a_model(FIRST[name], tmp_path)


def assert_a_private_job_ends_with_a_model(case: Case, folder: Path) -> None:
    """Run a job of the case in both modes, over records in a folder."""
    path = write_table(folder, case)
    request = JobRequest(
        name="contract",
        dataset="contract",
        intended_use="test",
        task=Named(name=case.name, options=case.options),
        sites=(),
        schema=case.schema,
        min_sites=3,
        privacy=PrivacyRequest(mode="distributed", epsilon=3.0, delta=1e-5),
        training=TrainingRequest(rounds=2, learning_rate=0.5),
    )
    config = SimulationConfig(
        name="contract",
        job=Path("unused"),
        data=DataConfig(path=path),
        partition=Partition(kind="iid"),
        arms=(Arm(arm="distributed", epsilon=3.0), Arm(arm="local", epsilon=3.0)),
        hospitals=3,
    )
    result = run(Simulation(config, request))
    assert [row.arm for row in result.rows] == ["distributed", "local"]
    for row in result.rows:
        assert all(math.isfinite(score) and 0 <= score <= 1 for score in row.scores)
    assert len(result.model_sha256) == 64
