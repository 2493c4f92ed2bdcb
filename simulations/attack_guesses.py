"""Guesses of membership: how good they are, and how good any can be in spite of Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import stats

from privacy.accounting import SLACK, gaussian_mu

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
FloatVector = npt.NDArray[np.float64]

RATE = 0.01
"""False alarms at which detection is reported."""


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """Scores of a pool of records under many models, larger for likelier members.

    Args:
        scores_MN: Score of each record under each model.
        inside_MN: Which records each model was trained on: some, and not all.
    """

    scores_MN: FloatArray  # noqa: N815 - the shape is part of the name
    inside_MN: BoolArray  # noqa: N815

    @property
    def members(self) -> FloatVector:
        """Scores of members, all models together."""
        return self.scores_MN[self.inside_MN]

    @property
    def others(self) -> FloatVector:
        """Scores of the other records, all models together."""
        return self.scores_MN[~self.inside_MN]

    @cached_property
    def auroc(self) -> float:
        """Probability that a member scores above another record, ties counting half."""
        return _auroc(self.members, self.others)

    @cached_property
    def auroc_error(self) -> float:
        """Standard error of `auroc`, from how it varies between models."""
        single = [
            _auroc(score_N[inside_N], score_N[~inside_N])
            for score_N, inside_N in zip(self.scores_MN, self.inside_MN, strict=True)
        ]
        return float(np.std(single, ddof=1) / np.sqrt(len(single)))

    def detected(self, rates: FloatVector) -> FloatVector:
        """Share of members that are found, for each rate of false alarms."""
        threshold = np.quantile(self.others, 1 - rates, method="higher")
        ranked = np.sort(self.members)
        above: FloatVector = 1 - np.searchsorted(ranked, threshold, side="right") / len(ranked)
        return above


def bound_auroc(epsilon: float, delta: float) -> float:
    """Largest area under the curve of any guesses against a Gaussian mechanism.

    >>> round(bound_auroc(1.0, 1e-5), 3)
    0.575

    Source: Dong, Roth, Su 2022, Gaussian Differential Privacy, equation 6, integrated.
    """
    return float(stats.norm.cdf(_mu(epsilon, delta) / np.sqrt(2)))


def bound_detected(epsilon: float, delta: float, rates: FloatVector) -> FloatVector:
    """Largest share of members that any guesses find, for each rate of false alarms.

    >>> bound_detected(1.0, 1e-5, np.array([0.01])).round(3).tolist()
    [0.02]

    Source: Dong, Roth, Su 2022, Gaussian Differential Privacy, equation 6.
    """
    found: FloatVector = stats.norm.cdf(_mu(epsilon, delta) + stats.norm.ppf(rates))
    return found


def _mu(epsilon: float, delta: float) -> float:
    """All rounds together, as the job accounts for them."""
    return gaussian_mu(epsilon, SLACK * delta)


def _auroc(members: FloatVector, others: FloatVector) -> float:
    rank = stats.rankdata(np.concatenate([members, others]))[: len(members)].sum()
    pairs = len(members) * len(others)
    return float((rank - len(members) * (len(members) + 1) / 2) / pairs)
