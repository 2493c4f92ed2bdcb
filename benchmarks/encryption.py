"""Encrypted sums beside what other frameworks do: bytes, speed, error and memory.

    python benchmarks/encryption.py --values 1000000 --sites 10 [--json] [--install]

Every row runs in processes of its own on one core: hospitals encrypt one after the other, a
coordinator adds, one hospital decrypts; from 10 million values on there are all cores, which only
Fedward's hospitals can use. Times are medians, of the hospitals or of seven decryptions: on one
core the processor's, which is what passes on a machine that does nothing else, and the clock's from
10 million values on. A sum's time includes making what is sent back. Uploads hold everything that
is sent, presence and tag words included. `bits` are those of a hospital's digit in mode `local`,
and of a digit of the noised sum in mode `distributed`. Fedward's hospitals begin and end with
digits: rounding floats to them, which CKKS does inside, and noise are timed by `noise.py` and in no
column here. Memory is the highest growth of the peak
resident memory during any one operation, its result included, of hospital and adding process
together.

CKKS has NVIDIA FLARE's parameters (N = 8192, primes of 60, 40, 40 bits, scale 2^40, one vector for
the tensor). TenSEAL's BFV vector carries 16-bit digits. Paillier is timed on a few values and
extrapolated; `--install` makes an environment for it, without which it is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
from limits import Limits
from report import Row, how_many, own_environment, parser_of, publish
from schemes import PAILLIER_VALUES, Scheme, ckks, fedward, float32, packing_of, paillier
from schemes import tenseal_bfv as bfv

T = TypeVar("T")

FEDWARD = [("local", 8), ("local", 12), ("local", 16), ("distributed", 22), ("distributed", 32)]
PEERS = [("ckks", 40), ("tenseal bfv", 16), ("paillier, extrapolated", 16), ("float32", 32)]
REPEATS = 7
ALL_CORES = 10_000_000
LIMITS = """\
upload: the entropy of a digit of the sum and the noise that hides it. encrypt: the library's own
sampling, hash and number-theoretic transforms, without moving or compressing anything. sum: the
hash of the seeds, and reading upload and sum at the memory's speed; in the last column that alone.
All limits were measured in this run, on one core."""
HEADINGS = {
    "scheme": "scheme",
    "bits": "bits",
    "upload_bytes_per_value": "up B/value",
    "download_bytes_per_value": "down B/value",
    "encrypt_values_per_s": "encrypt 1/s",
    "sum_values_per_s": "sum 1/s",
    "decrypt_values_per_s": "decrypt 1/s",
    "max_error": "max error",
    "peak_growth_mb": "peak MB",
}


class Meter:
    """Times operations and finds the one whose peak memory grows most.

    Args:
        pids: The processes that work, this one included.
        clock: Whether to take the clock's time instead of the processor's.
    """

    def __init__(self, pids: list[int], *, clock: bool) -> None:
        self._pids = pids
        self._clock = clock
        self.growth_mb = 0.0

    def run(self, work: Callable[[], T]) -> tuple[float, T]:
        """Seconds and the result."""
        for pid in self._pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="utf-8")
        before = [resident_mb(pid) for pid in self._pids]
        start = self._now()
        result = work()
        seconds = self._now() - start
        after = [resident_mb(pid) for pid in self._pids]
        growth = sum(late - early for early, late in zip(before, after, strict=True))
        self.growth_mb = max(self.growth_mb, growth)
        return seconds, result

    def _now(self) -> float:
        if self._clock:
            return time.perf_counter()
        return sum(processor_s(pid) for pid in self._pids)


def processor_s(pid: int) -> float:
    """Seconds that a process has had a processor; its only thread's, unless it is this process."""
    if pid == os.getpid():
        return time.process_time()
    text = Path(f"/proc/{pid}/schedstat").read_text(encoding="utf-8")
    return int(text.split()[0]) / 1e9


