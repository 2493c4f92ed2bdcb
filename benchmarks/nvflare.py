"""A whole federation beside NVIDIA FLARE's, of the same size: seconds, bytes and memory.

    python benchmarks/nvflare.py --install [--json [FILE]] [--rounds 5]

FLARE runs from an environment of its own, which `--install` makes (about 6 GB with its torch);
without it nothing is measured. Three sites with 100 generated records of 30 features each take one
step of gradient descent per round, for a network of about 800 and of about 100,000 parameters.

FLARE plain runs in its simulator, FLARE with homomorphic encryption (CKKS) in its proof of concept,
since its recipe refuses the simulator; Fedward's virtual hospitals run in one process, with noise
(mode `distributed`) and without (mode `none`, 16-bit digits), both encrypted and masked. `start_s`
is everything but the rounds: FLARE starts, and in the proof of concept provisions, a process for
each site, so it is no measure of algorithms. A round's seconds are medians between beginnings of
rounds. Bytes are everything that crosses the loopback device of a network namespace of the run's
own, TLS and start included, per site and round; Fedward's are those of its messages. Memory is the
highest sum of the proportional sets of all processes of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
from report import ROOT, Cell, Row, from_on, own_environment, parser_of, publish
from upload import run_case

from privacy.plan import PrivacyRequest
from server.requests import EncryptionRequest
from simulations.consortium import hospital_names

PACKAGES = ["nvflare>=2.9,<2.10", "torch", "tenseal>=0.3.18,<0.4"]
SITES, RECORDS, FEATURES = 3, 100, 30
WIDTHS = {"800": 16, "100,000": 300}
FLARE = {"FLARE, plain": ["--simulator"], "FLARE, encrypted": ["--encrypted"]}
OURS = {
    "Fedward, mode none": PrivacyRequest(mode="none"),
    "Fedward, mode distributed": PrivacyRequest(mode="distributed", epsilon=3.0),
}
HEADINGS = {
    "network": "parameters",
    "run": "run",
    "wall_s": "wall s",
    "start_s": "start s",
    "round_s": "round s",
    "kb_per_site_and_round": "kB/site, round",
    "peak_mb": "peak MB",
    "round_s ratio": "round, ratio",
    "kb_per_site_and_round ratio": "bytes, ratio",
    "peak_mb ratio": "memory, ratio",
}
LOOPBACK_UP = ["ip", "link", "set", "lo", "up"]
LIMIT_S = 600.0


def namespaced(command: list[str], environment: dict[str, str]) -> tuple[float, int, float]:
    """Seconds, bytes on the loopback device, and peak memory in MB of a command and its children.

    It runs in a network namespace of its own: so its bytes are counted, and its processes known.
    """
    shell = f'{" ".join(LOOPBACK_UP)} && "$@" >&2; cat /proc/net/dev'
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    begun = time.perf_counter()
    with subprocess.Popen(
        ["unshare", "--net", *root, "sh", "-c", shell, "sh", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    ) as process:
        peak_mb, members = 0.0, [process.pid]
        while process.poll() is None and time.perf_counter() - begun < LIMIT_S:
            members = members_of(process.pid) or members
            peak_mb = max(peak_mb, sum(map(proportional_mb, members)))
            time.sleep(0.5)
        seconds = time.perf_counter() - begun
        late = process.poll() is None
        for member in members if late else ():
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        if late:
            raise SystemExit(f"no end within {LIMIT_S:.0f} s: {command[0]}")
        printed = process.stdout.read().decode() if process.stdout else ""
    device = next(line for line in printed.splitlines() if line.strip().startswith("lo:"))
    return seconds, int(device.split(":")[1].split()[0]), peak_mb


def members_of(leader: int) -> list[int]:
    """All processes in the network namespace of one of them, once that is no longer our own."""
    wanted = namespace_of(leader)
    if wanted is None or wanted == namespace_of(os.getpid()):
        return []
    running = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return [pid for pid in running if namespace_of(pid) == wanted]


def namespace_of(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/ns/net").readlink()
    except OSError:
        return None


def proportional_mb(pid: int) -> float:
    """A process's memory, with its part of what it shares."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return int(text.split("Pss:")[1].split()[0]) / 1024 if "Pss:" in text else 0.0


