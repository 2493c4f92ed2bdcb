"""Rounds over real connections: seconds beside Flower's own nodes, and memory beside plain arrays.

    python benchmarks/federation.py [--quick] [--json [FILE]]

Three hospitals on loopback, over TLS, with our coordinator and nodes: ten rounds of a tiny model,
then a job of ten million parameters. Then Flower's own SuperLink and SuperNodes, with the same
keys: the same small job, by a ClientApp that opens the hospital for each message, and plain arrays
of as many bytes as the large job's messages had.

Growth is a process tree's peak with large messages less the same tree's with small ones, so what
programs and imports take is in neither. What training takes, measured in a process that does
nothing else, is taken off our nodes' growth, as plain arrays are not trained, and so is the model
that a node holds between messages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml
from footprint import Watch, processor_s, runs
from loopback import (
    NAMES,
    Place,
    flowers,
    found,
    ours,
    run_ours,
    submit,
    wait_for,
    wait_for_run,
)
from report import Row, machine, parser_of, publish, versions
from stock import bundle_text

from protocol.bundle import SignedJob
from server.archive import Archive
from server.job_folder import JobFolder
from server.jobs import Origin, resolve
from server.launch import Event
from server.requests import read_request

RECORDS, DATASET = 20, "measured"
LIMIT_S = 3600.0
OTHER_MESSAGES = 3
"""Enrolment, the end of training and the end of the job, beside the rounds."""
PACKAGES = ("fedward", "flwr", "torch")
ROUNDS = "A round of a small model: medians; seconds at one node; bytes of one hospital"
PHASES = "A job with a large model: seconds at one node, bytes of all, growth of memory in MB"
MEMORY = "Growth of memory beside plain arrays of the same bytes, in MB"
PARTS = ("arriving", "answering", "replying")
FRUGAL = {f"MALLOC_{name}": value for name, value in (
    ("ARENA_MAX", "1"), ("MMAP_THRESHOLD_", "65536"), ("TRIM_THRESHOLD_", "65536"),
)}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured.

    Args:
        rounds: Rounds of the small job at our nodes.
        flower_rounds: The same at Flower's own, which are slower.
        hidden: Widths of the large model's layers.
    """

    rounds: int
    flower_rounds: int
    hidden: tuple[int, ...]


FULL = Sizes(rounds=10, flower_rounds=3, hidden=(3160, 3160))
QUICK = Sizes(rounds=2, flower_rounds=1, hidden=(100, 100))


def hospital(name: str, base: Path) -> dict[str, object]:
    """A hospital's configuration over records that are made here."""
    rng = np.random.Generator(np.random.PCG64(NAMES.index(name)))
    doses, ills = rng.uniform(-1, 1, RECORDS), rng.integers(0, 2, RECORDS)
    lines = [f"{dose:.4f},{'yes' if ill else 'no'}" for dose, ill in zip(doses, ills, strict=True)]
    path = base / f"{name}.csv"
    path.write_text("\n".join(["dose,ill", *lines]) + "\n", encoding="utf-8")
    source = {"kind": "csv", "path": str(path)}
    budget = {"epsilon": 1000.0, "epsilon_worst": 1000.0, "delta": 1e-5}
    return {
        "datasets": {DATASET: {"source": source, "population": "made", "test_fraction": 0.0}},
        "populations": {"made": {"public": True, "budget": budget}},
        "policy": {
            "tasks": ["diagnosis"],
            "strategies": ["fedavg"],
            "modes": ["local"],
            "epsilon_per_job": 100.0,
            "epsilon_worst_per_job": 100.0,
            "delta": 1e-5,
            "max_parameters": 20_000_000,
        },
        "node": {"disk_mb": 1024, "threads": 1},
    }