def resident_mb(pid: int) -> float:
    """Highest resident memory of a process since its mark was reset."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def scheme_of(name: str, bits: int, count: int, sites: int) -> Scheme:
    if name in ("local", "distributed"):
        return fedward(name, bits, count, sites)
    if name.startswith("paillier"):
        return paillier()
    if name == "tenseal bfv":
        return bfv(bits, count, sites)
    return ckks(count) if name == "ckks" else float32(count)


def measure(name: str, bits: int, count: int, sites: int) -> dict[str, str | float]:
    """One row; the process measures itself and the one that adds."""
    scheme = scheme_of(name, bits, count, sites)
    if name.startswith("paillier"):
        count = PAILLIER_VALUES
    pids = [os.getpid()] + ([scheme.adder] if scheme.adder else [])
    meter = Meter(pids, clock=count >= ALL_CORES)
    expected = np.zeros(count)
    encrypting, adding, decrypting = [], [], []
    for site in range(sites):
        values = scheme.values(site)
        expected += values
        seconds, payload = meter.run(partial(scheme.encrypt, site, values))
        encrypting.append(seconds)
        adding.append(meter.run(partial(scheme.add, payload))[0])
    closing, total = meter.run(scheme.total)
    for _ in range(REPEATS):
        seconds, result = meter.run(partial(scheme.decrypt, total))
        decrypting.append(seconds)
        error = float(np.abs(result - expected).max())
        del result
    scheme.close()
    return {
        "scheme": f"fedward {name}" if name in ("local", "distributed") else name,
        "bits": bits,
        "upload_bytes_per_value": len(payload) / count,
        "download_bytes_per_value": len(total) / count,
        "encrypt_values_per_s": count / median(encrypting),
        "sum_values_per_s": sites * count / (sites * median(adding) + closing),
        "decrypt_values_per_s": count / median(decrypting),
        "max_error": error,
        "peak_growth_mb": meter.growth_mb,
    }


def measured_apart(name: str, bits: int, count: int, sites: int) -> dict[str, str | float]:
    command = [sys.executable, __file__, "--row", name, str(bits), "--values", str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if count < ALL_CORES:
        core = str(max(os.sched_getaffinity(0)))
        command = ["taskset", "--cpu-list", core, *command]
    done = subprocess.run(
        [*command, "--sites", str(sites)], check=True, stdout=subprocess.PIPE, env=environment
    )
    row: dict[str, str | float] = json.loads(done.stdout.splitlines()[-1])
    return row


def ratios(rows: list[Row]) -> list[Row]:
    """How many times faster and smaller than the peers' CKKS each row is."""
    peers = next(row for row in rows if row["scheme"] == "ckks")

    def times(row: Row, key: str) -> float:
        return float(row[key] or 0) / float(peers[key] or 1)

    return [
        {
            "scheme": row["scheme"],
            "bits": row["bits"],
            "upload": 1 / times(row, "upload_bytes_per_value"),
            "encrypt": times(row, "encrypt_values_per_s"),
            "sum": times(row, "sum_values_per_s"),
            "decrypt": times(row, "decrypt_values_per_s"),
        }
        for row in rows
        if str(row["scheme"]).startswith("fedward")
    ]


def distances(rows: list[Row], sites: int) -> list[Row]:
    """What each row reaches of what the machine, the hash and the noise allow."""
    limits = Limits.measured()
    found: list[Row] = []
    for row, (mode, bits) in zip(rows, FEDWARD, strict=False):
        bound = limits.of(packing_of(mode, bits, sites))
        reached = {
            "upload": bound.upload_bytes_per_value / float(row["upload_bytes_per_value"] or 1),
            "encrypt": float(row["encrypt_values_per_s"] or 0) / bound.encrypt_values_per_s,
            "sum": float(row["sum_values_per_s"] or 0) / bound.sum_values_per_s,
            "sum, memory alone": float(row["sum_values_per_s"] or 0) / bound.memory_values_per_s,
        }
        shares = {key: f"{100 * share:.0f} %" for key, share in reached.items()}
        found.append({"scheme": row["scheme"], "bits": bits, **shares})
    return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--values", type=how_many, default=1_000_000, help="values of one update")
    parser.add_argument("--sites", type=how_many, default=10, help="hospitals")
    parser.add_argument("--install", action="store_true", help="make an environment for Paillier")
    parser.add_argument("--row", nargs=2, metavar=("SCHEME", "BITS"), help="measure one row here")
    arguments = parser.parse_args()
    count, sites = arguments.values, arguments.sites
    if arguments.row:
        known = {(name, str(bits)): (name, bits) for name, bits in [*FEDWARD, *PEERS]}
        if tuple(arguments.row) not in known:
            parser.error(f"--row: expected one of {', '.join(map(' '.join, known))}")
        print(json.dumps(measure(*known[tuple(arguments.row)], count, sites)))
        return
    with_paillier = own_environment("paillier", ["phe", "gmpy2"], install=arguments.install)
    wanted = FEDWARD + [peer for peer in PEERS if with_paillier or "paillier" not in peer[0]]
    rows: list[Row] = [measured_apart(name, bits, count, sites) for name, bits in wanted]
    note = "" if with_paillier else "Paillier: left out, see --install"
    title = f"{count:,} values, {sites} hospitals"
    packages = ["fedward", "tenseal", "numpy"]
    publish(title, rows, target=arguments.json, packages=packages, headings=HEADINGS, notes=[note])
    if arguments.json == "-":
        print(note, file=sys.stderr)
        return
    publish("Times as fast and as small as CKKS, by scheme", ratios(rows), target=None)
    publish("Share of what is possible", distances(rows, sites), target=None, notes=[LIMITS])


if __name__ == "__main__":
    main()
