"""What a researcher writes to audit the privacy of training, and the canaries that come of it.

A canary is a patient whose records have one feature that nobody else has. The model keeps a row of
weights for that feature alone, so the row moves by this canary's clipped gradients and by noise,
and by nothing else: what is claimed of it can be tested with exact statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.task import Records
from privacy.noise import Entropy, SeededEntropy, SystemEntropy, poisson_sample
from privacy.plan import PrivacyRequest
from protocol.config import read
from protocol.errors import InputError
from protocol.jobs import Named, Site
from server.requests import EvaluationRequest, JobRequest, TrainingRequest
from simulations.arrays import Cells
from simulations.consortium import hospital_names

BoolVector = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]

DATASET = "canaries"
CLASSES = ("a", "b", "c")
LOUDNESS = 10.0
"""Value of a canary's own feature: the bias hardly counts beside it, and softmax is not saturated
where the guards try every feature at once."""
MOVE = 1e-8
"""How far one clip moves a weight in one round: the model stays where gradients are constant."""
LARGEST_CLIP = 5.0
FEWEST_PER_HOSPITAL = 20


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """An audit; see configs/simulations/audit.yaml for a commented example.

    Args:
        name: The audit's name; names its folder of results.
        privacy: Mode and epsilon, as in a job.
        canaries: m, how many; each is in the data with probability 1/2.
        hospitals: Virtual hospitals that the canaries are dealt out to.
        rounds: Rounds of training.
        records_per_canary: More than 1 makes each canary a patient with that many records.
        seed: Coins and noise that can be repeated, for tests; they protect nobody. Left out, the
            operating system's entropy.
    """

    name: str
    privacy: PrivacyRequest
    canaries: int = 400
    hospitals: int = 3
    rounds: int = 2
    records_per_canary: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        least = {"hospitals": 3, "rounds": 1, "records_per_canary": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if value < bound:
                raise InputError(name, expected=f">= {bound}", found=str(value))
        if self.canaries < FEWEST_PER_HOSPITAL * self.hospitals:
            raise InputError(
                "canaries",
                expected=f">= {FEWEST_PER_HOSPITAL} for each hospital, lest one has none",
                found=str(self.canaries),
            )
        self._check_privacy()

    def _check_privacy(self) -> None:
        if self.privacy.mode == "none" or self.privacy.epsilon is None:
            raise InputError(
                "privacy", expected="mode 'distributed' or 'local', and an epsilon to audit"
            )
        if self.privacy.mode == "distributed" and self.privacy.colluding_sites < 1:
            raise InputError(
                "privacy.colluding_sites", expected=">= 1, as hospitals' policies ask", found="0"
            )
        if self.privacy.clip > LARGEST_CLIP:
            raise InputError(
                "privacy.clip",
                expected=f"at most {LARGEST_CLIP:g}, which canaries reach",
                found=str(self.privacy.clip),
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The virtual hospitals."""
        return hospital_names(self.hospitals)

    @property
    def declared_size(self) -> int:
        """Declared patients of one hospital: half of its canaries, rounded, free of the coins."""
        return max(10, 10 * round(self.canaries / self.hospitals / 20))

    @cached_property
    def site_M(self) -> IntVector:  # noqa: N802 - the shape is part of the name
        """Each canary's hospital."""
        return np.arange(self.canaries, dtype=np.int64) % self.hospitals

    @cached_property
    def class_M(self) -> IntVector:  # noqa: N802
        """Each canary's class; all classes occur alike at every hospital."""
        return np.arange(self.canaries, dtype=np.int64) // self.hospitals % len(CLASSES)

    @cached_property
    def direction_MC(self) -> FloatArray:  # noqa: N802
        """Where each canary pushes its row of weights: unit vectors over the classes."""
        push_MC = np.eye(len(CLASSES))[self.class_M] - 1 / len(CLASSES)
        unit_MC: FloatArray = push_MC / np.linalg.norm(push_MC, axis=1, keepdims=True)
        return unit_MC

    @property
    def influence(self) -> float:
        """Part of a canary's clipped gradient that falls on its own row, in clips; nearly 1."""
        return LOUDNESS / float(np.hypot(LOUDNESS, 1.0))

    @property
    def schema(self) -> dict[str, Any]:
        """One loud column per canary, three classes, and the patient where there are several rows.

        Numbers rather than flags, because a flag's 1 would leave half of the clip to the bias.
        """
        document: dict[str, Any] = {
            "columns": [
                {
                    "name": name,
                    "kind": "number",
                    "low": 0,
                    "high": 1,
                    "centre": 0,
                    "spread": 1 / LOUDNESS,
                }
                for name in self._columns
            ],
            "label": {"name": "outcome", "classes": list(CLASSES)},
        }
        return {**document, "patient": "patient"} if self.records_per_canary > 1 else document

    @property
    def _columns(self) -> list[str]:
        return [f"canary-{index:05}" for index in range(self.canaries)]

    def coins(self, entropy: Entropy | None = None) -> BoolVector:
        """Which canaries are in the data: fair coins, M of them."""
        if entropy is None:
            entropy = SystemEntropy() if self.seed is None else SeededEntropy(self.seed, "coins")
        return poisson_sample(self.canaries, 0.5, entropy)

    def shares(self, inside_M: BoolVector) -> dict[str, Cells]:
        """Each hospital's table of the canaries that are in the data."""
        return {
            name: self._table(np.flatnonzero(inside_M & (self.site_M == place)))
            for place, name in enumerate(self.names)
        }

    def records(self, inside_M: BoolVector) -> dict[str, Records]:
        """Each hospital's records as its own preprocessing makes them from `shares`."""
        return {
            name: self._records(np.flatnonzero(inside_M & (self.site_M == place)))
            for place, name in enumerate(self.names)
        }

    def _records(self, members: IntVector) -> Records:
        row_N = np.repeat(members, self.records_per_canary)
        x_NF = np.zeros((len(row_N), self.canaries))
        x_NF[np.arange(len(row_N)), row_N] = LOUDNESS
        patient_N = np.repeat(np.arange(len(members)), self.records_per_canary)
        return Records(x_NF=x_NF, y_N=self.class_M[row_N], patient_N=patient_N)

    def _table(self, members: IntVector) -> Cells:
        rows = np.repeat(members, self.records_per_canary).tolist()
        table: dict[str, list[str]] = {}
        for index, column in enumerate(self._columns):
            table[column] = ["1" if row == index else "0" for row in rows]
        table["outcome"] = [CLASSES[self.class_M[row]] for row in rows]
        table["patient"] = [f"C{row:05}" for row in rows]
        return table

    def request(self) -> JobRequest:
        """The job that is audited, as a coordinator would have written it."""
        size = self.declared_size
        per_round = self.privacy.sampling_rate * size * self.hospitals
        return JobRequest(
            name=self.name,
            dataset=DATASET,
            schema=self.schema,
            task=Named(name="diagnosis", options={}),
            sites=tuple(Site(name=name, train_size=size, test_size=0) for name in self.names),
            intended_use="privacy audit; of no medical use",
            privacy=self.privacy,
            training=TrainingRequest(
                rounds=self.rounds,
                spare_attempts=0,
                learning_rate=MOVE * per_round / self.privacy.clip,
            ),
            evaluation=EvaluationRequest(enabled=False),
        )


def read_audit(path: Path) -> AuditConfig:
    """The audit of a YAML file."""
    return read(AuditConfig, path)


def summary(config: AuditConfig) -> Mapping[str, Any]:
    """What an audit's result says of its configuration, as JSON's types."""
    return {
        "mode": config.privacy.mode,
        "canaries": config.canaries,
        "hospitals": config.hospitals,
        "rounds": config.rounds,
        "records_per_canary": config.records_per_canary,
        "sampling_rate": config.privacy.sampling_rate,
        "clip": config.privacy.clip,
        "colluding_sites": config.privacy.colluding_sites,
        "seed": config.seed,
    }
