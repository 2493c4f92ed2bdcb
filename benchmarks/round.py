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

import argparse
import functools
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from demo import show_demo
from rich.console import Console
from rich.table import Table

from learning.task import load_task
from privacy.he.sum import SumProcess
from privacy.plan import PrivacyRequest
from protocol.jobs import Job, Named, Site
from server.jobs import resolve
from server.launch import Event
from server.requests import EncryptionRequest, EvaluationRequest, JobRequest, TrainingRequest
from simulations.consortium import Consortium, declared, found, hospital_names
from simulations.engine import run_job

Seconds = npt.NDArray[np.float64]
GRADIENTS = "per-record gradients"
REST = "the rest of the coordinator"
ALL = "all"
BEYOND = "all but the gradients"
SHOWN_MS = 0.05
PHASES: dict[str, tuple[str, ...]] = {
    "read records": ("client.hospital:Hospital.split",),
    "build model": (
        "learning.diagnosis:Diagnosis.model",
        "privacy.engine:Engine.__init__",
        "privacy.engine:Engine.load",
    ),
    GRADIENTS: ("privacy.engine:Engine.clipped_sum",),
    "noise and rounding": ("privacy.grid:release",),
    "pack": ("privacy.he.codec:pack",),
    "frame": ("privacy.he.words:frame",),
    "mask": ("privacy.masks:mask",),
    "load keys": ("privacy.cohort_keys:secret_of",),
    "encrypt": ("privacy.he.secret:SecretKey.encrypt",),
    "sign, verify, digest": (
        "protocol.messages:pack",
        "protocol.messages:open_header",
        "protocol.messages:read_body",
    ),
    "move": (
        "server.exchange:Exchange._push",
        "server.exchange:_packet",
        "simulations.inline:InlineGrid._answer",
    ),
    "add": (
        "privacy.he.sum:SumProcess.sum",
        "privacy.he.sum:RemoteSum.add",
        "privacy.he.sum:RemoteSum.residues",
    ),
    "decrypt": ("privacy.he.secret:SecretKey.decrypt",),
    "check": ("privacy.he.words:check",),
    "unpack": ("privacy.he.codec:unpack",),
    "step": ("client.training:total_of", "strategies.fedsgd:FedSgd.step"),
    "tag weights": ("privacy.envelope:weights_tag",),
    "evaluate": ("client.training:evaluation_counts", "client.training:pooled_metrics"),
    "ledger and journal": (
        "privacy.ledger:Ledger.reserve",
        "privacy.ledger:Ledger.record_release",
        "privacy.ledger:Ledger.settle",
        "protocol.journal:Journal.append",
    ),
    "cohort and bundles": (
        "protocol.cohort:Cohort.from_bytes",
        "protocol.cohort:Cohort.to_bytes",
        "protocol.cohort:Cohort.verify",
        "privacy.envelope:make_bundles",
        "privacy.envelope:open_bundle",
    ),
    "admit and guard": ("client.admission:admit", "client.training:check_guards"),
    "the rest of hospitals": ("client.member:Member.answer",),
    "store model": ("client.finish:store_model",),
}
FEATURES = 30


