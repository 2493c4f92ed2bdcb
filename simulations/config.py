"""What a researcher writes: data, hospitals, the job, and the arms to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from protocol.config import read
from protocol.errors import InputError
from protocol.jobs import NAME, Mode, Named, Publication, Site
from server.requests import EncryptionRequest, JobRequest, TrainingRequest, read_request
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
        name: A built-in data set (`simulations.data.BUILT_IN`), or
        path: a CSV file with a header, or an `.npz` archive such as MedMNIST's.
        each: Of invented data, how much every hospital gets: patients, images, series, or days of
            a ward.
        seed: Of invented data, what they are drawn from: another seed is another consortium under
            the same law, on which settings can be chosen.
    """

    name: str | None = None
    path: Path | None = None
    each: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.path is None):
            raise InputError("data", expected="either 'name' or 'path'")
        for name, value, least in (("data.each", self.each, 1), ("data.seed", self.seed, 0)):
            if value is not None and value < least:
                raise InputError(name, expected=f">= {least}", found=str(value))


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """A whole consortium on one machine; see configs/simulations for commented examples.

    Args:
        name: The simulation's name.
        job: The job's YAML file, relative to this one. Task, schema, training, evaluation and
            encryption are its; hospitals, mode and epsilon come from here.
        data: What is dealt out; it must be public or synthetic.
        partition: How records are dealt out to the hospitals.
        arms: What is compared, in this order.
        hospitals: How many virtual hospitals.
        test_fraction: Share of patients held out at each hospital.
        seed: First seed: of partition, splits and, where asked for, noise.
        seeds: How many seeds.
        baseline_steps: Most steps of the two baselines' optimiser; they end sooner at an optimum,
            and networks where patients kept aside for that say so (`simulations.baselines`).
        seeded_noise: Noise that can be repeated and protects nobody; for tests.
        statistics: The YAML file of the statistics job that the job's `scaling` names. Every
            federated arm runs it first, in its own mode; baselines keep the schema's scaling.
        engine: `inline` (in this process) or `ray` (Flower's simulation engine).
        output: Folder of results; left out, `results/NAME`.
    """

    name: str
    job: Path
    data: DataConfig
    partition: Partition
    arms: tuple[Arm, ...]
    hospitals: int = 5
    test_fraction: float = 0.2
    seed: int = 0
    seeds: int = 1
    baseline_steps: int = 500
    seeded_noise: bool = False
    statistics: Path | None = None
    engine: Engine = "inline"
    output: Path | None = None

    def __post_init__(self) -> None:
        for name, least in (("hospitals", 1), ("seeds", 1), ("seed", 0), ("baseline_steps", 1)):
            value = getattr(self, name)
            if value < least:
                raise InputError(name, expected=f">= {least}", found=str(value))
        if not self.arms:
            raise InputError("arms", expected="at least one")
        if not NAME.fullmatch(self.name):
            raise InputError("name", expected="a name such as sepsis-2", found=self.name)
        if not 0 <= self.test_fraction < 1:
            raise InputError(
                "test_fraction", expected="0 <= x < 1", found=f"{self.test_fraction:g}"
            )

    @property
    def seed_list(self) -> tuple[int, ...]:
        """Every seed of the simulation."""
        return tuple(range(self.seed, self.seed + self.seeds))


@dataclass(frozen=True)
class Simulation:
    """A configuration and the job that it names.

    Args:
        config: What is compared.
        request: The job, whose sites are replaced by the virtual hospitals.
        statistics: The job whose table scales its features, None where there is none.
    """

    config: SimulationConfig
    request: JobRequest
    statistics: JobRequest | None = None

    def __post_init__(self) -> None:
        scaling, table = self.request.scaling, self.statistics
        if scaling is not None and (table is None or table.name != scaling.statistics):
            raise InputError(
                "statistics of the simulation",
                expected=f"the file of the statistics job {scaling.statistics!r}, by which the job"
                " scales its features",
                found="none" if table is None else repr(table.name),
            )
        if scaling is None and table is not None:
            raise InputError(
                "statistics of the simulation",
                expected=f"scaling: {{statistics: {table.name}}} in the job",
                found="a job that scales by no table",
            )
        private = [arm.arm for arm in self.config.arms if arm.epsilon is not None]
        if table is not None and private and table.privacy.epsilon is None:
            raise InputError(
                f"epsilon of the statistics job {table.name!r}",
                expected=f"a number, as arm {private[0]!r} runs it with noise",
                found="none",
            )

    def job_request(self, arm: Arm, sizes: Mapping[str, tuple[int, int]]) -> JobRequest:
        """What the virtual coordinator of a federated arm would have written.

        Args:
            arm: The arm.
            sizes: Declared training and held-out patients by hospital.
        """
        modes: dict[str, Mode] = {"distributed": "distributed", "local": "local"}
        request = self.request
        clear = EncryptionRequest(scheme="none", masks=False)
        return replace(
            request,
            dataset=self.config.name,
            sites=tuple(
                Site(name=name, train_size=train, test_size=test)
                for name, (train, test) in sizes.items()
            ),
            privacy=replace(
                request.privacy,
                mode=modes.get(arm.arm, "none"),
                epsilon=arm.epsilon,
                evaluation_epsilon=request.privacy.evaluation_epsilon if arm.epsilon else None,
            ),
            strategy=arm.strategy,
            training=arm.training or request.training,
            encryption=clear if arm.arm == "clear" else request.encryption,
            publication=Publication(metrics=True, model=False),
        )

    def table_request(self, arm: Arm, sizes: Mapping[str, tuple[int, int]]) -> JobRequest | None:
        """The statistics job that a federated arm runs first, in its mode; None without one.

        Args:
            arm: The arm.
            sizes: Declared training and held-out patients by hospital.
        """
        if self.statistics is None:
            return None
        epsilon = None if arm.epsilon is None else self.statistics.privacy.epsilon
        first = Simulation(self.config, self.statistics)
        return first.job_request(Arm(arm=arm.arm, epsilon=epsilon), sizes)


def read_simulation(path: Path) -> Simulation:
    """The simulation of a YAML file, and its job.

    Raises:
        InputError: A file cannot be read, or a key is wrong; names file, line and key.
    """
    config = read(SimulationConfig, path)
    request = read_request(path.parent / config.job)
    if config.statistics is None:
        return Simulation(config, request)
    return Simulation(config, request, read_request(path.parent / config.statistics))
