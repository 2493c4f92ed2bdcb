"""What is counted of one subgroup's scores: a flat histogram for each class of outcome.

Sixteen bins, every other edge of those of everybody's, and no coarser levels beside them: a record
raises one cell for each class or label, so the block's L2 norm is the root of their number. Areas
are blurred more by wider bins, in all subgroups alike: compare them with each other, not with
everybody's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from learning.counting import Raised, raised
from learning.few import enough, told
from learning.histogram import EDGES
from learning.intervals import normal_interval
from learning.label_evaluation import UNKNOWN, states
from learning.metrics import proportion
from learning.scores import binned_auroc
from learning.task import FloatArray, FloatVector, IntVector, Metric

BINS: Final = 16
# An area is not told where a larger share of pairs falls into one bin and so counts half: it would
# be far too small for a model whose scores hardly differ.
MOST_TIED: Final = 1 / 3

_EDGES: Final = EDGES[::2]
_MIDDLES: Final = (_EDGES[1:] + _EDGES[:-1]) / 2
_CALLED: Final = (np.arange(BINS) >= BINS // 2).astype(np.float64)


@dataclass(frozen=True)
class ScoreBlock:
    """Scores of one subgroup.

    With two classes there is one pair of histograms, of more one for each class against the rest
    and how often the likeliest was right, of several labels one for each of them.

    Args:
        names: Classes or labels.
        labels: Whether these are labels of which any may be true or unknown.

    >>> two, three = ScoreBlock(("no", "yes")), ScoreBlock(("a", "b", "c"))
    >>> two.length, round(two.norm**2, 9), three.length, round(three.norm**2, 9)
    (32, 1.0, 98, 4.0)
    """

    names: tuple[str, ...]
    labels: bool = False

    @property
    def _titles(self) -> tuple[str, ...]:
        """Whose histograms they are; the pair of two classes needs no name."""
        return self.names if self.labels or len(self.names) > 2 else ("",)

    @property
    def _judged(self) -> bool:
        """Whether right and wrong answers are counted, too."""
        return not self.labels and len(self.names) > 2

    @property
    def length(self) -> int:
        """Number of cells."""
        return 2 * BINS * len(self._titles) + 2 * self._judged

    @property
    def norm(self) -> float:
        """Largest L2 norm of one record's amounts."""
        return math.nextafter(math.sqrt(len(self._titles) + self._judged), math.inf)

    @property
    def main(self) -> str:
        """Area under the ROC curve; of several the unweighted mean."""
        return "auroc"

    @property
    def bounds(self) -> tuple[float, float]:
        """Where an area can lie."""
        return 0.0, 1.0

    def cells(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> Sequence[Raised]:
        """One cell for each pair of histograms, none where a label is not known."""
        score_NP, state_NP = self._seen(predicted_NC, y_N)
        bin_NP = np.searchsorted(_EDGES[1:-1], score_NP, side="right").astype(np.int64)
        place_NP = (2 * np.arange(score_NP.shape[1]) + np.minimum(state_NP, 1)) * BINS
        found = [raised(state_NP != UNKNOWN, place_NP + bin_NP, np.ones((1, 1)))]
        if self._judged:
            right_N1 = (predicted_NC.argmax(axis=1) == y_N)[:, None].astype(np.int64)
            cell_N1 = 2 * BINS * len(self.names) + right_N1
            found.append(raised(np.ones_like(right_N1), cell_N1, np.ones((1, 1))))
        return found

    def _seen(
        self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]
    ) -> tuple[FloatArray, IntVector]:
        """Score and state (0, 1 or unknown) of each pair, N x P."""
        code_N = np.asarray(y_N, dtype=np.int64)
        if self.labels:
            return predicted_NC, states(code_N, len(self.names))
        if len(self.names) == 2:
            return predicted_NC[:, 1:], code_N[:, None]
        return predicted_NC, (code_N[:, None] == np.arange(len(self.names))).astype(np.int64)

    def metrics(self, counts_B: FloatVector, noise_std: float) -> dict[str, Metric]:
        """Metrics of the subgroup as the whole's are named; those of too few are left out."""

        def noise(gradient: FloatArray) -> float:
            return noise_std**2 * float((gradient**2).sum())

        pair_P2B = counts_B[: 2 * BINS * len(self._titles)].reshape(-1, 2, BINS)
        decided = not self._judged
        each = [_pair(bin_2B, noise, decided=decided) for bin_2B in pair_P2B]
        if self._titles == ("",):
            return each[0]
        found = {
            f"{name}:{title}": metric
            for title, metrics in zip(self._titles, each, strict=True)
            for name, metric in metrics.items()
        }
        areas = [metrics["auroc"] for metrics in each if "auroc" in metrics]
        if len(areas) == len(each):
            rows = np.array([(one.value, one.low, one.high) for one in areas])
            found["auroc"] = Metric(*(float(mean) for mean in rows.mean(axis=0)))
        if self._judged:
            judged_2 = counts_B[-2:]
            if enough(float(judged_2.sum()), noise(np.ones(2)) ** 0.5):
                share = proportion(judged_2, np.array([0.0, 1.0]), np.ones(2), noise)
                found |= told({"accuracy": share})
        return found


def _pair(
    bin_2B: FloatArray, noise: Callable[[FloatArray], float], *, decided: bool
) -> dict[str, Metric]:
    """Metrics of one pair of histograms.

    Args:
        bin_2B: Negative and positive records by bin of their score.
        noise: Variance of the noise of a quantity, from its gradient in the counts.
        decided: Whether a score of at least 1/2 means yes.
    """
    ones_2B, zero_B, one_B = np.ones_like(bin_2B), np.zeros(BINS), np.ones(BINS)
    negatives, positives = (float(one) for one in bin_2B.sum(axis=1))
    deviation = noise(one_B) ** 0.5
    sick, well = enough(positives, deviation), enough(negatives, deviation)
    yes_2B, no_2B = np.stack([zero_B, one_B]), np.stack([one_B, zero_B])
    found: dict[str, Metric | None] = {}
    tied = float(bin_2B[0] @ bin_2B[1])
    if sick and well and tied <= MOST_TIED * negatives * positives:
        found["auroc"] = binned_auroc(bin_2B, noise)
    if sick and decided:
        found["recall"] = proportion(bin_2B, np.stack([zero_B, _CALLED]), yes_2B, noise)
    if well and decided:
        found["specificity"] = proportion(bin_2B, np.stack([1 - _CALLED, zero_B]), no_2B, noise)
    if enough(negatives + positives, noise(ones_2B) ** 0.5):
        found["predicted"] = _predicted(bin_2B, noise)
        found["observed"] = proportion(bin_2B, yes_2B, ones_2B, noise)
    return told(found)


def _predicted(bin_2B: FloatArray, noise: Callable[[FloatArray], float]) -> Metric:
    """Mean score, every one taken for its bin's middle."""
    total = float(bin_2B.sum())
    value = float((bin_2B @ _MIDDLES).sum()) / total
    spread = float((bin_2B @ (_MIDDLES - value) ** 2).sum()) / total
    gradient_2B = np.stack([(_MIDDLES - value) / total] * 2)
    return normal_interval(value, max(spread, 0.0) / total + noise(gradient_2B))