def job(path: Path, hidden: Sequence[int], rounds: int) -> Path:
    """A job's file: mode `local`, masks and encryption as they come."""
    document = {
        "name": path.stem,
        "dataset": DATASET,
        "intended_use": "measurement",
        "task": {"name": "diagnosis", "options": {"model": "mlp", "hidden": list(hidden)}},
        "sites": [{"name": name, "train_size": RECORDS, "test_size": 10} for name in NAMES],
        "privacy": {"mode": "local", "epsilon": 3.0},
        "training": {"rounds": rounds},
        "evaluation": {"enabled": False},
        "timeout_s": 1800,
        "schema": {
            "columns": [{"name": "dose", "kind": "number", "low": -1, "high": 1}],
            "label": {"name": "ill", "classes": ["no", "yes"]},
        },
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


# -- runs -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one kind of nodes showed.

    Args:
        small: The small job.
        watch: Samples of the coordinator's tree and of one node's.
        calm: When the small messages began that large ones are compared with, Unix time.
        turn: When messages began to be large, Unix time.
        large: The large job; for Flower's own nodes the small one again.
        own_s: Processor seconds of the small job at one node outside Flower's programs.
    """

    small: JobFolder
    watch: Watch
    calm: float
    turn: float
    large: JobFolder
    own_s: float = 0.0

    def growth(self, tree: str, begin: float = 0.0, end: float = float("inf")) -> int:
        """Bytes that large messages cost a tree, of those between two times."""
        found = self.watch.trees[tree]
        largest = found.peak(max(begin, self.turn), end).total
        return largest - found.peak(self.calm, self.turn).total


def _watched(roots: Mapping[str, int]) -> dict[str, int]:
    """The coordinator and one node; the others do the same, and looking takes time too."""
    return {name: roots[name] for name in ("coordinator", NAMES[0])}


def run_our_nodes(place: Place, sizes: Sizes) -> Measured:
    """The small job, then the large one."""
    small = job(place.base / "small.yaml", [4], sizes.rounds)
    large = job(place.base / "large.yaml", sizes.hidden, 1)
    with ours(place) as roots, Watch(_watched(roots)) as watch:
        before = processor_s(roots[NAMES[0]], without="flower-supernode")
        first = run_ours(place, small)
        own_s = processor_s(roots[NAMES[0]], without="flower-supernode") - before
        turn = time.time()
        second = run_ours(place, large)
    return Measured(small=first, watch=watch, calm=0.0, turn=turn, large=second, own_s=own_s)


def run_flowers_nodes(place: Place, sizes: Sizes, large: JobFolder) -> Measured:
    """The small job, small arrays, then arrays of the large job's bytes."""
    with flowers(place) as roots, Watch(_watched(roots)) as watch:
        kept = keep(place, job(place.base / "small-flower.yaml", [4], sizes.flower_rounds))
        signed = SignedJob(job=kept.job.to_bytes(), signature=kept.signature)
        apps = ("server.launched:app", "stock:hospital_app")
        run = submit(place, bundle_text("hospital", *apps, {"job": signed.to_text()}))
        wait_for_run(place, run, LIMIT_S)
        # Its processes imported more than those that only move arrays.
        calm = settle(roots)
        move(place, {"down": 1000, "up": 1000}, "small")
        turn = settle(roots)
        move(place, _bytes(large), "large")
    return Measured(small=kept, watch=watch, calm=calm, turn=turn, large=kept)


def settle(roots: Mapping[str, int]) -> float:
    """Wait until no app of a run that is over is left; Unix time."""
    wait_for(lambda: not any(runs(root, "flwr-") for root in roots.values()), LIMIT_S)
    return time.time()


def _bytes(kept: JobFolder) -> dict[str, int]:
    """Bytes of a hospital's update, and of the sum that it gets."""
    events = {event.kind: event for event in kept.events()}
    return {
        "up": events["round"].bytes_up // len(NAMES),
        "down": events["finished"].bytes_down // len(NAMES),
    }


def keep(place: Place, path: Path) -> JobFolder:
    """Sign a job and keep it, for a run that is not started by our service."""
    folder = place.folder
    key = folder.load_key()
    origin = Origin(
        coordinator=key.fingerprint,
        roster=folder.load_roster(key.fingerprint).digest,
        now=datetime.now(UTC),
    )
    resolved = resolve(read_request(path), origin)
    return Archive(folder.jobs).create(resolved, key.sign("job", resolved.to_bytes()))


def move(place: Place, config: Mapping[str, int], name: str) -> None:
    """Move plain arrays down to every node and up from each."""
    apps = ("stock:plain_server", "stock:plain_client")
    told: dict[str, str | int] = {
        "times": str(place.base / f"plain-{name}"),
        "nodes": len(NAMES),
        "rounds": 1,
    }
    run = submit(place, bundle_text(f"plain-{name}", *apps, {**config, **told}))
    wait_for_run(place, run, LIMIT_S)


def training_growth(place: Place, small: JobFolder, large: JobFolder) -> dict[str, int]:
    """Bytes by kind of event that a process grows by when it trains the large model alone."""
    less, more = _training(place, small), _training(place, large)
    return {kind: more[kind] - less[kind] for kind in more}


def _training(place: Place, kept: JobFolder) -> dict[str, int]:
    command = [sys.executable, __file__, "--training", str(place.config(NAMES[0])), str(kept.path)]
    environment = os.environ | FRUGAL
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def train_alone(config: Path, path: Path) -> dict[str, int]:
    """Check, train and step as a node does, without messages; peak resident bytes of each.

    While a node only waits, what it is granted is what this process holds then: the model.
    """
    from client.admission import Admitted  # noqa: PLC0415 - in a process of its own
    from client.hospital import Hospital  # noqa: PLC0415
    from client.training import Local, check_guards, contribution, total_of  # noqa: PLC0415
    from learning.task import load_task  # noqa: PLC0415
    from privacy.plan import DpPlan  # noqa: PLC0415
    from strategies.base import strategy_of  # noqa: PLC0415

    asked = JobFolder(path).job
    task = load_task(asked.task, asked.schema)
    strategy = strategy_of(asked, task.layout().size)
    admitted = Admitted(asked, task, strategy)
    state = strategy.init(task.initial(asked.training.seed))
    check_guards(admitted)
    peaks = {"enrolled": _peak(), "keys": _resident()}
    with Hospital.open(config) as here:
        local = Local(
            admitted=admitted,
            site=here.name,
            plan=DpPlan.of(asked.privacy, "train", len(asked.sites)),
            records=here.split(asked.dataset, task, cache="").train,
            entropy=here.entropy(asked.dataset),
        )
        values = contribution(local, state)
    peaks["round"] = _peak()
    state = strategy.step(state, total_of(asked, values, [here.name], strategy.contribution))
    peaks["finished"] = _peak()
    del values
    peaks["ended"] = _resident()
    return peaks


def _peak() -> int:
    """Peak resident bytes since the last call."""
    found = _status("VmHWM")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return found


def _resident() -> int:
    """Resident bytes now."""
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))


