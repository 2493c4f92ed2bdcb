"""The defences, and the job that an attack meets under each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from learning.task import Task, load_task
from privacy.he.parameters import digit_radix, parameters_for
from privacy.plan import PrivacyRequest, resolve_privacy
from privacy.plan import digit_radix as release_radix
from protocol.jobs import Encryption, Job, Mode, Named, Privacy, Site
from protocol.tensors import weights_digest
from server.jobs import Origin, resolve
from server.requests import EncryptionRequest, EvaluationRequest, JobRequest, TrainingRequest
from simulations.attack_config import AttackConfig
from simulations.attack_records import schema
from simulations.consortium import hospital_names

DATASET = "pictures"
_ORIGIN = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Defence:
    """What stands between an attacker and the records.

    Args:
        epsilon: Of the noise; None without noise.
        encrypted: Encryption with masks, as in every job that is not research on public data.
    """

    epsilon: float | None
    encrypted: bool

    @property
    def clear(self) -> bool:
        """Nothing protects anybody."""
        return self.epsilon is None and not self.encrypted

    @property
    def kind(self) -> str:
        """`none`, `noise`, `encryption` or `both`."""
        if self.epsilon is None:
            return "encryption" if self.encrypted else "none"
        return "both" if self.encrypted else "noise"

    @property
    def label(self) -> str:
        """In words.

        >>> Defence(epsilon=3.0, encrypted=True).label
        'both, epsilon 3'
        """
        return self.kind if self.epsilon is None else f"{self.kind}, epsilon {self.epsilon:g}"


def defences(config: AttackConfig) -> tuple[Defence, ...]:
    """Every combination: nothing, noise alone, encryption alone, both."""
    noise = (None, *config.epsilons)
    return tuple(
        Defence(epsilon=epsilon, encrypted=encrypted)
        for encrypted in (False, True)
        for epsilon in noise
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The job of an attack, before a defence is chosen.

    Args:
        config: Hospitals and privacy.
        records: Declared training records of each hospital.
        options: Options of the task `diagnosis`.
        task: Another task than that; only attacks have one.
        training: Optimisation. Where there is noise, the length of a step is the recipe's, and in
            mode `distributed` there is one step in a round.
    """

    config: AttackConfig
    records: int
    options: Mapping[str, Any]
    task: Task | None = None
    training: TrainingRequest = field(default_factory=TrainingRequest)

    def job(self, defence: Defence) -> tuple[Job, Task]:
        """The job under a defence and its task.

        With noise alone the job is that of both, whose hospitals then leave the encryption out; no
        real hospital does.
        """
        request = self._request(defence)
        origin = Origin(coordinator=_ORIGIN, roster=_ORIGIN, now=datetime.now(UTC))
        job = resolve(request, origin)
        if self.task is None:
            return job, load_task(job.task, job.schema)
        return _fitted(job, request, self.task), self.task

    def _request(self, defence: Defence) -> JobRequest:
        config, private = self.config, defence.epsilon is not None
        mode: Mode = config.mode if private else "none"
        training = self.training
        if private:
            steps = training.local_steps if mode == "local" else 1
            training = replace(training, local_steps=steps, learning_rate=None)
        return JobRequest(
            name="attacked",
            dataset=DATASET,
            schema=schema(),
            task=Named(name="diagnosis", options=self.options),
            sites=tuple(
                Site(name=name, train_size=self.records, test_size=0)
                for name in hospital_names(config.hospitals)
            ),
            intended_use="invented pictures",
            privacy=PrivacyRequest(
                mode=mode,
                epsilon=defence.epsilon,
                delta=config.delta,
                colluding_sites=config.colluding_sites,
            ),
            training=training,
            evaluation=EvaluationRequest(enabled=False),
            encryption=EncryptionRequest(
                scheme="none" if defence.clear else "bfv", masks=not defence.clear
            ),
        )


def _fitted(job: Job, request: JobRequest, task: Task) -> Job:
    """The same job for a task that is not installed: its numbers follow the task's length."""
    training = job.training
    privacy = resolve_privacy(
        request.privacy,
        sites=job.sites,
        length=task.layout().size,
        steps=training.rounds,
        spare=training.spare_attempts,
        repeats=training.local_steps,
        unit=job.privacy.unit,
        evaluation_length=task.evaluation.length,
        evaluation_norm=task.evaluation.norm,
        evaluation_steps=0,
    )
    return replace(
        job,
        privacy=privacy,
        encryption=_packed(job.encryption, privacy, len(job.sites)),
        layout=task.layout().digest,
        initial_weights=weights_digest(task.initial(training.seed)),
    )


def _packed(encryption: Encryption, privacy: Privacy, sites: int) -> Encryption:
    if encryption.scheme == "none":
        return encryption
    radix = (
        release_radix(privacy, privacy.update, sites)
        if privacy.mode == "distributed"
        else digit_radix(encryption.digit_bits, sites)
    )
    return replace(encryption, update=parameters_for(radix=radix, max_sites=sites))
