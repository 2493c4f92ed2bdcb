"""The accountant beside dp-accounting's privacy-loss distribution: epsilon and milliseconds.

    python benchmarks/accounting.py [--json [FILE]]

Both are pessimistic; dp-accounting runs with its default lattice of 1e-4. Times are medians of five
runs, for dp-accounting of three.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import reduce
from statistics import median

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld
from report import parser_of, publish

from privacy.accounting import Event, epsilon, rdp_epsilon

DELTA = 1e-5
Row = dict[str, str | float]


def fifty(seed: int, sigma: tuple[float, float], most: int) -> list[Event]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return [
        Event(
            float(rng.uniform(*sigma)), float(rng.uniform(0.005, 0.3)), int(rng.integers(1, most))
        )
        for _ in range(50)
    ]


CASES: dict[str, list[Event]] = {
    "q 0.1, sigma 1.5, 500 steps": [Event(1.5, 0.1, 500)],
    "q 0.16, sigma 1.2, 70 steps": [Event(1.2, 0.16, 70)],
    "q 0.01, sigma 0.8, 5000 steps": [Event(0.8, 0.01, 5000)],
    "q 0.05, sigma 4, 200 steps": [Event(4.0, 0.05, 200)],
    "full batch, sigma 26.4, 50 steps": [Event(26.4, 1.0, 50)],
    "full batch, sigma 9.3, 30 steps": [Event(9.3, 1.0, 30)],
    "50 mixed events, little privacy": fifty(1, (0.8, 8), 200),
    "50 mixed events": fifty(2, (2, 10), 100),
    "50 mixed events, much privacy": fifty(3, (5, 20), 30),
}


def timed(work: Callable[[], float], repeats: int) -> tuple[float, float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = work()
        times.append(time.perf_counter() - start)
    return value, 1e3 * median(times)


def by_dp_accounting(events: list[Event]) -> float:
    composed = [
        pld.from_gaussian_mechanism(event.sigma, sampling_prob=event.q).self_compose(event.steps)
        for event in events
    ]
    total = reduce(lambda left, right: left.compose(right), composed)
    return float(total.get_epsilon_for_delta(DELTA))


def row(name: str, events: list[Event]) -> Row:
    ours, ours_ms = timed(lambda: epsilon(events, DELTA), 5)
    theirs, theirs_ms = timed(lambda: by_dp_accounting(events), 3)
    return {
        "events": name,
        "epsilon": ours,
        "ms": ours_ms,
        "dp_accounting_epsilon": theirs,
        "dp_accounting_ms": theirs_ms,
        "difference": ours - theirs,
        "renyi_epsilon": rdp_epsilon(events, DELTA),
        "renyi_epsilon_with_cap": rdp_epsilon(events, DELTA, cap=ours),
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="only the first two cases")
    arguments = parser.parse_args()
    cases = list(CASES.items())[: 2 if arguments.quick else None]
    publish(
        f"Epsilon at delta = {DELTA:g}",
        [row(name, events) for name, events in cases],
        target=arguments.json,
        packages=["fedward", "dp-accounting", "numpy", "scipy"],
        headings={
            "events": "events",
            "epsilon": "epsilon",
            "ms": "ms",
            "dp_accounting_epsilon": "dp-accounting",
            "dp_accounting_ms": "ms",
            "difference": "difference",
            "renyi_epsilon_with_cap": "Rényi, cap",
        },
    )


if __name__ == "__main__":
    main()
