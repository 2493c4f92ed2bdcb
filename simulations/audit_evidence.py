"""What an audit measures and what a check of it says."""

from __future__ import annotations

from dataclasses import dataclass

from simulations.audit_config import BoolVector, FloatArray
from simulations.audit_statistics import SMALLEST_P

ALARM = 1e-6
"""Level of each check: 3,000 audits of a correct pipeline raise 0.02 alarms."""
CONFIDENCE = 0.95
"""Of the bounds that are shown."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What an audit measured.

    Args:
        moves_MC: Final weights of each canary's row, M x C, in clips of one round.
        inside_M: Which canaries were in the data.
        batches_KBM: What each canary moved in batches without noise, in clips.
        batch_rate: Their sampling probability.
        noise_VP: Noise of single releases.
        hole: What the guards found, empty if nothing.
    """

    moves_MC: FloatArray  # noqa: N815 - shapes are part of the names
    inside_M: BoolVector  # noqa: N815
    batches_KBM: FloatArray  # noqa: N815
    batch_rate: float
    noise_VP: FloatArray  # noqa: N815
    hole: str


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check.

    Args:
        name: Its short name.
        passed: Whether it raised no alarm.
        p_value: Chance of such evidence, or worse, from a correct pipeline; None where a check is
            not statistical.
        finding: What was found, one sentence.
    """

    name: str
    passed: bool
    p_value: float | None
    finding: str


def statistical(name: str, p: float, finding: str) -> Check:
    """A check that alarms at `ALARM`."""
    return Check(name=name, passed=p > ALARM, p_value=max(p, SMALLEST_P), finding=finding)
