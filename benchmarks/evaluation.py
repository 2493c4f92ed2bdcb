"""How noisy one private evaluation is: errors that noise adds to pooled metrics, and intervals.

    python benchmarks/evaluation.py [--json [FILE]] [--sites 5] [--epsilon 1] [--trials 500]

Scores are those of a calibrated model: logits are normal, outcomes are drawn from them. Each trial
draws held-out patients, counts them as hospitals do, adds the noise of mode `distributed` with one
hospital that may collude, and reads the metrics. An error is the root mean square distance from
the same patients' metrics without noise; `inside` is how often an interval contains the truth.
The last table has few patients, few of them ill, and no noise: where intervals are at their worst.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report import Row, above_zero, hospitals, how_many, parser_of, publish

from learning.evaluation import ClassEvaluation
from privacy.accounting import calibrate

EVALUATION = ClassEvaluation(("no", "yes"))
NAMES = ("auroc", "auprc", "accuracy", "recall", "brier")
POPULATION = 300_000
SPREAD = 4.6
"""Standard deviation of logits: an AUROC of 0.96."""
RARE_SPREAD, RARE_SHARE, RARE_PATIENTS = 1.5, 0.03, 60


@dataclass(frozen=True)
class Scores:
    """A population that a model scores.

    Args:
        chances: Probabilities of both classes, N x 2.
        outcomes: Classes, N.
    """

    chances: npt.NDArray[np.float64]
    outcomes: npt.NDArray[np.int64]

    @classmethod
    def drawn(cls, rng: np.random.Generator, spread: float, share: float) -> Self:
        """Outcomes with the chances that the model gives them, about `share` of them ill."""
        logit_N = spread * rng.normal(size=POPULATION)
        ordered_N = np.sort(logit_N)
        # The share grows with the shift: the zero of their difference, by halving.
        low, high = -60.0, 60.0
        for _ in range(40):
            middle = (low + high) / 2
            too_few = np.mean(1 / (1 + np.exp(-(ordered_N[::100] + middle)))) < share
            low, high = (middle, high) if too_few else (low, middle)
        chance_N = 1 / (1 + np.exp(-(logit_N + low)))
        ill_N = (rng.random(POPULATION) < chance_N).astype(np.int64)
        return cls(np.stack([1 - chance_N, chance_N], axis=1), ill_N)

    def counts(self, some: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The counts of some patients."""
        return EVALUATION.counts(self.chances[some], self.outcomes[some], np.arange(len(some)))


def trials(
    scores: Scores, patients: int, noise_std: float, number: int, rng: np.random.Generator
) -> Row:
    """A line: errors, widths of the AUROC's interval, how often intervals contain the truth."""
    everybody = np.arange(POPULATION)
    truth = EVALUATION.metrics(scores.counts(everybody))
    errors: dict[str, list[float]] = {name: [] for name in NAMES}
    inside: dict[str, list[bool]] = {name: [] for name in NAMES}
    widths = []
    for _ in range(number):
        counts_E = scores.counts(rng.integers(POPULATION, size=patients))
        noisy_E = counts_E + noise_std * rng.normal(size=EVALUATION.length)
        clean, noisy = EVALUATION.metrics(counts_E), EVALUATION.metrics(noisy_E, noise_std)
        for name in NAMES:
            if name in clean and name in noisy:
                found = noisy[name]
                errors[name].append(found.value - clean[name].value)
                inside[name].append(found.low <= truth[name].value <= found.high)
        if "auroc" in clean and "auroc" in noisy:
            pair = (noisy["auroc"], clean["auroc"])
            widths.append([metric.high - metric.low for metric in pair])
    noisy_width, clean_width = np.median(widths, axis=0).tolist() if widths else (None, None)
    return {
        "patients": patients,
        "auroc_of_all": truth["auroc"].value,
        **{f"{name}_error": root_mean_square(errors[name]) for name in NAMES},
        "auroc_width": noisy_width,
        "auroc_width_without_noise": clean_width,
        **{f"{name}_inside": mean(inside[name]) for name in NAMES},
    }


def mean(values: Sequence[float]) -> float | None:
    """The mean; of a metric that no trial could tell there is none."""
    return float(np.mean(values)) if values else None


def root_mean_square(values: Sequence[float]) -> float | None:
    """The root of the squares' mean, where there are any."""
    return float(np.sqrt(np.mean(np.square(values)))) if values else None


def headings(*, noise: bool) -> dict[str, str]:
    """The columns of a table, with errors of the noise or without."""
    errors = {f"{name}_error": f"error: {name}" for name in NAMES}
    widths = {"auroc_width": "width of auroc", "auroc_width_without_noise": "without noise"}
    inside = {f"{name}_inside": f"inside: {name}" for name in NAMES}
    always = {"patients": "patients", "auroc_of_all": "auroc"}
    return {**always, **errors, **widths} if noise else {**always, **inside}


def main() -> None:
    """Print the tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--sites", type=hospitals, default=5)
    parser.add_argument("--epsilon", type=above_zero, default=1.0)
    parser.add_argument("--patients", type=how_many, nargs="+", default=[254, 1000, 5000])
    parser.add_argument("--trials", type=how_many, default=500)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    trusted = options.sites - 1
    sigma = calibrate(options.epsilon, 1e-5, 1, 1.0) * math.sqrt(options.sites / trusted)
    noise_std, scores = sigma * EVALUATION.norm, Scores.drawn(rng, SPREAD, 0.5)
    rows = [trials(scores, size, noise_std, options.trials, rng) for size in options.patients]
    rare_scores = Scores.drawn(rng, RARE_SPREAD, RARE_SHARE)
    rare = trials(rare_scores, RARE_PATIENTS, 0.0, options.trials, rng)
    publish(
        f"One evaluation of {options.sites} hospitals at epsilon {options.epsilon:g}",
        [*rows, rare] if options.json == "-" else rows,
        target=options.json,
        packages=("numpy",),
        headings=headings(noise=True),
    )
    if options.json != "-":
        title = f"{RARE_SHARE:.0%} of patients ill, no noise"
        publish(title, [rare], target=None, headings=headings(noise=False))


if __name__ == "__main__":
    main()
