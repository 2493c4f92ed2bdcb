"""The exact discrete Gaussian beside OpenDP's: milliseconds per 100,000 values.

    python benchmarks/noise.py [--json FILE] [--values 100000]

Both sample the same distribution without error from the operating system's entropy; OpenDP decides
every candidate with big integers, this project only those that floating point leaves open.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import opendp.prelude as dp
from rich.console import Console
from rich.table import Table

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
            {"draw": f"discrete Gaussian, sigma {sigma:g}", "ms": ours, "opendp_ms": theirs}
        )
    x = np.random.Generator(np.random.PCG64(0)).normal(0, 1e4, values)
    coins = milliseconds(lambda: stochastic_round(x, entropy), 15)
    batch = milliseconds(lambda: poisson_sample(values, 0.1, entropy), 15)
    found.append({"draw": "stochastic rounding", "ms": coins})
    found.append({"draw": "Poisson batch", "ms": batch})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the rows to a file")
    parser.add_argument("--values", type=int, default=100_000)
    arguments = parser.parse_args()
    found = rows(arguments.values)
    table = Table(title=f"{arguments.values:,} values")
    for heading in ("draw", "ms", "OpenDP ms", "times faster"):
        table.add_column(heading, justify="left" if heading == "draw" else "right")
    for row in found:
        ours, theirs = float(row["ms"]), float(row.get("opendp_ms", 0))
        beside = (f"{theirs:,.0f}", f"{theirs / ours:,.0f}") if theirs else ("", "")
        table.add_row(str(row["draw"]), f"{ours:.1f}", *beside)
    Console(width=100).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
