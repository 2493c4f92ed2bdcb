"""The exact discrete Gaussian beside OpenDP's: milliseconds per 100,000 values.

    python benchmarks/noise.py [--json [FILE]] [--values 100000]

Both sample the same distribution without error from the operating system's entropy; OpenDP decides
every candidate with big integers, this project only those that floating point leaves open.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import opendp.prelude as dp
from report import how_many, parser_of, publish

from privacy.noise import SystemEntropy, discrete_gaussian, poisson_sample, stochastic_round

SIGMAS = (1.0, 32.0, 1e3, 1e6)
OPENDP_VALUES = 5_000
"""OpenDP is timed on fewer values; its cost is proportional to their number."""


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)


def opendp_ms(sigma: float, values: int) -> float:
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float)
    sampler = dp.m.make_gaussian(*space, scale=sigma)
    zeros = [0] * OPENDP_VALUES
    return milliseconds(lambda: sampler(zeros), 3) * values / OPENDP_VALUES


def rows(values: int) -> list[dict[str, float | str]]:
    entropy = SystemEntropy()
    found: list[dict[str, float | str]] = []
    for sigma in SIGMAS:
        ours = milliseconds(partial(discrete_gaussian, sigma, values, entropy), 15)
        theirs = opendp_ms(sigma, values)
        found.append(
            {
                "draw": f"discrete Gaussian, sigma {sigma:g}",
                "ms": ours,
                "opendp_ms": theirs,
                "times_faster": theirs / ours,
            }
        )
    x = np.random.Generator(np.random.PCG64(0)).normal(0, 1e4, values)
    coins = milliseconds(lambda: stochastic_round(x, entropy), 15)
    batch = milliseconds(lambda: poisson_sample(values, 0.1, entropy), 15)
    found.append({"draw": "stochastic rounding", "ms": coins})
    found.append({"draw": "Poisson batch", "ms": batch})
    return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--values", type=how_many, default=100_000)
    arguments = parser.parse_args()
    publish(
        f"Medians for {arguments.values:,} values",
        rows(arguments.values),
        target=arguments.json,
        packages=["fedward", "opendp", "numpy"],
        headings={
            "draw": "draw",
            "ms": "ms",
            "opendp_ms": "OpenDP ms",
            "times_faster": "times faster",
        },
    )


if __name__ == "__main__":
    main()
