"""Audit the privacy of training: canaries through the whole pipeline, and a verdict.

Source: Steinke, Nasr, Jagielski 2023, Privacy Auditing with One (1) Training Run; Nasr et al. 2023,
Tight Auditing of Differentially Private Machine Learning (canaries with gradients of their own).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from privacy.guards import run_guards
from protocol.errors import InputError
from protocol.jobs import Job
from simulations.audit_bench import Bench, Inside
from simulations.audit_claim import Claim
from simulations.audit_config import AuditConfig, BoolVector, summary
from simulations.audit_evidence import ALARM, CONFIDENCE, Check, Evidence
from simulations.audit_inside import inside_checks
from simulations.audit_weights import Weights
from strategies.base import FloatVector

USUAL_RATE = 0.25
"""Sampling probability at which the sampler is looked at where the job takes full batches."""
_DRAWS = 4
_MOST_ROUNDS = 20
SEEDED_NOTE = "coins and noise were seeded, which protects nobody"
REFUSED_NOTE = "hospitals refuse this job, by the guards: sums without encryption are shown"

Watch = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A finished audit.

    Args:
        config: What was audited.
        job: The job that ran.
        claim: What it claims.
        evidence: What was measured.
        encrypted: Whether the job ran as jobs do; it cannot where the guards find a hole.
    """

    config: AuditConfig
    job: Job
    claim: Claim
    evidence: Evidence
    encrypted: bool

    @cached_property
    def weights(self) -> Weights:
        """The final weights against the claim."""
        return Weights(self.config, self.claim, self.evidence)

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """Every check, in the order of docs/audit.md."""
        return self.weights.checks() + inside_checks(self.config, self.claim, self.evidence)

    @property
    def passed(self) -> bool:
        """Whether no check raised an alarm."""
        return all(check.passed for check in self.checks)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        seeded = () if self.config.seed is None else (SEEDED_NOTE,)
        return seeded if self.encrypted else (*seeded, REFUSED_NOTE)

    @property
    def verdict(self) -> str:
        """The result in words."""
        alarms = [check for check in self.checks if not check.passed]
        claimed = f"epsilon {self.claim.epsilon:.4g} at delta {self.claim.delta:g}"
        if not alarms:
            return (
                f"PASS: {len(self.checks)} checks on {self.config.canaries} canaries find no fault "
                f"in the claim of {claimed}; noise below {self.weights.resolution:.2f} of what is "
                "claimed would have been seen; guessing who was in proves epsilon >= "
                f"{self.weights.one_run_bound:.2f} and no more"
            )
        findings = "; ".join(f"{check.name}: {check.finding}" for check in alarms)
        return f"FAULT: the claim of {claimed} does not hold: {findings}"

    def to_json(self) -> dict[str, Any]:
        """The audit as JSON's types; what is infinite is null."""
        weights = self.weights
        low, middle, high = weights.epsilon_interval()
        return {
            "name": self.config.name,
            "passed": self.passed,
            "verdict": self.verdict,
            "claimed": {
                "epsilon": self.claim.epsilon,
                "epsilon_worst": self.job.privacy.epsilon_worst,
                "delta": self.claim.delta,
                "noise": self.claim.noise,
                "influence": self.claim.signal,
            },
            "found": {
                "epsilon_lower_bound": weights.one_run_bound,
                "confidence": CONFIDENCE,
                "guesses": [asdict(one) for one in weights.guesses],
                "epsilon_implied": _finite(middle),
                "epsilon_implied_low": _finite(low),
                "epsilon_implied_high": _finite(high),
                "noise": weights.noise_found,
                "noise_resolution": weights.resolution,
                "influence": weights.influence_found,
            },
            "alarm_level": ALARM,
            "encrypted": self.encrypted,
            "checks": [asdict(check) for check in self.checks],
            "configuration": dict(summary(self.config)),
            "notes": list(self.notes),
        }


def audit(config: AuditConfig, *, watch: Watch = lambda _: None) -> Audit:
    """Run an audit; this is what `fedward audit` and notebooks call.

    Args:
        config: What to audit, see `simulations.audit_config`.
        watch: Called with one line when a part begins.

    Raises:
        InputError: Something in the configuration does not fit.
        FedwardError: The job that is audited failed.
    """
    inside_M = config.coins()
    with tempfile.TemporaryDirectory(prefix="fedward-") as folder:
        watch("founding hospitals of canaries")
        bench = Bench.build(config, Path(folder), inside_M)
        hole = guarded(bench)
        watch("training")
        weights_P = None if hole else bench.final_weights()
        watch("looking into the hospitals")
        with bench.opened() as inside:
            evidence = look(bench, inside, inside_M, weights_P=weights_P, hole=hole)
    return Audit(
        config=config,
        job=bench.job,
        claim=Claim.of(config, bench.job),
        evidence=evidence,
        encrypted=not hole,
    )


def look(
    bench: Bench,
    inside: Inside,
    inside_M: BoolVector,
    *,
    weights_P: FloatVector | None = None,
    hole: str = "",
) -> Evidence:
    """Everything that the checks need.

    Args:
        bench: What is audited.
        inside: Its open hospitals.
        inside_M: Which canaries are in the data.
        weights_P: Final weights of an encrypted run; made from plain sums if not given.
        hole: What the guards found.
    """
    rate, batches = sampler(bench.config)
    if weights_P is None:
        weights_P = inside.final_weights(inside_M)
    return Evidence(
        moves_MC=bench.moves(weights_P),
        inside_M=inside_M,
        batches_KBM=inside.batches(rate, batches, inside_M),
        batch_rate=rate,
        noise_VP=inside.noise(noisy_rounds(bench.config)),
        hole=hole,
    )


def sampler(config: AuditConfig) -> tuple[float, int]:
    """Rate and number of batches in which the sampler is looked at: four draws of each record."""
    asked = config.privacy.sampling_rate
    rate = asked if asked < 1 else USUAL_RATE
    return rate, math.ceil(_DRAWS / rate)


def noisy_rounds(config: AuditConfig) -> int:
    """Rounds whose noise is compared: as many as the job has, at least two."""
    return min(max(2, config.rounds), _MOST_ROUNDS)


def guarded(bench: Bench) -> str:
    """What the guards find in the job's model, loss and clipping; empty if nothing."""
    task, privacy = bench.task, bench.job.privacy
    try:
        run_guards(
            task.model, task.loss, task.generate, clip=privacy.update.clip, unit=privacy.unit
        )
    except InputError as error:
        return str(error)
    return ""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