def by_flare(name: str, interpreter: Path, width: int, rounds: int) -> dict[str, Cell]:
    """One run of FLARE."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "data").mkdir()
        for site in range(1, SITES + 1):
            x, y = records(site)
            np.savez(folder / "data" / f"site-{site}.npz", x=x, y=y)
        job = [str(interpreter), str(ROOT / "benchmarks" / "flare" / "job.py"), *FLARE[name]]
        numbers = {"sites": SITES, "rounds": rounds, "features": FEATURES, "width": width}
        options = [text for key, value in numbers.items() for text in (f"--{key}", str(value))]
        environment = {"HOME": str(folder), "NVFLARE_POC_WORKSPACE": str(folder / "poc")}
        command = [*job, *options, "--folder", str(folder)]
        seconds, crossed, peak_mb = namespaced(command, environment)
        log = (folder / "site-1.begun").read_text().split()
    begun = [float(text) for text in log]
    if len(begun) != rounds:
        raise SystemExit(f"{name} began {len(begun)} of {rounds} rounds")
    round_s = median(late - early for early, late in pairwise(begun))
    return result(name, seconds, round_s, rounds, crossed / SITES / rounds, peak_mb)


def by_us(name: str, width: int, rounds: int) -> dict[str, Cell]:
    """One run of Fedward's virtual hospitals, in a process that measures its rounds."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "row.json"
        command = [sys.executable, __file__, "--ours", name, str(width), str(target)]
        options = ["--rounds", str(rounds)]
        seconds, _, peak_mb = namespaced([*command, *options], {"OMP_NUM_THREADS": "1"})
        found = json.loads(target.read_text(encoding="utf-8"))
    return result(name, seconds, found["round_s"], rounds, found["bytes"], peak_mb)


def result(
    name: str, seconds: float, round_s: float, rounds: int, crossed: float, peak_mb: float
) -> dict[str, Cell]:
    return {
        "run": name,
        "wall_s": seconds,
        "start_s": seconds - rounds * round_s,
        "round_s": round_s,
        "kb_per_site_and_round": crossed / 1e3,
        "peak_mb": peak_mb,
    }


def run_ours(name: str, width: int, target: Path, rounds: int) -> None:
    """In a process of its own: run a job, and write what it says of its rounds."""
    torch.set_num_threads(1)
    columns = [f"feature_{index}" for index in range(FEATURES)]
    schema = {
        "columns": [{"name": c, "kind": "number", "low": -4, "high": 4} for c in columns],
        "label": {"name": "ill", "classes": ["no", "yes"]},
    }
    shares = {}
    for site, hospital in enumerate(hospital_names(SITES), start=1):
        x, y = records(site)
        shares[hospital] = {
            **{c: [f"{value:.4f}" for value in x[:, i]] for i, c in enumerate(columns)},
            "ill": ["yes" if value else "no" for value in y],
        }
    encryption = EncryptionRequest(digit_bits=16)
    _, outcome = run_case(
        OURS[name],
        encryption,
        hidden=[width, width],
        schema=schema,
        shares=shares,
        rounds=rounds,
    )
    if outcome.status != "completed":
        raise SystemExit(f"the job is {outcome.status}")
    events = [event for event in outcome.events if event.kind == "round"]
    crossed = sum(event.bytes_up + event.bytes_down for event in events) / SITES / len(events)
    found = {"round_s": median(event.seconds for event in events), "bytes": crossed}
    target.write_text(json.dumps(found), encoding="utf-8")


def records(site: int) -> tuple[np.ndarray, np.ndarray]:
    """Generated features and labels of one site."""
    generator = np.random.Generator(np.random.PCG64(site))
    features = generator.normal(size=(RECORDS, FEATURES)).clip(-4, 4).astype(np.float32)
    labels = (features[:, 0] + generator.normal(size=RECORDS) > 0).astype(np.int64)
    return features, labels


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--install", action="store_true", help="make FLARE's environment")
    parser.add_argument("--rounds", type=from_on(2), default=5)
    parser.add_argument("--ours", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        name, width, target = arguments.ours
        run_ours(name, int(width), Path(target), arguments.rounds)
        return
    interpreter = own_environment("nvflare", PACKAGES, install=arguments.install)
    if interpreter is None:
        parser.error("NVIDIA FLARE is not installed; --install makes an environment for it")
    rows: list[Row] = []
    for network, width in WIDTHS.items():
        ours = [by_us(name, width, arguments.rounds) for name in OURS]
        theirs = [by_flare(name, interpreter, width, arguments.rounds) for name in FLARE]
        base = next(row for row in ours if row["run"] == "Fedward, mode none")
        for row in [*ours, *theirs]:
            ratios = {
                f"{key} ratio": float(row[key] or 0) / float(base[key] or 1)
                for key in ("round_s", "kb_per_site_and_round", "peak_mb")
            }
            rows.append({"network": network, **row, **ratios})
    publish(
        f"{SITES} sites, {arguments.rounds} rounds; ratios to Fedward in mode none",
        rows,
        target=arguments.json,
        packages=["fedward", "torch", "tenseal", "flwr"],
        headings=HEADINGS,
    )


if __name__ == "__main__":
    main()
