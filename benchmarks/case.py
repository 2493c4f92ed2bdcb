"""One run to be measured: invented records, a consortium of virtual hospitals, and the job."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from learning.task import load_task
from privacy.plan import PrivacyRequest
from protocol.jobs import Job, Named, Site
from server.jobs import resolve
from server.requests import EncryptionRequest, EvaluationRequest, JobRequest, TrainingRequest
from simulations.consortium import Consortium, declared, found, hospital_names

FEATURES = 30


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one run looks like.

    Args:
        sites: Hospitals.
        parameters: Length of an update, as near as a network with two equal layers comes to it.
        records: Records of each hospital, all of them for training.
        rounds: Rounds.
        evaluate: Rounds between two evaluations; 0 evaluates the finished model only.
        mode: `distributed`, with masks between all pairs of hospitals, or `local`, without any.
    """

    sites: int
    parameters: int
    records: int
    rounds: int
    evaluate: int
    mode: Literal["distributed", "local"] = "distributed"

    @property
    def task(self) -> Named:
        """A dense network: w^2 + (30 + 3) w + 1 parameters in two hidden layers of w."""
        linear = FEATURES + 3
        width = round((math.sqrt(linear**2 + 4 * (self.parameters - 1)) - linear) / 2)
        return Named(name="diagnosis", options={"model": "mlp", "hidden": [max(width, 1)] * 2})

    @property
    def schema(self) -> dict[str, Any]:
        """Thirty numbers and a label."""
        columns = [
            {"name": f"c{index}", "kind": "number", "low": -1, "high": 1}
            for index in range(FEATURES)
        ]
        return {"columns": columns, "label": {"name": "ill", "classes": ["no", "yes"]}}

    def shares(self) -> dict[str, dict[str, list[str]]]:
        """Invented records of every hospital, by column."""
        rng = np.random.Generator(np.random.PCG64(0))
        names = [column["name"] for column in self.schema["columns"]]
        size = (len(names), self.records)
        return {
            site: {
                **{
                    name: [f"{value:.3f}" for value in row]
                    for name, row in zip(names, rng.uniform(-1, 1, size), strict=True)
                },
                "ill": ["yes" if value else "no" for value in rng.integers(0, 2, self.records)],
            }
            for site in hospital_names(self.sites)
        }

    def consortium(self, folder: Path) -> Consortium:
        """The virtual hospitals; a fifth of their records is held out."""
        return found(
            folder,
            self.shares(),
            dataset="bench",
            test_fraction=0.2,
            modes=(self.mode,),
            strategies=("fedsgd", "fedavg"),
            tasks=("diagnosis",),
            noise_seed=None,
            split_seed=0,
        )

    def job(self, consortium: Consortium) -> Job:
        """The job, with every number resolved."""
        sizes = declared(consortium.splits(load_task(self.task, self.schema)))
        request = JobRequest(
            name="bench",
            dataset="bench",
            schema=self.schema,
            task=self.task,
            sites=tuple(Site(name=n, train_size=a, test_size=b) for n, (a, b) in sizes.items()),
            intended_use="measurement",
            privacy=PrivacyRequest(mode=self.mode, epsilon=3.0, evaluation_epsilon=3.0),
            encryption=EncryptionRequest(masks=self.mode == "distributed"),
            training=TrainingRequest(rounds=self.rounds),
            evaluation=EvaluationRequest(every=self.evaluate),
            timeout_s=24 * 3600,
        )
        return resolve(request, consortium.origin())
