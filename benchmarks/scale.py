"""How a simulated job grows with its hospitals: seconds, peak memory, and their exponents.

    OMP_NUM_THREADS=1 python benchmarks/scale.py [--json [FILE]] [--sites 10 30 100] ...

Every size is a run of its own in a fresh process: real keys, ledgers, signatures and ciphertexts of
all hospitals, one after the other. Seconds are of processors, all hospitals together; `wall s` is
the whole run by the clock. An exponent is the slope of the straight line through the logarithms, by
least squares; that of the memory is of what comes on top of the libraries.
In mode `distributed` every pair of hospitals agrees on a mask, so work grows with the square in the
end; mode `local` without masks does not. Sizes above a hundred are for who asks for them:
`--mode local --sites 100 300 1000`; ten thousand take hours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from case import Case
from report import Row, from_on, hospitals, how_many, parser_of, publish, refusing
from round import ALL, measure, peak_mb

HEADINGS = {
    "sites": "hospitals",
    "parameters": "parameters",
    "enrol_s": "enrol s",
    "keys_s": "keys s",
    "first_s": "first round s",
    "round_s": "round s",
    "job_s": "job s",
    "wall_s": "wall s",
    "peak_mb": "peak MB",
    "grown_mb": "of hospitals MB",
    "adding_mb": "adding MB",
}
FITTED = {"round_s": "a round's seconds", "job_s": "a job's seconds", "grown_mb": "memory"}


def one(case: Case) -> dict[str, float]:
    """Seconds and megabytes of one run in this process."""
    torch.set_num_threads(1)
    libraries_mb = peak_mb(os.getpid())
    run = measure(case)
    exchanges = {name: spent[ALL][1] for name, spent in run["exchanges"].items()}
    return {
        "sites": run["sites"],
        "parameters": run["parameters"],
        "enrol_s": exchanges["enrolled"],
        "keys_s": exchanges["keys"],
        "first_s": exchanges["round 1"],
        "round_s": run["round"][ALL][1],
        "job_s": sum(exchanges.values()),
        "wall_s": run["found_s"] + run["run_s"],
        "peak_mb": run["peak_mb"],
        "grown_mb": run["peak_mb"] - libraries_mb,
        "adding_mb": run["peak_adding_mb"],
    }


def apart(case: Case) -> dict[str, float]:
    """`one` in a fresh process, whose peak is of this size alone."""
    command = [sys.executable, __file__, "--one", json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-4000:].rstrip(), file=sys.stderr)
        raise SystemExit(done.returncode)
    row: dict[str, float] = json.loads(done.stdout)
    # Large sizes take long: what is known by then is not lost with the rest.
    print(f"{case.sites} hospitals: {done.stdout.strip()}", file=sys.stderr)
    return row


def exponent(rows: Sequence[Row], key: str) -> float:
    """The slope of a column's logarithm over that of the hospitals, by least squares.

    >>> rows = [{"sites": 10, "job_s": 2.0}, {"sites": 100, "job_s": 200.0}]
    >>> round(exponent(rows, "job_s"), 6)
    2.0
    """
    sites, values = (np.array([row[name] for row in rows], float) for name in ("sites", key))
    return float(np.polyfit(np.log(sites), np.log(values), 1)[0])


def fitted(rows: Sequence[Row]) -> str:
    """The line of exponents."""
    parts = (f"{what} {exponent(rows, key):.2f}" for key, what in FITTED.items())
    return f"Exponents fitted from {len(rows)} sizes: {', '.join(parts)}"


def main() -> None:
    """Print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--sites", type=hospitals, nargs="+", default=[10, 30, 100])
    parser.add_argument("--parameters", type=how_many, default=1000)
    parser.add_argument("--records", type=how_many, default=50, help="of each hospital")
    parser.add_argument("--rounds", type=from_on(2), default=3, help="the first is apart")
    parser.add_argument("--mode", choices=("distributed", "local"), default="distributed")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        with refusing(parser):
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
        for sites in sorted({*arguments.sites})
    ]
    rows = [apart(case) for case in cases]
    publish(
        f"A job in mode {arguments.mode}, all hospitals together",
        rows,
        target=arguments.json,
        packages=("numpy", "torch", "flwr", "tenseal", "cryptography"),
        headings=HEADINGS,
        notes=[fitted(rows)] if len(rows) > 1 else [],
    )


if __name__ == "__main__":
    main()
