"""Checks that need a look into the hospitals: single clips, sampling, repeated noise, guards."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from simulations.audit_claim import Claim
from simulations.audit_config import AuditConfig
from simulations.audit_evidence import Check, Evidence, statistical
from simulations.audit_statistics import IntVector, repeat_p, spread_of_counts_p

_SLACK = 0.02
"""What the grid and the logits' drift may take from a clip, on top of the rounding of updates."""


def inside_checks(config: AuditConfig, claim: Claim, evidence: Evidence) -> tuple[Check, ...]:
    """Every check of what only one who holds all hospitals can see."""
    return (
        _clip(config, claim, evidence),
        _sampling(config, claim, evidence),
        _repeats(evidence),
        _guards(evidence),
    )


def _clip(config: AuditConfig, claim: Claim, evidence: Evidence) -> Check:
    """Without noise every record moves a sum by one clip, or by nothing when it is not there."""
    tolerance = _SLACK + 8 * math.sqrt(claim.rounding)
    moved_KBM = evidence.batches_KBM / claim.step
    own_KM = evidence.inside_M & (config.site_M == np.arange(config.hospitals)[:, None])
    far_KBM = np.minimum(np.abs(moved_KBM), np.abs(moved_KBM - 1))
    stray = float(np.abs(np.where(own_KM[:, None, :], 0.0, moved_KBM)).max())
    worst = max(float(far_KBM.max()), stray)
    finding = (
        f"without noise a record in a batch moves the sum by {np.abs(moved_KBM).max():.3f} clips"
    )
    if stray > tolerance:
        finding += ", and one that is in no hospital's data moves it too"
    return Check(name="clip", passed=worst <= tolerance, p_value=None, finding=finding)


def _sampling(config: AuditConfig, claim: Claim, evidence: Evidence) -> Check:
    """Independent coins: how often each record was drawn, and how many each batch has."""
    rate = evidence.batch_rate
    drawn_KBM = evidence.batches_KBM > claim.step / 2
    batches = drawn_KBM.shape[1]
    own = [
        np.flatnonzero(evidence.inside_M & (config.site_M == place))
        for place in range(config.hospitals)
    ]
    drawn = [drawn_BM[:, members] for drawn_BM, members in zip(drawn_KBM, own, strict=True)]
    by_record = np.concatenate([drawn_BN.sum(axis=0) for drawn_BN in drawn])
    by_batch = [(drawn_BN.sum(axis=1), drawn_BN.shape[1]) for drawn_BN in drawn]
    trials = by_record.size * batches
    p_values = (
        spread_of_counts_p([(by_record, batches)], rate),
        spread_of_counts_p(by_batch, rate),
        float(stats.binomtest(int(by_record.sum()), trials, rate).pvalue),
    )
    records = _relative_spread([(by_record, batches)], rate)
    sizes = _relative_spread(by_batch, rate)
    finding = (
        f"how often a record is drawn varies {records:.2f} times, and the size of a batch "
        f"{sizes:.2f} times, as much as with independent coins"
    )
    return statistical("sampling", min(1.0, len(p_values) * min(p_values)), finding)


def _relative_spread(counts: list[tuple[IntVector, int]], rate: float) -> float:
    """Squared distances of binomial counts from their mean, over what is expected."""
    found = sum(float(((count_N - trials * rate) ** 2).sum()) for count_N, trials in counts)
    return found / sum(len(count_N) * trials * rate * (1 - rate) for count_N, trials in counts)


def _repeats(evidence: Evidence) -> Check:
    """No two releases, of one hospital or of two, carry the same noise."""
    p_value, worst = repeat_p(evidence.noise_VP)
    pairs = math.comb(len(evidence.noise_VP), 2)
    finding = f"noise of two rounds or sites correlates by {worst:.3f} at most, of {pairs} pairs"
    return statistical("repeats", p_value, finding)


def _guards(evidence: Evidence) -> Check:
    """No hole in model, loss and clipping that the guards know."""
    return Check(
        name="guards",
        passed=not evidence.hole,
        p_value=None,
        finding=evidence.hole or "no known hole in model, loss and clipping",
    )
