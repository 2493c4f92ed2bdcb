"""How a simulated job grows with the number of hospitals: seconds and peak memory, and exponents.

    OMP_NUM_THREADS=1 python benchmarks/scale.py [--json [FILE]] [--sites 10 100 1000] ...

Every size is a run of its own in a fresh process: real keys, ledgers, signatures and ciphertexts of
all hospitals, one after the other. `exponent` is the slope of the logarithm of a round's processor
seconds against that of the hospitals, from the size before. In mode `distributed` every pair of
hospitals agrees on a mask, so work grows with their square in the end; mode `local` without masks
does not.
Ten thousand hospitals are for who asks for them: `--mode local --sites 1000 10000`.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from report import Row, parser_of, publish
from round import ALL, Case, measure

HEADINGS = {
    "sites": "hospitals",
    "parameters": "parameters",
    "found_s": "found s",
    "enrol_s": "enrol s",
    "keys_s": "keys s",
    "first_s": "first round s",
    "round_s": "round s",
    "cpu_s": "CPU s",
    "exponent": "exponent",
    "peak_mb": "peak MB",
    "adding_mb": "adding MB",
}


def one(case: Case) -> dict[str, float]:
    """Seconds and megabytes of one run in this process."""
    torch.set_num_threads(1)
    run = measure(case)
    wall_s, cpu_s = run["round"][ALL]
    exchanges = run["exchanges"]
    return {
        "sites": run["sites"],
        "parameters": run["parameters"],
        "found_s": run["found_s"],
        "enrol_s": exchanges["enrolled"][ALL][0],
        "keys_s": exchanges["keys"][ALL][0],
        "first_s": exchanges["round 1"][ALL][0],
        "round_s": wall_s,
        "cpu_s": cpu_s,
        "peak_mb": run["peak_mb"],
        "adding_mb": run["peak_adding_mb"],
    }


def apart(case: Case) -> dict[str, float]:
    """`one` in a fresh process, whose peak is of this size alone."""
    command = [sys.executable, __file__, "--one", json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    row: dict[str, float] = json.loads(done.stdout)
    return row


def slope(small: dict[str, float], large: dict[str, float]) -> float:
    """The exponent between two sizes.

    >>> slope({"sites": 10, "cpu_s": 1.0}, {"sites": 100, "cpu_s": 100.0})
    2.0
    """
    return math.log(large["cpu_s"] / small["cpu_s"]) / math.log(large["sites"] / small["sites"])


def with_exponents(rows: Sequence[dict[str, float]]) -> list[Row]:
    """The rows, each with the exponent from the one before."""
    slopes = [None, *(slope(small, large) for small, large in pairwise(rows))]
    return [{**row, "exponent": value} for row, value in zip(rows, slopes, strict=True)]


def main() -> None:
    """Print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--parameters", type=int, default=1000)
    parser.add_argument("--records", type=int, default=50, help="of each hospital")
    parser.add_argument("--rounds", type=int, default=3, help="at least 2; the first is apart")
    parser.add_argument("--mode", choices=("distributed", "local"), default="distributed")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(Case(**json.loads(arguments.one)))))
        return
    cases = [
        Case(
            sites=sites,
            parameters=arguments.parameters,
            records=arguments.records,
            rounds=arguments.rounds,
            evaluate=0,
            mode=arguments.mode,
        )
        for sites in sorted(arguments.sites)
    ]
    publish(
        f"A job in mode {arguments.mode}, all hospitals together",
        with_exponents([apart(case) for case in cases]),
        target=arguments.json,
        packages=("numpy", "torch", "flwr", "tenseal", "cryptography"),
        headings=HEADINGS,
    )


if __name__ == "__main__":
    main()
