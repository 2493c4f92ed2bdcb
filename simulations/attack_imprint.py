"""Records sorted into the neurons of a layer that the coordinator planted, and read from a sum.

All neurons of the planted layer measure the same direction and differ in their thresholds, and the
layer behind it weighs them alike. A record then moves every neuron below its measure by the same
amount, so the difference of two neighbours' gradients is the sum of the records between their
thresholds: one record, if the bins are fine, however many hospitals' updates were added up.

Nodes build the first weights themselves and check every later sum, so none takes part in this;
`simulations.attack_planting` shows it. The attack goes around both checks.

Source: Fowl et al. 2022, Robbing the Fed, section 3 (imprint module, linear measurements).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from learning.task import Task
from simulations.attack_bench import Bench
from simulations.attack_config import Imprint
from simulations.attack_inversion import first_layer, ratios
from simulations.attack_jobs import Defence, Plan
from simulations.attack_planting import refusals
from simulations.attack_range import Range
from simulations.attack_records import FloatArray, invent, plausible
from simulations.attack_results import Line
from simulations.attack_score import Score, together
from simulations.attack_views import readings, sum_readings
from strategies.base import FloatVector

Watch = Callable[[str], None]
Refused = dict[str, Mapping[str, str]]

SURROGATES = 8192
"""Invented records from which the attacker learns what measures are usual."""
_FAINT = 1e-9  # of the largest: two neurons between which no record lies


def plant(task: Task, rng: np.random.Generator) -> FloatVector:
    """Weights of a network with one hidden layer that sort records by one measure, P values.

    The measure is a random direction. Thresholds are its quantiles over invented records. The layer
    behind weighs every neuron with 1, and the measure is so small that the output stays near zero,
    where every record's loss has a gradient.

    Args:
        task: A `diagnosis` with one hidden layer and two classes.
        rng: A generator with a public seed.
    """
    bins, features = dict(task.layout().entries)["hidden.0.weight"]
    direction_F = rng.normal(size=features)
    measure_N = invent(SURROGATES, rng).x_NF @ direction_F
    threshold_H = np.quantile(measure_N, (np.arange(bins) + 0.5) / bins)
    small = 1.0 / (bins * float(measure_N.std()))
    return task.layout().join(
        {
            "hidden.0.weight": np.tile(small * direction_F, (bins, 1)),
            "hidden.0.bias": -small * threshold_H,
            "output.weight": np.ones((1, bins)),
            "output.bias": np.zeros(1),
        }
    )


def read_bins(task: Task, gradients: Sequence[FloatVector]) -> FloatArray:
    """Records between neighbouring thresholds: M x F, within public bounds.

    Args:
        task: As of `plant`.
        gradients: Readings of an update or a sum that started from planted weights.
    """
    found = []
    for gradient_P in gradients:
        weight_HF, bias_H = first_layer(task.layout(), gradient_P)
        # The topmost bin has no neighbour above.
        weight_HF = -np.diff(weight_HF, axis=0, append=0.0)
        bias_H = -np.diff(bias_H, append=0.0)
        faint_H = np.abs(bias_H) <= _FAINT * np.abs(bias_H).max()
        found.append(ratios(weight_HF[~faint_H], bias_H[~faint_H]))
    return plausible(np.vstack(found))


def imprint(range_: Range, attack: Imprint, watch: Watch) -> tuple[list[Line], Refused]:
    """Read single updates and the sum of all hospitals, from planted weights.

    Returns:
        One line for each kind of reading, and by encrypted defence what a node answers to the
        planting.
    """
    plan = Plan(
        config=range_.config,
        records=attack.records,
        options={"model": "mlp", "hidden": [attack.bins]},
    )
    outcomes: dict[tuple[int, int], dict[Defence, Score]] = {}
    refused: Refused = {}
    truth_NF = np.empty((0, 0))
    for defence in range_.defences:
        watch(f"imprint: {defence.label}")
        rng = range_.rng("imprint")
        bench = next(range_.benches(plan, defence, rng))
        planted_P = plant(bench.task, rng)
        if defence.encrypted:
            refused[defence.label] = refusals(bench, planted_P)
        truth_NF = np.vstack([bench.records[name].x_NF for name in range_.names])
        for key, score in _scores(range_, bench, planted_P, truth_NF).items():
            outcomes.setdefault(key, {})[defence] = score
    lines = [
        Line(
            attack="imprint",
            records=attack.records,
            summed=summed,
            colluders=colluders,
            truth_NF=truth_NF,
            scores=scores,
        )
        for (summed, colluders), scores in outcomes.items()
    ]
    return lines, refused


def _scores(
    range_: Range, bench: Bench, planted_P: FloatVector, truth_NF: FloatArray
) -> dict[tuple[int, int], Score]:
    """Scores by updates in what is read and hospitals on the attacker's side."""
    exchange = bench.exchange(bench.strategy.init(planted_P))
    single = [
        range_.score(bench.records[name].x_NF, read_bins(bench.task, readings(exchange, name)))
        for name in range_.names
    ]
    scores = {(1, 0): together(single)}
    for colluders in (0, 1):
        read = sum_readings(exchange, range_.names[:colluders])
        scores[len(range_.names), colluders] = range_.score(truth_NF, read_bins(bench.task, read))
    return scores
