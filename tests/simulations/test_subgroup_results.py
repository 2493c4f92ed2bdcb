"""Subgroups in simulations: exact, printed, saved, and the same as on the hospitals' cards."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from client.agreement import check_releases
from learning.artefact import load
from learning.task import load_task
from protocol.errors import RefusalError
from server.jobs import Origin, resolve
from server.requests import TrainingRequest
from simulations import run
from simulations.config import Arm, DataConfig, Simulation, SimulationConfig
from simulations.page import page
from simulations.partition import Partition
from simulations.report import save
from simulations.subgroup_results import SubgroupRow, cells, gap, table
from strategies.base import node_strategy
from tests.consortium import EPOCH, make_request, records, schema
from tests.simulations.test_report import result

ROWS = tuple(
    SubgroupRow(arm=arm, epsilon=epsilon, column="sex", level=level, scores=scores)
    for arm, epsilon, level, scores in (
        ("pooled", None, "<f>", (0.8, 0.9)),
        ("pooled", None, "m", (0.7,)),
        ("local", 1.0, "<f>", (0.6,)),
        ("local", 1.0, "m", ()),
    )
)


def marked(folder: Path) -> Simulation:
    """A simulation of 600 records whose schema marks a flag."""
    columns = records(600, np.random.default_rng(0))
    columns["icu"] = ["yes" if place % 3 else "no" for place in range(600)]
    path = folder / "marked.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    document = schema()
    document["columns"].append({"name": "icu", "kind": "flag", "subgroup": True})
    config = SimulationConfig(
        name="sepsis",
        job=Path("unused.yaml"),
        data=DataConfig(path=path),
        partition=Partition(kind="iid"),
        arms=(Arm(arm="local_only"), Arm(arm="clear")),
        hospitals=3,
        test_fraction=0.5,
    )
    training = TrainingRequest(rounds=8, learning_rate=8.0)
    return Simulation(config, replace(make_request(), schema=document, training=training))


def test_a_marked_job_tells_subgroups_exactly_and_hospitals_as_counted(tmp_path: Path) -> None:
    found = run(marked(tmp_path), keep=tmp_path / "kept")
    assert [(row.arm, row.level, len(row.scores)) for row in found.subgroups] == [
        ("local_only", "no", 3),
        ("local_only", "yes", 3),
        ("clear", "no", 1),
        ("clear", "yes", 1),
    ]
    assert [one.arm for one in found.shown] == ["clear"]
    place = tmp_path / "kept" / "clear-seed-0" / "north" / "models" / "sepsis-risk" / "1"
    metrics = load(place).card.metrics
    for row in found.subgroups[2:]:
        assert metrics[f"auroc@icu={row.level}"].value == pytest.approx(row.mean, abs=0.02)
    assert metrics["gap:auroc@icu"].high > metrics["gap:auroc@icu"].value
    files = {path.name for path in save(found, tmp_path / "out")}
    assert files == {"result.json", "result.png", "result.html", "result-task.png"}
    assert "icu = yes" in (tmp_path / "out" / "result.html").read_text()
    saved = json.loads((tmp_path / "out" / "result.json").read_text())
    assert saved["subgroups"][2]["mean"] == found.subgroups[2].mean


def test_the_job_is_charged_for_the_marks_bound_and_a_hospital_holds_it_to_that(
    tmp_path: Path,
) -> None:
    asked = marked(tmp_path).request
    plain = replace(asked, schema=schema())
    origin = Origin(coordinator="c" * 64, roster="r" * 64, now=EPOCH)
    job, cheaper = resolve(asked, origin), resolve(plain, origin)
    task = load_task(job.task, job.schema)
    strategy = node_strategy(job.strategy, job.training, task.layout().size, clear=False)
    evaluation, less = job.privacy.evaluation, cheaper.privacy.evaluation
    assert evaluation is not None
    assert less is not None
    assert evaluation.clip == task.evaluation.norm == pytest.approx(6**0.5, rel=1e-15)
    assert less.clip == pytest.approx(5**0.5, rel=1e-15)
    assert evaluation.length == less.length + 64
    assert evaluation.noise_multiplier == less.noise_multiplier
    assert job.privacy.epsilon_evaluation == cheaper.privacy.epsilon_evaluation
    check_releases(job, task, strategy)
    for changed in (replace(evaluation, clip=less.clip), replace(evaluation, length=less.length)):
        charged = replace(job, privacy=replace(job.privacy, evaluation=changed))
        with pytest.raises(RefusalError, match="evaluation"):
            check_releases(charged, task, strategy)


def test_the_table_has_means_gaps_and_too_few() -> None:
    heads, lines = cells(ROWS)
    assert heads == ["subgroup", "pooled", "local, ε = 1"]
    assert lines == [
        ["sex = <f>", "0.850", "0.600"],
        ["sex = m", "0.700", "too few"],
        ["sex: largest difference", "0.150", "too few"],
    ]
    file = io.StringIO()
    Console(width=80, file=file).print(table(ROWS, "AUROC"))
    assert "AUROC by subgroup" in file.getvalue()
    assert "largest difference" in file.getvalue()
    assert gap(ROWS[2:]) is None


def test_the_page_has_both_pictures_and_escapes_what_comes_from_a_schema() -> None:
    text = page(replace(result(), subgroups=ROWS), b"one", b"two")
    assert text.count("data:image/png;base64,") == 2
    assert "AUROC by subgroup" in text
    assert "sex = &lt;f&gt;" in text
    plain = page(result(), b"one")
    assert "by subgroup" not in plain
    assert plain.count("data:image/png;base64,") == 1
