"""Counts that evaluate survival curves: censoring, Brier sums, and who outlives whom.

Time runs in T intervals. A record's outcome is coded 2 s + e: it survived s intervals, and then
died in the next one (e = 1) or was lost from sight (e = 0). One patient raises

- one cell of a table of outcomes, for two groups of predicted survival: Kaplan-Meier curves, and
  the censoring weights of everything else;
- at every time one squared error, scaled by 1 / sqrt(T), kept apart by the interval of death,
  since weights are known only after all hospitals' tables are added up;
- for every interval survived a bin of predicted survival (scaled by 1 / sqrt(T)) and for the
  interval of death another: pairs of a dead and a surviving patient are compared from these.

Each of the first two parts has an L2 norm of at most 1, the third of at most sqrt(2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from learning.counting import Counting, Raised, raised
from learning.intervals import clipped
from learning.survival_metrics import Pooled, concordance, curves, integrated_brier
from learning.task import FloatArray, FloatVector, Metric
from protocol.errors import InputError

BINS: Final = 24
EDGES: Final[FloatVector] = 1.0 / (1.0 + np.exp(-np.linspace(-4.0, 4.0, BINS + 1)[1:-1]))
"""Bins of predicted survival, one third of a unit wide in log-odds."""

GROUPS: Final = ("poor", "good")


@dataclass(frozen=True)
class SurvivalEvaluation(Counting):
    """Evaluation of survival curves over T intervals.

    Args:
        width_T: Length of each interval, by which times weigh in the integrated Brier score.

    >>> evaluation = SurvivalEvaluation((1.0, 1.0))
    >>> evaluation.length, round(evaluation.norm, 9)
    (111, 2.0)
    """

    width_T: tuple[float, ...]  # noqa: N815 - the shape is part of the name

    @property
    def intervals(self) -> int:
        """T."""
        return len(self.width_T)

    @property
    def _starts(self) -> tuple[int, int, int]:
        """Where alive sums, dead sums and bins begin."""
        times = self.intervals
        alive = len(GROUPS) * (2 * times + 1)
        return alive, alive + times, alive + times + times * (times + 1) // 2

    @property
    def length(self) -> int:
        """E, the number of counts."""
        return self._starts[2] + self.intervals * 2 * BINS

    @property
    def norm(self) -> float:
        """Largest L2 norm of one patient's counts."""
        return math.nextafter(2.0, math.inf)

    def _raised(self, survival_NT: FloatArray, y_N: npt.NDArray[Any]) -> list[Raised]:
        times = self.intervals
        if survival_NT.shape != (len(y_N), times) or not np.isfinite(survival_NT).all():
            raise InputError("survival curves", expected="finite, one row a record")
        if len(y_N) and not (y_N.min() >= 0 and y_N.max() <= 2 * times):
            raise InputError("targets", expected="codes of survived intervals and events")
        code_N = np.asarray(y_N, dtype=np.int64)
        survived_N1, died_N1 = code_N[:, None] // 2, code_N[:, None] % 2 == 1
        time_T = np.arange(times)
        alive, dead, bins = self._starts
        good_N = (survival_NT[:, -1] >= 0.5).astype(np.int64)
        table_N1 = (good_N * (2 * times + 1) + code_N)[:, None]
        square_NT = np.clip(survival_NT, 0.0, 1.0) ** 2
        missed_NT = (1.0 - np.clip(survival_NT, 0.0, 1.0)) ** 2
        scale = 1.0 / math.sqrt(times)
        lived_NT, gone_NT = survived_N1 > time_T, died_N1 & (survived_N1 <= time_T)
        bin_NT = np.searchsorted(EDGES, survival_NT, side="right").astype(np.int64)
        bin_NT = bins + (time_T * 2 + lived_NT) * BINS + bin_NT
        in_sight_NT = lived_NT | (died_N1 & (survived_N1 == time_T))
        return [
            raised(np.ones_like(table_N1), table_N1, np.ones((1, 1))),
            raised(lived_NT, alive + time_T[None, :], scale * missed_NT),
            raised(gone_NT, dead + time_T * (time_T + 1) // 2 + survived_N1, scale * square_NT),
            raised(in_sight_NT, bin_NT, np.where(lived_NT, scale, 1.0)),
        ]

    def pooled(self, counts_E: FloatVector, noise_std: float = 0.0) -> Pooled:
        """The counts by what they count, amounts scaled back.

        Raises:
            InputError: The vector has another length, or is not finite.
        """
        self.check(counts_E)
        times = self.intervals
        alive, dead, bins = self._starts
        root = math.sqrt(times)
        dead_TT = np.zeros((times, times))
        dead_TT[np.tril_indices(times)] = counts_E[dead:bins] * root
        bins_T2B = counts_E[bins:].reshape(times, 2, BINS)
        return Pooled(
            table_GO=counts_E[:alive].reshape(len(GROUPS), 2 * times + 1),
            alive_T=counts_E[alive:dead] * root,
            dead_TT=dead_TT,
            case_TB=bins_T2B[:, 0],
            control_TB=bins_T2B[:, 1] * root,
            noise=noise_std,
            scaled_noise=noise_std * root,
        )

    def metrics(self, counts_E: FloatVector, noise_std: float = 0.0) -> dict[str, Metric]:
        """Metrics with 95 % intervals; those that the counts do not determine are left out.

        Args:
            counts_E: Sum over patients and sites, noised or not.
            noise_std: Standard deviation of each count's noise, in counts; widens the intervals.
        """
        pooled = self.pooled(counts_E, noise_std)
        found: dict[str, Metric | None] = {
            "concordance": concordance(pooled),
            "integrated_brier": integrated_brier(pooled, np.asarray(self.width_T)),
            "survival": curves(pooled.table_GO.sum(axis=0), noise_std * math.sqrt(len(GROUPS))),
        }
        for group, table_O in zip(GROUPS, pooled.table_GO, strict=True):
            found[f"survival:{group}"] = curves(table_O, noise_std)
        return {name: clipped(metric) for name, metric in found.items() if metric is not None}
