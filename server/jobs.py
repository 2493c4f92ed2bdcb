"""From what a person writes to a job's exact numbers, resolved once, at the coordinator."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from learning.task import Task, load_task
from privacy.he.parameters import SEAL_LIBRARY, digit_radix, parameters_for
from privacy.plan import PrivacyRequest, default_recipe, resolve_privacy
from privacy.plan import digit_radix as release_radix
from protocol.config import read
from protocol.errors import InputError
from protocol.jobs import (
    VERSION,
    Encryption,
    Evaluation,
    Job,
    Named,
    Packing,
    Privacy,
    Publication,
    Site,
    Training,
)
from protocol.tensors import weights_digest
from strategies.base import CLEAR_PREFIX, Strategy, node_strategy
from strategies.one_shot import OneShot

MIN_ENCRYPTED_SITES = 3
SIX_SIGMA = 6.0
CLEAR_RATE = 0.5
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


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
    encryption: EncryptionRequest = field(default_factory=EncryptionRequest)
    publication: Publication = field(
        default_factory=lambda: Publication(metrics=False, model=False)
    )
    timeout_s: int = 600
    valid_hours: int = 24

    def __post_init__(self) -> None:
        _require(
            "name", _NAME.fullmatch(self.name) is not None, "a name such as sepsis-2", self.name
        )
        _require("timeout_s", self.timeout_s >= 1, ">= 1", self.timeout_s)
        _require("valid_hours", self.valid_hours >= 1, ">= 1", self.valid_hours)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Who launches the job, for which roster, and when.

    Args:
        coordinator: Fingerprint of the signing key.
        roster: Digest of the roster.
        now: Present time with a time zone.
    """

    coordinator: str
    roster: str
    now: datetime


def read_request(path: Path) -> JobRequest:
    """The job request of a YAML file."""
    return read(JobRequest, path)


def resolve(request: JobRequest, origin: Origin) -> Job:
    """The job with every number that nodes will verify.

    Raises:
        InputError: Parts of the request do not fit each other.
    """
    _check_sites(request)
    task = load_task(request.task, request.schema)
    named = _strategy(request)
    training = _training(request, task)
    clear = request.encryption.scheme == "none"
    strategy = node_strategy(named, training, task.layout().size, clear=clear)
    _check_contribution(request, strategy)
    privacy = _privacy(request, task, training, strategy)
    return Job(
        version=VERSION,
        name=request.name,
        nonce=secrets.token_hex(16),
        created=origin.now.isoformat(timespec="seconds"),
        expires=(origin.now + timedelta(hours=request.valid_hours)).isoformat(timespec="seconds"),
        coordinator=origin.coordinator,
        roster=origin.roster,
        dataset=request.dataset,
        sites=request.sites,
        min_sites=request.min_sites,
        task=request.task,
        schema=request.schema,
        strategy=named,
        training=training,
        privacy=privacy,
        encryption=_encryption(request, privacy, training),
        evaluation=Evaluation(every=request.evaluation.every),
        publication=request.publication,
        layout=task.layout().digest,
        initial_weights=weights_digest(strategy.init(task.initial(training.seed)).weights),
        timeout_s=request.timeout_s,
        intended_use=request.intended_use,
    )


def _check_contribution(request: JobRequest, strategy: Strategy) -> None:
    """In mode `distributed` sums carry the noise, so sums are what is released, and only there."""
    distributed = request.privacy.mode == "distributed"
    if distributed == (strategy.contribution == "update"):
        released = strategy.contribution.removesuffix("s") + "s"
        raise InputError(
            f"a strategy that releases {released} in mode {request.privacy.mode!r}",
            expected="fedsgd or one_shot" if distributed else "one of updates, as fedavg",
        )


def _check_sites(request: JobRequest) -> None:
    names = [site.name for site in request.sites]
    if len(set(names)) != len(names):
        raise InputError("sites", expected="each hospital once", found=", ".join(names))
    least = MIN_ENCRYPTED_SITES if request.encryption.scheme == "bfv" else 1
    for what, number in (("min_sites", request.min_sites), ("number of sites", len(names))):
        if number < least:
            raise InputError(
                what,
                expected=f">= {least}",
                found=str(number),
                remedy="a sum of two hospitals tells each the other's part; ask a third",
            )
    if request.min_sites > len(names):
        raise InputError(
            "min_sites", expected=f"at most {len(names)} hospitals", found=str(request.min_sites)
        )


def _strategy(request: JobRequest) -> Named:
    usual = "fedprox" if request.training.proximal > 0 else "fedavg"
    if request.privacy.mode == "distributed":
        usual = "fedsgd"
    named = request.strategy or Named(name=usual, options={})
    if named.name.startswith(CLEAR_PREFIX) and request.encryption.scheme != "none":
        raise InputError(
            f"strategy {named.name!r} reads every hospital's update",
            expected="a strategy that needs only their sum",
            remedy="use it in unencrypted research runs on public data",
        )
    return named