class Phases:
    """Exclusive seconds of each phase since the last `take`, by the wall and of processors.

    Args:
        child: The adding process, whose processor time counts too.
    """

    def __init__(self, child: SumProcess) -> None:
        self._child = os.open(f"/proc/{child.pid}/schedstat", os.O_RDONLY)
        self._begun = np.zeros(2)
        self._stack = [REST]
        self._spent: dict[str, Seconds] = {}

    @contextmanager
    def on(self) -> Iterator[None]:
        """Time the phases' functions while inside."""
        with ExitStack() as stack:
            for phase, places in PHASES.items():
                for owner, name, plain in (p for place in places for p in patches(place)):
                    setattr(owner, name, self._clocked(plain, phase))
                    stack.callback(setattr, owner, name, plain)
            stack.callback(os.close, self._child)
            self.take()
            yield

    def take(self) -> dict[str, Seconds]:
        """Seconds of each phase, wall and processor, of which the next call counts anew."""
        self._switch()
        spent, self._spent = self._spent, {}
        return {name: spent.get(name, np.zeros(2)) for name in (*PHASES, REST)}

    def _switch(self) -> None:
        now = np.array([time.perf_counter(), time.process_time() + self._child_s()])
        self._spent[self._stack[-1]] = self._spent.get(self._stack[-1], 0) + now - self._begun
        self._begun = now

    def _child_s(self) -> float:
        """Processor seconds of the child so far."""
        return int(os.pread(self._child, 64, 0).split()[0]) / 1e9

    def _clocked(self, plain: object, phase: str) -> object:
        if isinstance(plain, classmethod):
            return classmethod(self._timed(plain.__func__, phase))
        return self._timed(cast("Callable[..., Any]", plain), phase)

    def _timed(self, work: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @functools.wraps(work)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._stack.append(phase)
            try:
                return work(*args, **kwargs)
            finally:
                self._switch()
                self._stack.pop()

        return timed


def patches(place: str) -> list[tuple[object, str, object]]:
    """Where a function or method is known under which name: all modules that imported it."""
    module_name, _, path = place.partition(":")
    *classes, name = path.split(".")
    module = import_module(module_name)
    if classes:
        owner = getattr(module, classes[0])
        return [(owner, name, vars(owner)[name])]
    plain = getattr(module, name)
    return [
        (user, alias, plain)
        for user in list(sys.modules.values())
        for alias, value in list(getattr(user, "__dict__", {}).items())
        if value is plain
    ]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one run looks like.

    Args:
        sites: Hospitals.
        parameters: Length of an update, as near as a network with two equal layers comes to it.
        records: Records of each hospital, all of them for training.
        rounds: Rounds.
        evaluate: Rounds between two evaluations; 0 evaluates the finished model only.
        mode: `distributed`, with masks between all pairs of hospitals, or `local`, without any.
    """

    sites: int
    parameters: int
    records: int
    rounds: int
    evaluate: int
    mode: Literal["distributed", "local"] = "distributed"

    @property
    def task(self) -> Named:
        """A dense network: w^2 + (30 + 3) w + 1 parameters in two hidden layers of w."""
        linear = FEATURES + 3
        width = round((math.sqrt(linear**2 + 4 * (self.parameters - 1)) - linear) / 2)
        return Named(name="diagnosis", options={"model": "mlp", "hidden": [max(width, 1)] * 2})

    @property
    def schema(self) -> dict[str, Any]:
        """Thirty numbers and a label."""
        columns = [
            {"name": f"c{index}", "kind": "number", "low": -1, "high": 1}
            for index in range(FEATURES)
        ]
        return {"columns": columns, "label": {"name": "ill", "classes": ["no", "yes"]}}

    def shares(self) -> dict[str, dict[str, list[str]]]:
        """Invented records of every hospital, by column."""
        rng = np.random.Generator(np.random.PCG64(0))
        names = [column["name"] for column in self.schema["columns"]]
        size = (len(names), self.records)
        return {
            site: {
                **{
                    name: [f"{value:.3f}" for value in row]
                    for name, row in zip(names, rng.uniform(-1, 1, size), strict=True)
                },
                "ill": ["yes" if value else "no" for value in rng.integers(0, 2, self.records)],
            }
            for site in hospital_names(self.sites)
        }

    def consortium(self, folder: Path) -> Consortium:
        """The virtual hospitals; a fifth of their records is held out."""
        return found(
            folder,
            self.shares(),
            dataset="bench",
            test_fraction=0.2,
            modes=(self.mode,),
            strategies=("fedsgd", "fedavg"),
            tasks=("diagnosis",),
            noise_seed=None,
            split_seed=0,
        )

    def job(self, consortium: Consortium) -> Job:
        """The job, with every number resolved."""
        sizes = declared(consortium.splits(load_task(self.task, self.schema)))
        request = JobRequest(
            name="bench",
            dataset="bench",
            schema=self.schema,
            task=self.task,
            sites=tuple(Site(name=n, train_size=a, test_size=b) for n, (a, b) in sizes.items()),
            intended_use="measurement",
            privacy=PrivacyRequest(mode=self.mode, epsilon=3.0, evaluation_epsilon=3.0),
            encryption=EncryptionRequest(masks=self.mode == "distributed"),
            training=TrainingRequest(rounds=self.rounds),
            evaluation=EvaluationRequest(every=self.evaluate),
            timeout_s=24 * 3600,
        )
        return resolve(request, consortium.origin())


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


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    cpu = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    )
    packages = ("numpy", "torch", "flwr", "tenseal", "cryptography")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def show(rows: Sequence[dict[str, Any]], limits: dict[str, Any]) -> list[Table | str]:
    table = Table(title="A round of all hospitals together", header_style="")
    table.add_column("phase", no_wrap=True)
    for row in rows:
        size = f"{row['sites']:,} x {row['parameters']:,}"
        table.add_column(f"{size}\nms", justify="right", no_wrap=True)
        table.add_column("\nCPU ms", justify="right", no_wrap=True)
    for name in (*PHASES, REST, ALL, BEYOND):
        times = [1e3 * seconds for row in rows for seconds in row["round"][name]]
        if max(times) >= SHOWN_MS:
            table.add_row(name, *(f"{value:,.1f}" for value in times))
        if name == REST:
            table.add_section()
    for name in rows[0]["exchanges"]:
        if name in ("enrolled", "keys", "round 1", "evaluated", "ended"):
            times = [1e3 * seconds for row in rows for seconds in row["exchanges"][name][ALL]]
            table.add_row(f"({name})", *(f"{value:,.0f}" for value in times))
    for name, key in (("peak MB", "peak_mb"), ("of the adding process", "peak_adding_mb")):
        table.add_row(name, *(cell for row in rows for cell in (f"{row[key]:,.0f}", "")))
    return [table, ", ".join(f"{name} {value}" for name, value in limits.items())]


def main(arguments: Sequence[str]) -> None:
    """Print the table or the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=int, nargs="+", default=[10], help="hospitals")
    parser.add_argument("--parameters", type=int, nargs="+", default=[100_000])
    parser.add_argument("--records", type=int, default=500, help="of each hospital")
    parser.add_argument("--rounds", type=int, default=5, help="at least 2; the first is apart")
    parser.add_argument("--evaluate", type=int, default=0, help="every so many rounds")
    parser.add_argument("--demo", action="store_true", help="the rounds of `make demo` instead")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.demo:
        show_demo("-" if options.json else None)
        return
    if options.rounds < 2:
        parser.error("--rounds must be at least 2")
    torch.set_num_threads(1)
    rows = [
        measure(
            Case(
                sites=sites,
                parameters=parameters,
                records=options.records,
                rounds=options.rounds,
                evaluate=options.evaluate,
            )
        )
        for sites in options.sites
        for parameters in options.parameters
    ]
    if options.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=2))
        return
    for part in show(rows, machine()):
        Console(width=max(90, 32 + 28 * len(rows))).print(part)


if __name__ == "__main__":
    main(sys.argv[1:])