# -- tables ---------------------------------------------------------------------------------------


def rounds_of(kept: JobFolder) -> list[Event]:
    """The rounds of a job that was completed."""
    return [event for event in kept.events() if event.kind == "round"]


def small_rows(place: Place, mine: Measured, theirs: Measured) -> list[Row]:
    """Medians of a round of the small job, and where it goes at one node."""
    digest = mine.small.digest[:12]
    answers = [one for one in answers_of(place, digest) if one["kind"] == "step"]
    parts = {name: median(one[name] for one in answers) for name in PARTS}
    times = [json.loads(line) for line in (place.base / NAMES[0] / "times").open()]
    own = {
        "arriving": median(one["called"] - one["began"] for one in times),
        "answering": median(one["answered"] - one["called"] for one in times),
    }
    count = len(rounds_of(mine.small)) + OTHER_MESSAGES
    return [
        {"nodes": "ours", **_round_row(mine.small), **parts, "processor_s": mine.own_s / count},
        {"nodes": "Flower's own", **_round_row(theirs.small), **own},
    ]


def _round_row(kept: JobFolder) -> dict[str, float | int]:
    rounds = rounds_of(kept)
    return {
        "rounds": len(rounds),
        "round_s": median(one.seconds for one in rounds),
        "bytes_up": rounds[-1].bytes_up // len(NAMES),
        "bytes_down": rounds[-1].bytes_down // len(NAMES),
    }


