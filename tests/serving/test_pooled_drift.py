"""From rows that hospitals were asked to how far they are, pooled, from those of the training."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

from learning.table_histograms import drift, shapes
from learning.task import load_task
from privacy.plan import DpPlan
from protocol.config import read
from protocol.jobs import Job, Named, Publication, Site
from server.requests import TrainingRequest
from serving.config import ServingConfig
from serving.rest import make_app
from serving.server import make_plane
from serving.spool_lines import LABEL
from tests.consortium import make_consortium, make_job, make_request, records, schema
from tests.serving.ward import KEY, add, configure, put
from tests.simulations.runs import run_course

ROWS, ASKED = 300, 250
EPSILON = 20.0
LABELLED = {"name": LABEL, "classes": ["no", "yes"]}


async def ask(folder: Path, name: str, *, older: float, seed: int) -> None:
    """Ask a hospital's server, as its ward would, whose rows it keeps."""
    rows = records(ASKED, np.random.default_rng(seed))
    ages = [None if place < 5 else float(one) + older for place, one in enumerate(rows["age"])]
    columns: dict[str, list[Any]] = {"age": ages}
    columns |= {one: [*map(float, rows[one])] for one in ("pulse", "lactate")}
    inputs = [
        {"name": one, "datatype": "FP64", "shape": [ASKED], "data": values}
        for one, values in columns.items()
    ]
    add(folder / "models", "sepsis", schema(), 1)
    put(folder / "models", "sepsis", 1)
    models = [{"name": "sepsis", "keep": {"folder": "asked"}}]
    config = configure(folder, models=models, signers=[KEY.fingerprint])
    plane = make_plane(read(ServingConfig, config), folder)
    transport = httpx.ASGITransport(make_app(plane, 10**6, local=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.post("/v2/models/sepsis/infer", json={"inputs": inputs})
    assert answer.status_code == 200, name
    plane.spools.close()


def job_over(consortium: Any, dataset: str, **changes: Any) -> Job:
    request = make_request(epsilon=EPSILON, rows=ROWS)
    size = ASKED if dataset == "asked" else request.sites[0].train_size
    request = replace(
        request,
        name=f"table-{dataset}",
        dataset=dataset,
        task=Named(name="statistics", options={"bins": 8}),
        sites=tuple(Site(name=one.name, train_size=size, test_size=1) for one in request.sites),
        training=TrainingRequest(spare_attempts=1),
        publication=Publication(metrics=False, model=True),
        **changes,
    )
    return make_job(consortium, request)


def table_of(consortium: Any, job: Job) -> Any:
    """What the coordinator holds at the end: noised sums of everybody."""
    outcome = run_course(consortium, job).outcome
    assert outcome.status == "completed", outcome
    task: Any = load_task(job.task, job.schema)
    sums_P = np.frombuffer(outcome.model or b"", dtype="<f8").astype(np.float64)
    return shapes(task, sums_P, DpPlan.of(job.privacy, "train", 3).noise_std(3))


async def _everybody(folder: Path, names: tuple[str, ...]) -> None:
    for seed, name in enumerate(names):
        await ask(folder / name / "ward", name, older=25.0, seed=seed + 50)


def test_asked_rows_are_pooled_by_a_job_and_held_against_the_trainings_table(
    tmp_path: Path,
) -> None:
    consortium = make_consortium(tmp_path / "c", rows=ROWS)
    names = consortium.names
    asyncio.run(_everybody(consortium.folder, names))
    for name in names:
        path = consortium.folder / name / "hospital.yaml"
        config = yaml.safe_load(path.read_text())
        # The same patients' budget pays for it.
        config["datasets"]["asked"] = {
            "source": {"kind": "csv", "path": "ward/asked/sepsis-1"},
            "population": config["datasets"]["sepsis"]["population"],
            "test_fraction": 0.0,
        }
        path.write_text(yaml.safe_dump(config))
    asked = schema() | {"label": LABELLED}
    jobs = (job_over(consortium, "sepsis"), job_over(consortium, "asked", schema=asked))
    reference, found = (table_of(consortium, job) for job in jobs)
    told = drift(reference, found)
    assert set(told) == {"age", "pulse", "lactate"}
    age, pulse = told["age"], told["pulse"]
    assert age is not None
    assert pulse is not None
    assert age.sure
    assert age.low > 0.2
    assert not pulse.sure
    given = found[LABEL].histogram
    assert abs(given.count_B[0] - 15) < 6 * given.noise + 15, "five rows of each lacked an age"
    with consortium.open("north") as hospital:
        accounts = [hospital.ledger.account(job.digest) for job in jobs]
    assert all(one is not None and one.finished for one in accounts)
