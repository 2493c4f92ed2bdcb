"""Where the time of a simulated round goes: every phase of a real run, hospital by hospital.

    OMP_NUM_THREADS=1 python benchmarks/round.py [--json] [--sites 10] [--parameters 100000] ...

Virtual hospitals run a job in mode `distributed` from enrolment to the finished model, with masks,
encryption, ledgers, journals, signatures and a counting of held-out patients at the end, or every
so many rounds. Nothing is imitated: the
functions of the run are wrapped in a clock, and each phase is what passes inside its functions less
what passes inside other phases, so that the phases add up to the round. Times are of all hospitals
together, one after the other in this process, and medians of the rounds after the first, which
also verifies the cohort, opens the keys and reads the records. CPU time, with that of the adding
process, is what counts on a machine that others use too; it leaves out waiting for the disk.
What is the same for all virtual hospitals of a process, the decryption of one sum with one key
above all, is computed once for all of them; each checks the sum and steps by itself.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from case import Case
from demo import show_demo
from phases import GRADIENTS, PHASES, REST, Phases, Seconds
from report import Row, from_on, hospitals, how_many, parser_of, publish, refusing

from privacy.he.sum import SumProcess
from server.launch import Event
from simulations.engine import run_job

ALL = "all"
BEYOND = "all but the gradients"
SHOWN_MS = 0.05
APART = ("enrolled", "keys", "round 1", "evaluated", "ended")
HEADINGS = {
    "sites": "hospitals",
    "parameters": "parameters",
    "phase": "phase",
    "ms": "ms",
    "cpu_ms": "CPU ms",
}


def measure(case: Case) -> dict[str, Any]:
    """One run: seconds of every exchange and of the phases of a median round."""
    exchanges: list[tuple[Event, dict[str, Seconds]]] = []
    with tempfile.TemporaryDirectory() as folder, SumProcess() as child:
        begun = time.perf_counter()
        consortium = case.consortium(Path(folder) / "consortium")
        job = case.job(consortium)
        founded = time.perf_counter()
        phases = Phases(child)
        with phases.on():
            outcome = run_job(
                consortium,
                job,
                child=child,
                watch=lambda event: exchanges.append((event, phases.take())),
            )
        ended = time.perf_counter()
        adding_mb = peak_mb(child.pid)
    if outcome.status != "completed":
        raise SystemExit(f"the run failed: {outcome.reason} {dict(outcome.refusals)}")
    every = [(event, spent) for event, spent in exchanges if event.kind == "round"]
    return {
        "sites": case.sites,
        "parameters": job.privacy.update.length,
        "records": case.records,
        "rounds": case.rounds,
        "evaluate": case.evaluate,
        "found_s": founded - begun,
        "run_s": ended - founded,
        "bytes_up": every[-1][0].bytes_up,
        "bytes_down": every[-1][0].bytes_down,
        "peak_mb": peak_mb(os.getpid()),
        "peak_adding_mb": adding_mb,
        "exchanges": {
            event.kind + (f" {event.round}" if event.kind == "round" else ""): as_row(spent)
            for event, spent in exchanges
        },
        "round": as_row(
            {
                name: np.median([spent[name] for event, spent in every if event.round > 1], axis=0)
                for name in every[0][1]
            }
        ),
    }


def as_row(spent: dict[str, Seconds]) -> dict[str, Any]:
    """Phases and their sums; wall seconds first, processor seconds second."""
    total = sum(spent.values(), np.zeros(2))
    beyond = total - spent[GRADIENTS]
    return {
        **{name: seconds.tolist() for name, seconds in spent.items()},
        ALL: total.tolist(),
        BEYOND: beyond.tolist(),
    }


def peak_mb(pid: int | None) -> float:
    """Highest resident memory of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def rows_of(run: Mapping[str, Any]) -> Iterator[Row]:
    """A line for each phase of a median round that takes time, and for the other exchanges."""
    apart = {name: spent[ALL] for name, spent in run["exchanges"].items() if name in APART}
    times = {
        **{name: run["round"][name] for name in (*PHASES, REST, ALL, BEYOND)},
        **{f"({name})": seconds for name, seconds in apart.items()},
    }
    for name, (wall_s, cpu_s) in times.items():
        if 1e3 * max(wall_s, cpu_s) >= SHOWN_MS:
            yield {
                "sites": run["sites"],
                "parameters": run["parameters"],
                "phase": name,
                "ms": 1e3 * wall_s,
                "cpu_ms": 1e3 * cpu_s,
            }


def note_of(run: Mapping[str, Any]) -> str:
    """What was run, and what it took beside time."""
    return (
        f"{run['sites']} hospitals of {run['records']} records, {run['parameters']:,} parameters: "
        f"{run['bytes_up']:,} bytes up and {run['bytes_down']:,} down in a round; peak "
        f"{run['peak_mb']:,.0f} MB, of the adding process {run['peak_adding_mb']:,.0f} MB"
    )


def main() -> None:
    """Print the table or the JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--sites", type=hospitals, nargs="+", default=[10], help="hospitals")
    parser.add_argument("--parameters", type=how_many, nargs="+", default=[100_000])
    parser.add_argument("--records", type=how_many, default=500, help="of each hospital")
    parser.add_argument("--rounds", type=from_on(2), default=5, help="the first is apart")
    parser.add_argument("--evaluate", type=from_on(0), default=0, help="every so many rounds")
    parser.add_argument("--demo", action="store_true", help="the rounds of `make demo` instead")
    options = parser.parse_args()
    if options.demo:
        show_demo(options.json)
        return
    torch.set_num_threads(1)
    cases = [
        Case(
            sites=sites,
            parameters=parameters,
            records=options.records,
            rounds=options.rounds,
            evaluate=options.evaluate,
        )
        for sites in options.sites
        for parameters in options.parameters
    ]
    with refusing(parser):
        runs = [measure(case) for case in cases]
    publish(
        "A median round of all hospitals together; in brackets what a job does once",
        [row for run in runs for row in rows_of(run)],
        target=options.json,
        packages=("numpy", "torch", "flwr", "tenseal", "cryptography"),
        headings=HEADINGS,
        notes=[note_of(run) for run in runs],
    )


if __name__ == "__main__":
    main()