def answers_of(place: Place, digest: str) -> list[dict[str, Any]]:
    """What one node noted of each message of a job."""
    found, kind = [], ""
    for line in place.log(NAMES[0]):
        if line.get("job") == digest:
            kind = line["kind"]
        elif line["text"] == "answered" and kind:
            found.append({**line, "kind": kind})
            kind = ""
    return found


def phase_rows(place: Place, mine: Measured, training: Mapping[str, int]) -> list[Row]:
    """Each exchange of the large job: seconds, bytes, and memory beside training alone."""
    kinds = {"enrolled": "enrol", "keys": "make-keys", "round": "step", "finished": "step"}
    noted = answers_of(place, mine.large.digest[:12])
    rows: list[Row] = []
    for event in mine.large.events():
        begin = event.at - event.seconds
        kind = kinds.get(event.kind, "stop")
        mark = next((one for one in noted if one["kind"] == kind), None)
        if mark is not None:
            noted = noted[noted.index(mark) + 1 :]
        node = mine.growth(NAMES[0], begin, event.at)
        rows.append(
            {
                "phase": event.kind,
                "seconds": event.seconds,
                "first_s": min(event.arrivals.values()),
                **_parts(mark),
                "up_mb": event.bytes_up / 1e6,
                "down_mb": event.bytes_down / 1e6,
                "coordinator_mb": mine.growth("coordinator", begin, event.at) / 1e6,
                "node_mb": node / 1e6,
                "training_mb": training.get(event.kind, 0) / 1e6,
                "beyond_mb": (node - training.get(event.kind, 0)) / 1e6,
            }
        )
    return rows


def _parts(answer: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Seconds of one answer; nothing where the node was not asked."""
    return {name: None if answer is None else float(answer[name]) for name in PARTS}


def memory_rows(mine: Measured, theirs: Measured, phases: Sequence[Row]) -> list[Row]:
    """Growth beside plain arrays of the same bytes."""
    beyond = max(float(row["beyond_mb"] or 0) for row in phases)
    pairs = {
        "coordinator": (mine.growth("coordinator") / 1e6, theirs.growth("coordinator") / 1e6),
        "node, beyond training": (beyond, theirs.growth(NAMES[0]) / 1e6),
    }
    return [
        {"process tree": name, "ours_mb": own, "plain_mb": plain, "ratio": own / plain}
        for name, (own, plain) in pairs.items()
    ]


def measure(sizes: Sizes, target: str | None) -> None:
    """Measure everything, and show each table as soon as it is known."""
    rows: list[Row] = []

    def show(table: str, title: str, measured: Sequence[Row], *notes: str) -> None:
        packages = None if rows else PACKAGES
        rows.extend({"table": table, **row} for row in measured)
        if target != "-":
            publish(title, measured, target=None, packages=packages, notes=notes)

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        place = found(base, {name: hospital(name, base) for name in NAMES})
        mine = run_our_nodes(place, sizes)
        phases = phase_rows(place, mine, training_growth(place, mine.small, mine.large))
        show("phases", PHASES, phases, _heartbeats(mine.large, phases))
        theirs = run_flowers_nodes(place, sizes, mine.large)
        show("rounds", ROUNDS, small_rows(place, mine, theirs))
        show("memory", MEMORY, memory_rows(mine, theirs, phases))
    if target == "-":
        print(json.dumps(rows, indent=2))
    elif target:
        whole = {"machine": machine(), "versions": versions(PACKAGES), "rows": rows}
        Path(target).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def _heartbeats(kept: JobFolder, phases: Sequence[Row]) -> str:
    events = kept.events()
    lost = {name for event in events for name in event.lost}
    longest = max(float(row["answering"] or 0) for row in phases)
    return (
        f"The longest answer took {longest:.1f} s; Flower gives a task up 60 s after its last"
        f" heartbeat. Hospitals lost: {len(lost)}; attempts lost: {events[-1].voids}."
    )


def main() -> None:
    if sys.argv[1:2] == ["--training"]:
        print(json.dumps(train_alone(Path(sys.argv[2]), Path(sys.argv[3]))))
        return
    parser = parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds and a tiny model")
    arguments = parser.parse_args()
    measure(QUICK if arguments.quick else FULL, arguments.json)


if __name__ == "__main__":
    main()
