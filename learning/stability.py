"""Whether two histograms are of the same distribution, where either may bear noise.

The population stability index is the sum over bins of (q - p) ln(q / p), of shares p and q. Chance
and noise alone make it greater than 0, the more the rarer a bin is. So rare bins are put together,
what chance and noise add on average is taken off, and a test that knows both says whether more than
they is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import chdtri

from learning.intervals import Z
from learning.task import FloatVector, IntVector
from protocol.errors import InputError

CHANCE: Final = 0.001
"""How often a difference is called sure where there is none."""

FEW: Final = 5.0
"""Fewest counts that are expected of a bin of its own."""

NOISES: Final = 2.0
"""Fewest standard deviations of the noise that a bin of its own has."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """Counts of B bins.

    Args:
        count_B: The counts, negative where noise made them so.
        noise: Standard deviation of the noise of each.
    """

    count_B: FloatVector  # noqa: N815 - the shape is part of the name
    noise: float = 0.0

    @property
    def total(self) -> float:
        """Everybody, the noise of all bins included."""
        return float(self.count_B.sum())

    @property
    def clear(self) -> bool:
        """Whether there are more than noise alone can make."""
        return self.total >= max(1.0, Z * self.noise * math.sqrt(len(self.count_B)))


@dataclass(frozen=True, kw_only=True)
class Stability:
    """How far two histograms are from each other.

    Args:
        index: Population stability index, less what chance and noise add to it on average.
        low: Where its 95 % interval begins, chance and noise included.
        high: Where it ends.
        sure: Whether they differ by more than chance and noise explain.
    """

    index: float
    low: float
    high: float
    sure: bool


def stability(expected: Histogram, found: Histogram) -> Stability | None:
    """How far counts are from what is expected; None where there are too few to tell.

    Args:
        expected: The reference.
        found: The same bins of others. Bins that are next to each other are put together where the
            reference has few, so bins of a number stand in their order.

    Raises:
        InputError: They have not the same bins.

    >>> same = Histogram(count_B=np.array([50.0, 50.0]))
    >>> found = stability(same, same)
    >>> found.index, found.low, found.sure
    (0.0, 0.0, False)
    """
    if expected.count_B.shape != found.count_B.shape:
        raise InputError(
            "bins of two histograms",
            expected=str(len(expected.count_B)),
            found=str(len(found.count_B)),
        )
    if not (expected.clear and found.clear):
        return None
    group_B = _groups(expected, found)
    if group_B[-1] == 0:
        return None
    return _Compared.of(expected, found, group_B).result()


def _groups(expected: Histogram, found: Histogram) -> IntVector:
    """The group of each bin. A bin with enough is one by itself, others join their neighbours.

    Only the reference and the number of the others decide, so what is found changes no group.
    """
    smaller = min(expected.total, found.total)
    noise = max(expected.noise, found.noise * expected.total / found.total)
    few = FEW * expected.total / smaller
    group, held, bins, groups = 0, 0.0, 0, []
    for count in expected.count_B.tolist():
        large = count >= max(few, NOISES * noise)
        if bins and (large or held >= max(few, NOISES * noise * math.sqrt(bins))):
            group, held, bins = group + 1, 0.0, 0
        groups.append(group)
        held, bins = held + max(count, 0.0), bins + 1
    return np.array(groups, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Compared:
    """Two histograms by G groups.

    Shares of counts with independent variances V vary like A y, y of variances V, with
    A = I - p 1': whatever one group has more, all others have less.

    Args:
        p_G: Expected shares.
        q_G: Shares that were found.
        common_G: Shares if both are of one distribution.
        p_variance_G: V of the expected shares, chance and noise.
        q_variance_G: V of those that were found.
        noise_G: The noise's part of both, if both are of one distribution.
        variance_G: V of the difference, if both are of one distribution.
        rare_G: What is added to it where a share is very small, so that one patient more than
            expected is no surprise.
    """

    p_G: FloatVector  # noqa: N815
    q_G: FloatVector  # noqa: N815
    common_G: FloatVector  # noqa: N815
    p_variance_G: FloatVector  # noqa: N815
    q_variance_G: FloatVector  # noqa: N815
    noise_G: FloatVector  # noqa: N815
    variance_G: FloatVector  # noqa: N815
    rare_G: FloatVector  # noqa: N815

    @classmethod
    def of(cls, expected: Histogram, found: Histogram, group_B: IntVector) -> _Compared:
        """The comparison of two histograms."""
        n, m, bins_G = expected.total, found.total, np.bincount(group_B)
        p_noise_G: FloatVector = bins_G * np.float64(expected.noise / n) ** 2
        q_noise_G: FloatVector = bins_G * np.float64(found.noise / m) ** 2
        p_G = _shares(expected, group_B, p_noise_G)
        q_G = _shares(found, group_B, q_noise_G)
        common_G = _common(p_G, q_G, (n, m), (p_noise_G, q_noise_G))
        chance = 1 / n + 1 / m
        return cls(
            p_G=p_G,
            q_G=q_G,
            common_G=common_G,
            p_variance_G=p_G / n + p_noise_G,
            q_variance_G=q_G / m + q_noise_G,
            noise_G=p_noise_G + q_noise_G,
            variance_G=common_G * chance + p_noise_G + q_noise_G,
            rare_G=np.maximum(FEW / min(n, m) - common_G, 0.0) * chance,
        )

    @property
    def d_G(self) -> FloatVector:  # noqa: N802 - the shape is part of the name
        """Differences of the shares."""
        return self.q_G - self.p_G

    @property
    def log_G(self) -> FloatVector:  # noqa: N802
        """Logarithms of their ratios."""
        return np.asarray(np.log(self.q_G / self.p_G))

    def result(self) -> Stability:
        """Index, interval and test."""
        index, p_G = float(self.d_G @ self.log_G), self.common_G
        # Of u = d / sqrt(p), whose square the index nearly is where both are alike: the diagonal of
        # its covariance, whose sum is what is added to the index on average.
        spread_G = self.variance_G * (1 - 2 * p_G) + p_G**2 * self.variance_G.sum()
        added_G = spread_G / np.maximum(p_G, np.sqrt(self.noise_G))
        error = Z * math.sqrt(2 * float(added_G @ added_G) + self._moved())
        index -= float(added_G.sum())
        return Stability(
            index=max(index, 0.0),
            low=max(index - error, 0.0),
            high=max(index + error, 0.0),
            sure=self._beyond() > float(chdtri(len(p_G) - 1, CHANCE)),
        )

    def _moved(self) -> float:
        """Variance of the index where both differ, by its differentials in both shares."""
        found = 0.0
        ratio_G = self.p_G / self.q_G
        pairs = (
            (self.p_G, self.p_variance_G, 1 - self.log_G - 1 / ratio_G),
            (self.q_G, self.q_variance_G, 1 + self.log_G - ratio_G),
        )
        for share_G, variance_G, slope_G in pairs:
            found += float(variance_G @ (slope_G - share_G @ slope_G) ** 2)
        return found

    def _beyond(self) -> float:
        """Chi-squared with G - 1 degrees of freedom, if both are of one distribution."""
        p_G, d_G, variance_G = self.common_G, self.d_G, self.variance_G + self.rare_G
        beyond = float((d_G**2 / variance_G).sum())
        return beyond - float((d_G * p_G / variance_G).sum()) ** 2 / float(
            (p_G**2 / variance_G).sum()
        )


def _shares(one: Histogram, group_B: IntVector, noise_G: FloatVector) -> FloatVector:
    """Shares, none smaller than half a count or half a standard deviation of the noise."""
    count_G = np.bincount(group_B, weights=one.count_B)
    kept_G = np.maximum(count_G, np.maximum(0.5, one.total * np.sqrt(noise_G) / 2))
    return np.asarray(kept_G / kept_G.sum())


def _common(
    p_G: FloatVector,
    q_G: FloatVector,
    sizes: tuple[float, float],
    noise_G: tuple[FloatVector, FloatVector],
) -> FloatVector:
    """The shares of one distribution that both are of, each weighed by how much it varies."""
    common_G = (p_G + q_G) / 2
    for _ in range(3):
        p_var_G, q_var_G = (
            common_G / size + noise for size, noise in zip(sizes, noise_G, strict=True)
        )
        common_G = (p_G * q_var_G + q_G * p_var_G) / (p_var_G + q_var_G)
        common_G = common_G / common_G.sum()
    return common_G