def _training(request: JobRequest, task: Task) -> Training:
    asked = request.training
    if request.privacy.mode == "distributed" and asked.local_steps != 1:
        raise InputError(
            "local_steps",
            expected="1 in mode 'distributed', where only the sum carries the noise",
            found=str(asked.local_steps),
        )
    rounds = asked.rounds or _default_rounds(request, task)
    rate = asked.learning_rate or _default_rate(request, task, rounds) / asked.local_steps
    return Training(
        rounds=rounds,
        spare_attempts=asked.spare_attempts,
        local_steps=asked.local_steps,
        learning_rate=rate,
        l2=asked.l2,
        proximal=asked.proximal,
        seed=asked.seed,
    )


def _default_rate(request: JobRequest, task: Task, rounds: int) -> float:
    """Path of one round: the recipe's, or plain steps where nothing is clipped."""
    if request.privacy.mode == "none":
        return CLEAR_RATE * request.training.local_steps
    recipe = default_recipe(
        epsilon_target=request.privacy.epsilon,
        delta=request.privacy.delta,
        rounds=rounds,
        kappa=task.kappa,
        size=sum(site.train_size for site in request.sites),
        length=task.layout().size,
    )
    return recipe.learning_rate


def _default_rounds(request: JobRequest, task: Task) -> int:
    one_shot = request.strategy is not None and request.strategy.name == "one_shot"
    return 1 if one_shot else task.default_rounds


def _privacy(request: JobRequest, task: Task, training: Training, strategy: Strategy) -> Privacy:
    asked = request.privacy
    if isinstance(strategy, OneShot):
        _require(
            "sampling_rate with strategy 'one_shot'",
            asked.sampling_rate == 1,
            "1: its statistics are of all records",
            asked.sampling_rate,
        )
        asked = replace(asked, clip=strategy.norm)
    evaluations = 1 + _intermediate(request.evaluation.every, training.rounds)
    return resolve_privacy(
        asked,
        sites=request.sites,
        length=strategy.length(task.layout().size),
        steps=training.rounds,
        spare=training.spare_attempts,
        repeats=training.local_steps,
        unit=task.schema.unit,
        evaluation_length=task.evaluation.length,
        evaluation_norm=task.evaluation.norm,
        evaluation_steps=evaluations if request.evaluation.enabled else 0,
    )


def _intermediate(every: int, rounds: int) -> int:
    """Evaluations before the last one."""
    return (rounds - 1) // every if every else 0


def _encryption(request: JobRequest, privacy: Privacy, training: Training) -> Encryption:
    asked, sites = request.encryption, len(request.sites)
    if asked.scheme == "none" and privacy.mode != "none":
        raise InputError(
            "encryption.scheme",
            expected=f"bfv in mode {privacy.mode!r}, where only sums may be read",
            found="none",
        )
    if asked.scheme == "bfv" and privacy.mode != "local" and not asked.masks:
        raise InputError(
            "masks: false", expected="masks in every mode but 'local'", remedy="leave masks on"
        )
    update: Packing | None = None
    evaluation: Packing | None = None
    if asked.scheme == "bfv":
        radix = (
            release_radix(privacy, privacy.update, sites)
            if privacy.mode == "distributed"
            else digit_radix(asked.digit_bits, sites)
        )
        update = parameters_for(radix=radix, max_sites=sites)
        if privacy.evaluation is not None:
            radix = release_radix(privacy, privacy.evaluation, sites)
            evaluation = parameters_for(radix=radix, max_sites=sites)
    return Encryption(
        scheme=asked.scheme,
        masks=asked.masks and asked.scheme == "bfv",
        digit_bits=asked.digit_bits,
        digit_bound=asked.digit_bound or _digit_bound(privacy, training, request.sites),
        update=update,
        evaluation=evaluation,
        library=SEAL_LIBRARY,
    )


def _digit_bound(privacy: Privacy, training: Training, sites: tuple[Site, ...]) -> float:
    """Largest |coordinate| of an update that is kept: the path of its steps, noise included.

    A gradient coordinate of a clipped mean is at most C, its noise at most six deviations; beyond
    that the update is clamped, which costs accuracy and no privacy.
    """
    release = privacy.update
    smallest = release.sampling_rate * min(site.train_size for site in sites)
    noise = SIX_SIGMA * release.noise_multiplier * release.clip / smallest
    return training.learning_rate * training.local_steps * (release.clip + noise)


def _require(name: str, right: bool, expected: str, found: object) -> None:  # noqa: FBT001
    if not right:
        raise InputError(name, expected=expected, found=str(found))
