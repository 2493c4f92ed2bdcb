"""What a researcher writes: data, hospitals, the job, and the arms to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from privacy.plan import PrivacyRequest
from protocol.config import read
from protocol.errors import InputError
from protocol.jobs import Mode, Named, Site
from server.jobs import EncryptionRequest, EvaluationRequest, JobRequest, TrainingRequest
from simulations.partition import Partition

ArmName = Literal["local_only", "pooled", "clear", "distributed", "local", "encrypted"]
Engine = Literal["inline", "ray"]
FEDERATED = ("clear", "encrypted", "distributed", "local")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train, compared with the others on the same patients and splits.

    Args:
        arm: `local_only` (each hospital alone), `pooled` (all data in one place), `clear`
            (federated, neither private nor encrypted), `encrypted` (federated and encrypted,
            mode `none`), `distributed` and `local` (private and encrypted).
        epsilon: Of the private arms.
        strategy: Other than the mode's default; `flwr:NAME` in arm `clear`.
        training: Other than the simulation's training.
    """

    arm: ArmName
    epsilon: float | None = None
    strategy: Named | None = None
    training: TrainingRequest | None = None

    def __post_init__(self) -> None:
        private = self.arm in ("distributed", "local")
        if private != (self.epsilon is not None):
            raise InputError(
                f"epsilon of arm {self.arm!r}",
                expected="a number" if private else "none: this arm has no guarantee",
                found=str(self.epsilon),
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Public data that is dealt out to the virtual hospitals.

    Args:
        name: A built-in data set (`breast_cancer`), or
        path: a CSV file with a header.
    """

    name: str | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.path is None):
            raise InputError("data", expected="either 'name' or 'path'")


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """A whole consortium on one machine; see configs/simulations for commented examples.

    Args:
        name: The simulation's and its models' name.
        data: What is dealt out; it must be public or synthetic.
        hospitals: How many virtual hospitals.
        partition: How records are dealt out to them.
        task: Task and options.
        schema: Columns, see learning.schema.
        arms: What is compared, in this order.
        intended_use: One line that models carry.
        test_fraction: Share of patients held out at each hospital.
        delta: Delta of the private arms.
        colluding_sites: Hospitals that the guarantee lets collude with the coordinator.
        training: Optimisation; what is left out comes from the recipe.
        evaluation: Counting on held-out patients through the protocol itself.
        encryption: Digits of modes `local` and `none`.
        min_sites: Fewest hospitals in a sum.
        seed: First seed: of partition, splits and, where asked for, noise.
        seeds: How many seeds.
        seeded_noise: Noise that can be repeated and protects nobody; for tests.
        engine: `inline` (in this process) or `ray` (Flower's simulation engine).
        output: Folder of results; left out, `results/NAME`.
    """

    name: str
    data: DataConfig
    task: Named
    schema: Mapping[str, Any]
    arms: tuple[Arm, ...]
    partition: Partition
    intended_use: str
    hospitals: int = 5
    test_fraction: float = 0.2
    delta: float = 1e-5
    colluding_sites: int = 1
    training: TrainingRequest = field(default_factory=TrainingRequest)
    evaluation: EvaluationRequest = field(default_factory=EvaluationRequest)
    encryption: EncryptionRequest = field(default_factory=EncryptionRequest)
    min_sites: int = 3
    seed: int = 0
    seeds: int = 1
    seeded_noise: bool = False
    engine: Engine = "inline"
    output: Path | None = None

    def __post_init__(self) -> None:
        for name, least in (("hospitals", 1), ("seeds", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise InputError(name, expected=f">= {least}", found=str(value))
        if not self.arms:
            raise InputError("arms", expected="at least one")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """Every seed of the simulation."""
        return tuple(range(self.seed, self.seed + self.seeds))


def read_config(path: Path) -> SimulationConfig:
    """The simulation of a YAML file."""
    return read(SimulationConfig, path)


def job_request(
    config: SimulationConfig, arm: Arm, sizes: Mapping[str, tuple[int, int]]
) -> JobRequest:
    """What the virtual coordinator of an arm would have written.

    Args:
        config: The simulation.
        arm: A federated arm.
        sizes: Declared training and held-out patients by hospital.
    """
    modes: dict[str, Mode] = {"distributed": "distributed", "local": "local"}
    encryption = config.encryption
    if arm.arm == "clear":
        encryption = EncryptionRequest(scheme="none", masks=False)
    return JobRequest(
        sites=tuple(
            Site(name=name, train_size=train, test_size=test)
            for name, (train, test) in sizes.items()
        ),
        name=config.name,
        dataset=config.name,
        schema=config.schema,
        task=config.task,
        intended_use=config.intended_use,
        privacy=PrivacyRequest(
            mode=modes.get(arm.arm, "none"),
            epsilon=arm.epsilon,
            delta=config.delta,
            colluding_sites=config.colluding_sites,
        ),
        min_sites=config.min_sites,
        strategy=arm.strategy,
        training=arm.training or config.training,
        evaluation=config.evaluation,
        encryption=encryption,
    )
