"""When a record counts as recovered, and what a count proves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]
FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]

RECOVERED = 0.2
"""Largest distance from the record over the record's distance from the average record.

Whoever guesses the average gets 1. At 0.2 a candidate explains 96 % of what makes the record
differ from it; a picture is then the same to the eye.
"""
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well records came back.

    Args:
        errors_N: For each record the relative distance of the nearest candidate, see `RECOVERED`.
        nearest_NF: Those candidates; the average record where there is no candidate at all.
        control: Share of fresh records, which were never used, that the same candidates hit.
    """

    errors_N: FloatVector  # noqa: N815 - the shape is part of the name
    nearest_NF: FloatArray  # noqa: N815
    control: float

    @property
    def hits(self) -> int:
        """Records that were recovered."""
        return int((self.errors_N <= RECOVERED).sum())

    @property
    def share(self) -> float:
        """Share of the records that were recovered."""
        return self.hits / len(self.errors_N)

    @property
    def limits(self) -> tuple[float, float]:
        """Confidence limits of the share at 95 %, one sided where it is 0 or 1."""
        return limits(self.hits, len(self.errors_N))


def score(
    truth_NF: FloatArray, candidates_MF: FloatArray, *, average_F: FloatVector, fresh_NF: FloatArray
) -> Score:
    """Compare what an attacker found with what there was.

    Args:
        truth_NF: The records that were trained on.
        candidates_MF: What the attacker holds for records, in any order; none is possible.
        average_F: The public average record.
        fresh_NF: Records of the same kind that were never used.
    """
    errors_N, nearest_NF = _nearest(truth_NF, candidates_MF, average_F)
    control_N, _ = _nearest(fresh_NF, candidates_MF, average_F)
    control = float((control_N <= RECOVERED).mean())
    return Score(errors_N=errors_N, nearest_NF=nearest_NF, control=control)


def share_text(score: Score) -> str:
    """The share of records that came back, as people read it: 0 % is none at all."""
    if not score.hits:
        return "0 %"
    return "< 1 %" if score.share < 0.01 else f"{100 * score.share:.0f} %"


def together(scores: Sequence[Score]) -> Score:
    """One score of several updates' records."""
    return Score(
        errors_N=np.concatenate([one.errors_N for one in scores]),
        nearest_NF=np.concatenate([one.nearest_NF for one in scores]),
        control=float(np.mean([one.control for one in scores])),
    )


def limits(hits: int, trials: int) -> tuple[float, float]:
    """Clopper and Pearson's limits of a share at 95 %.

    >>> low, high = limits(0, 128)
    >>> low, round(high, 3)
    (0.0, 0.023)
    """
    tail = (1 - CONFIDENCE) / (1 if hits in (0, trials) else 2)
    low = 0.0 if hits == 0 else float(stats.beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(stats.beta.isf(tail, hits + 1, trials - hits))
    return low, high


def _nearest(
    truth_NF: FloatArray, candidates_MF: FloatArray, average_F: FloatVector
) -> tuple[FloatVector, FloatArray]:
    known_MF = candidates_MF if len(candidates_MF) else average_F[None]
    squares_NM = (
        (truth_NF**2).sum(axis=1)[:, None] + (known_MF**2).sum(axis=1) - 2 * truth_NF @ known_MF.T
    )
    chosen_NF = known_MF[squares_NM.argmin(axis=1)]
    distance_N = np.linalg.norm(truth_NF - chosen_NF, axis=1)
    return distance_N / np.linalg.norm(truth_NF - average_F, axis=1), chosen_NF
