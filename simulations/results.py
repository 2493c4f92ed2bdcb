"""What a simulation found: one row for each arm, and enough to say how it was found."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

from learning.classification import AUROC
from learning.task import Measure
from protocol.errors import InputError
from simulations.held_out import HeldOut
from simulations.subgroup_results import SubgroupRow


@dataclass(frozen=True, kw_only=True)
class Row:
    """One arm over all seeds.

    Args:
        arm: Its name, see `simulations.config.Arm`.
        epsilon: Under the stated trust; None without a guarantee.
        epsilon_worst: Of training, if every other hospital colludes with the coordinator; None
            without.
        scores: The task's measure of every model that the arm gave, on all hospitals' held-out
            patients: one per seed, or one per seed and hospital in arm `local_only`.
        seconds_per_round: Median; None where there are no rounds.
        bytes_up_per_round: Median bytes from all hospitals to the coordinator; None likewise.
        epsilon_table: Of the statistics job by whose table features were scaled, under the stated
            trust; None without one or without a guarantee.
        epsilon_both: Of that job and training together, as the hospitals' ledgers count it; the
            largest over hospitals and seeds.
        epsilon_both_worst: The same if every other hospital colludes with the coordinator.

    >>> row = Row(arm="pooled", scores=(0.98, 1.0))
    >>> round(row.mean, 3), round(row.sd, 4)
    (0.99, 0.0141)
    """

    arm: str
    scores: tuple[float, ...]
    epsilon: float | None = None
    epsilon_worst: float | None = None
    seconds_per_round: float | None = None
    bytes_up_per_round: int | None = None
    epsilon_table: float | None = None
    epsilon_both: float | None = None
    epsilon_both_worst: float | None = None

    def __post_init__(self) -> None:
        if not self.scores:
            raise InputError(f"arm {self.arm!r} gave no model")

    @property
    def mean(self) -> float:
        """Mean over models."""
        return statistics.fmean(self.scores)

    @property
    def sd(self) -> float:
        """Sample standard deviation over models; 0 for a single one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else 0.0

    def to_json(self) -> dict[str, Any]:
        """The row as JSON's types; an infinite epsilon is null, as no guarantee is."""
        return {
            "arm": self.arm,
            "epsilon": _finite(self.epsilon),
            "epsilon_worst": _finite(self.epsilon_worst),
            "mean": self.mean,
            "sd": self.sd,
            "scores": list(self.scores),
            "seconds_per_round": self.seconds_per_round,
            "bytes_up_per_round": self.bytes_up_per_round,
            "epsilon_table": _finite(self.epsilon_table),
            "epsilon_both": _finite(self.epsilon_both),
            "epsilon_both_worst": _finite(self.epsilon_both_worst),
        }


@dataclass(frozen=True, kw_only=True)
class HospitalSummary:
    """What may be said of a virtual hospital, since its data are public.

    Args:
        name: Its name.
        train_size: Patients it trains on.
        test_size: Patients it holds out.
        positives: Share of positive labels among the records it trains on, 0 to 1.
    """

    name: str
    train_size: int
    test_size: int
    positives: float


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A model that pictures of the task are made of.

    Args:
        arm: Its arm.
        epsilon: The arm's epsilon, None without one.
        held_out: What it says of everybody who was held out.
    """

    arm: str
    epsilon: float | None
    held_out: HeldOut


@dataclass(frozen=True, kw_only=True)
class Result:
    """A whole simulation.

    Args:
        name: The simulation's name.
        rows: One for each arm, in the order of the configuration.
        delta: Delta of the private arms.
        seeds: What partitions and splits were drawn from.
        model_sha256: Digest of the last federated model's weights; empty without one.
        hospitals: The virtual hospitals at the first seed.
        notes: What a reader must know, such as that noise was seeded.
        measure: What the rows' scores are.
        subgroups: The same by value of each marked column and arm; none without a mark.
        shown: One model of each arm but `local_only`, at the first seed.
    """

    name: str
    rows: tuple[Row, ...]
    delta: float
    seeds: tuple[int, ...]
    model_sha256: str = ""
    hospitals: tuple[HospitalSummary, ...] = ()
    notes: tuple[str, ...] = ()
    measure: Measure = AUROC
    subgroups: tuple[SubgroupRow, ...] = ()
    shown: tuple[Shown, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for what, values in (("rows", self.rows), ("seeds", self.seeds)):
            if not values:
                raise InputError(f"a result without {what}")

    def to_json(self) -> dict[str, Any]:
        """The result as JSON's types; every key is always there."""
        return {
            "name": self.name,
            "measure": self.measure.name,
            "rows": [row.to_json() for row in self.rows],
            "subgroups": [row.to_json() for row in self.subgroups],
            "delta": self.delta,
            "seeds": list(self.seeds),
            "model_sha256": self.model_sha256,
            "notes": list(self.notes),
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
