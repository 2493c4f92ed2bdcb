"""From what a person writes to a job's exact numbers, resolved once, at the coordinator."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from learning.pooled_statistics import Statistics
from learning.task import Task, load_task
from privacy.he.parameters import SEAL_LIBRARY, digit_radix, parameters_for
from privacy.plan import default_recipe, resolve_privacy
from privacy.plan import digit_radix as release_radix
from protocol.errors import InputError
from protocol.jobs import (
    VERSION,
    Encryption,
    Evaluation,
    Job,
    Named,
    Packing,
    Privacy,
    Site,
    Training,
)
from protocol.tensors import weights_digest
from server.requests import MIN_ENCRYPTED_SITES, JobRequest
from strategies.base import CLEAR_PREFIX, Strategy, node_strategy, summing

SIX_SIGMA = 6.0
CLEAR_RATE = 0.5
ONE_ROUND = ("one_shot", "tally")


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


def resolve(request: JobRequest, origin: Origin) -> Job:
    """The job with every number that nodes will verify.

    Raises:
        InputError: Parts of the request do not fit each other.
    """
    if request.scaling is not None:
        raise InputError(
            "scaling by a statistics job",
            expected="a job that is launched where that one was kept",
            remedy="fedward run looks it up; elsewhere write centre and spread into the schema",
        )
    _check_sites(request)
    task = load_task(request.task, request.schema)
    named = _strategy(request, task)
    training = _training(request, task, named)
    clear = request.encryption.scheme == "none"
    strategy = node_strategy(named, training, task.layout().size, clear=clear)
    _check_contribution(request, strategy)
    privacy = _privacy(request, task, training, named, strategy)
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
        encryption=_encryption(request, privacy, training, strategy),
        evaluation=Evaluation(every=request.evaluation.every),
        publication=request.publication,
        layout=task.layout().digest,
        initial_weights=weights_digest(strategy.init(task.initial(training.seed)).weights),
        timeout_s=request.timeout_s,
        intended_use=request.intended_use,
    )


def _check_contribution(request: JobRequest, strategy: Strategy) -> None:
    """In mode `distributed` sums carry the noise, so sums are what is released.

    Statistics are sums in every mode; in others each hospital's carries the whole noise, or none.
    """
    distributed = request.privacy.mode == "distributed"
    if strategy.contribution == ("update" if distributed else "gradient"):
        released = strategy.contribution.removesuffix("s") + "s"
        raise InputError(
            f"a strategy that releases {released} in mode {request.privacy.mode!r}",
            expected="fedsgd, one_shot or tally" if distributed else "one of updates, as fedavg",
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


def _strategy(request: JobRequest, task: Task) -> Named:
    usual = "fedprox" if request.training.proximal > 0 else "fedavg"
    if request.privacy.mode == "distributed":
        usual = "fedsgd"
    if isinstance(task, Statistics):
        usual = "tally"
    named = request.strategy or Named(name=usual, options={})
    if named.name.startswith(CLEAR_PREFIX) and request.encryption.scheme != "none":
        raise InputError(
            f"strategy {named.name!r} reads every hospital's update",
            expected="a strategy that needs only their sum",
            remedy="use it in unencrypted research runs on public data",
        )
    return named


def _training(request: JobRequest, task: Task, strategy: Named) -> Training:
    asked = request.training
    if request.privacy.mode == "distributed" and asked.local_steps != 1:
        raise InputError(
            "local_steps",
            expected="1 in mode 'distributed', where only the sum carries the noise",
            found=str(asked.local_steps),
        )
    rounds = asked.rounds or (1 if strategy.name in ONE_ROUND else task.recipe.rounds)
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
        kappa=task.recipe.kappa,
        size=sum(site.train_size for site in request.sites),
        length=task.layout().size,
    )
    return recipe.learning_rate


def _privacy(
    request: JobRequest, task: Task, training: Training, named: Named, strategy: Strategy
) -> Privacy:
    asked = request.privacy
    statistics = summing(strategy)
    if statistics is not None:
        asked = replace(asked, clip=statistics.bound(task))
        if asked.sampling_rate != 1:
            raise InputError(
                f"sampling_rate with strategy {named.name!r}",
                expected="1: its statistics are of all patients",
                found=str(asked.sampling_rate),
            )
    elif isinstance(task, Statistics):
        raise InputError("task 'statistics'", expected="strategy 'tally'", found=repr(named.name))
    evaluations = 1 + _intermediate(request.evaluation.every, training.rounds)
    # A table predicts nothing, so held-out patients stay out of it and keep their budget.
    evaluated = request.evaluation.enabled and not isinstance(task, Statistics)
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
        evaluation_steps=evaluations if evaluated else 0,
    )


def _intermediate(every: int, rounds: int) -> int:
    """Evaluations before the last one."""
    return (rounds - 1) // every if every else 0


def _encryption(
    request: JobRequest, privacy: Privacy, training: Training, strategy: Strategy
) -> Encryption:
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
            if privacy.mode == "distributed" or summing(strategy) is not None
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
