"""What a person writes in a job's YAML; `server.jobs` turns it into exact numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from privacy.plan import PrivacyRequest
from protocol.config import read
from protocol.errors import InputError
from protocol.jobs import NAME, Named, Publication, Site

MIN_ENCRYPTED_SITES = 3


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """Optimisation as a person writes it; what is left out comes from the recipe.

    Args:
        rounds: Rounds; left out, the task's recipe.
        spare_attempts: Attempts that may fail; they cost noise, 9.5 % for 2 beside 10 rounds.
        local_steps: Gradient steps between two releases; 1 in mode `distributed`.
        learning_rate: Step length; left out, the recipe's path length over all steps, and
            `CLEAR_RATE` in mode `none`, where no clipping bounds a step.
        l2: Weight decay.
        proximal: FedProx' mu.
        seed: Public seed of the initial weights.
    """

    rounds: int | None = None
    spare_attempts: int = 2
    local_steps: int = 1
    learning_rate: float | None = None
    l2: float = 0.0
    proximal: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        _require("rounds", self.rounds is None or self.rounds >= 1, ">= 1", self.rounds)
        _require("spare_attempts", self.spare_attempts >= 0, ">= 0", self.spare_attempts)
        _require("local_steps", self.local_steps >= 1, ">= 1", self.local_steps)
        rate = self.learning_rate
        _require("learning_rate", rate is None or rate > 0, "> 0", rate)
        _require("l2", self.l2 >= 0, ">= 0", self.l2)
        _require("proximal", self.proximal >= 0, ">= 0", self.proximal)
        _require("seed", self.seed >= 0, ">= 0", self.seed)


@dataclass(frozen=True, kw_only=True)
class EncryptionRequest:
    """Encryption as a person writes it.

    Args:
        scheme: `bfv`, or `none` for research on public data.
        masks: Pairwise masks; only mode `local` can do without.
        digit_bits: Width of a site's digits in modes `local` and `none`.
        digit_bound: Largest |coordinate| of an update there; left out, from the learning rate.
    """

    scheme: Literal["bfv", "none"] = "bfv"
    masks: bool = True
    digit_bits: int = 16
    digit_bound: float | None = None

    def __post_init__(self) -> None:
        _require("digit_bits", 2 <= self.digit_bits <= 32, "2 to 32", self.digit_bits)
        bound = self.digit_bound
        _require("digit_bound", bound is None or bound > 0, "> 0", bound)


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """Whether and how often held-out patients are counted; 0 rounds between is the end only."""

    enabled: bool = True
    every: int = 0

    def __post_init__(self) -> None:
        _require("every", self.every >= 0, ">= 0", self.every)


@dataclass(frozen=True, kw_only=True)
class ScalingRequest:
    """Scale numbers by the means and standard deviations of a finished statistics job.

    Args:
        statistics: That job at this coordinator: its name, its folder, or the first digits of its
            digest.
    """

    statistics: str


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """A job as a coordinator writes it; see configs/jobs for commented examples.

    Args:
        name: Name of the job and of the model that comes out.
        dataset: Name of the data set in every hospital's configuration.
        schema: Columns, see learning.schema.
        task: Task and options.
        sites: Hospitals with their declared, rounded, public sizes.
        min_sites: Fewest hospitals; at least 3 where anything is encrypted.
        strategy: Strategy; left out, `fedsgd` in mode `distributed` and `fedavg` elsewhere.
        privacy: Mode and epsilon.
        training: Optimisation.
        evaluation: Counting on held-out patients.
        scaling: Where numbers' centre and spread come from; left out, from the schema.
        encryption: How contributions travel.
        publication: What the coordinator may learn.
        intended_use: One line that the model carries.
        timeout_s: Seconds to wait for one answer.
        valid_hours: How long nodes accept the job.
    """

    name: str
    dataset: str
    schema: Mapping[str, Any]
    task: Named
    sites: tuple[Site, ...]
    intended_use: str
    privacy: PrivacyRequest
    min_sites: int = MIN_ENCRYPTED_SITES
    strategy: Named | None = None
    training: TrainingRequest = field(default_factory=TrainingRequest)
    evaluation: EvaluationRequest = field(default_factory=EvaluationRequest)
    scaling: ScalingRequest | None = None
    encryption: EncryptionRequest = field(default_factory=EncryptionRequest)
    publication: Publication = field(
        default_factory=lambda: Publication(metrics=False, model=False)
    )
    timeout_s: int = 600
    valid_hours: int = 24

    def __post_init__(self) -> None:
        _require(
            "name", NAME.fullmatch(self.name) is not None, "a name such as sepsis-2", self.name
        )
        _require("timeout_s", self.timeout_s >= 1, ">= 1", self.timeout_s)
        _require("valid_hours", self.valid_hours >= 1, ">= 1", self.valid_hours)


def read_request(path: Path) -> JobRequest:
    """The job request of a YAML file."""
    return read(JobRequest, path)


def _require(name: str, right: bool, expected: str, found: object) -> None:  # noqa: FBT001
    if not right:
        raise InputError(name, expected=expected, found=str(found))
