"""Encrypted sums beside what other frameworks do: bytes, speed, error and memory.

    python benchmarks/encryption.py --values 1000000 --sites 10

Every row runs in a process of its own on one core: hospitals encrypt one after the other, a
coordinator adds, one hospital decrypts. Times are medians. Uploads hold everything that is sent,
presence and tag words included; a row's `bits` are those of a hospital's digit where the name says
`digit`, and those of a digit of the sum where it says `noised` (mode `distributed`).

The peers' scheme is CKKS as NVIDIA FLARE sets it (N = 8192, primes of 60, 40, 40 bits, scale 2^40).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from privacy.he.codec import pack, unpack
from privacy.he.parameters import digit_radix, num_words, parameters_for
from privacy.he.secret import SecretKey
from privacy.he.sum import SumProcess
from privacy.he.words import check, frame, framed_size, tag_key

T = TypeVar("T")
Vector = npt.NDArray[Any]
Row = dict[str, str | float]

DIGITS = {"bfv digit": (8, 12, 16), "bfv noised": (24, 32)}
REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """What is compared: one hospital's values to bytes, the sum, and back."""

    values: Callable[[int], Vector]
    encrypt: Callable[[int, Vector], Any]
    add: Callable[[Any], None]
    total: Callable[[], Any]
    decrypt: Callable[[Any], Vector]
    adder: int | None = None
    close: Callable[[], None] = lambda: None


def bfv(kind: str, bits: int, count: int, sites: int) -> Scheme:
    """This project: integers, framed, encrypted, added in a process without a key."""
    radix = digit_radix(bits, sites) if kind == "bfv digit" else (1 << bits) - 1
    reach = (radix - 1) // 2 // sites
    packing = parameters_for(radix=radix, max_sites=sites)
    key = SecretKey.generate(packing)
    tags = tag_key(bytes(32), job="job", epoch=1, attempt=1, purpose="update")
    words = framed_size(num_words(count, packing), sites)
    process = SumProcess()
    total = process.sum(packing, words)

    def encrypt(site: int, values: Vector) -> bytes:
        packed = pack(values, packing)
        return key.encrypt(frame(packed, site=site, sites=sites, key=tags, packing=packing))

    def decrypt(residues: bytes) -> Vector:
        present = tuple(range(sites))
        framed = key.decrypt(residues, words)
        values = check(framed, present=present, sites=sites, key=tags, packing=packing)
        return unpack(values, count, packing)

    return Scheme(
        values=lambda site: random(site).integers(-reach, reach + 1, count),
        encrypt=encrypt,
        add=total.add,
        total=total.residues,
        decrypt=decrypt,
        adder=process.pid,
        close=lambda: process.__exit__(None, None, None),
    )


def float32(count: int) -> Scheme:
    """Without encryption, as other frameworks send values."""
    total = np.zeros(count)

    def add(payload: bytes) -> None:
        np.add(total, np.frombuffer(payload, dtype=np.float32), out=total)

    return Scheme(
        values=lambda site: random(site).uniform(-1, 1, count),
        encrypt=lambda _, values: values.astype(np.float32).tobytes(),
        add=add,
        total=lambda: total.astype(np.float32).tobytes(),
        decrypt=lambda data: np.frombuffer(data, dtype=np.float32).astype(np.float64),
    )


def ckks(count: int) -> Scheme:
    """The peers: one CKKS ciphertext for every 4096 values, symmetric encryption."""
    import tenseal  # noqa: PLC0415

    secret = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        poly_modulus_degree=8192,
        coeff_mod_bit_sizes=[60, 40, 40],
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    secret.global_scale = 2**40
    public = tenseal.context_from(secret.serialize(save_secret_key=False))
    totals: list[Any] = []

    def encrypt(_: int, values: Vector) -> list[bytes]:
        parts = np.split(values, range(4096, count, 4096))
        return [tenseal.ckks_vector(secret, part).serialize() for part in parts]

    def add(payload: list[bytes]) -> None:
        vectors = [tenseal.ckks_vector_from(public, part) for part in payload]
        for total, vector in zip(totals, vectors, strict=bool(totals)):
            total.add_(vector)
        totals.extend(vectors if not totals else [])

    def decrypt(payload: list[bytes]) -> Vector:
        parts = [tenseal.ckks_vector_from(secret, part).decrypt() for part in payload]
        return np.concatenate([np.array(part) for part in parts])

    return Scheme(
        values=lambda site: random(site).uniform(-1, 1, count),
        encrypt=encrypt,
        add=add,
        total=lambda: [total.serialize() for total in totals],
        decrypt=decrypt,
    )


def random(site: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(site))


def timed(run: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def peak_mb(pid: int | str = "self") -> float:
    """Highest resident memory of a process since its mark was reset."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def reset_peak(pid: int | str = "self") -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="utf-8")


def size(payload: Any) -> int:
    return len(payload) if isinstance(payload, bytes) else sum(len(part) for part in payload)


def scheme_of(name: str, bits: int, count: int, sites: int) -> Scheme:
    if name == "float32":
        return float32(count)
    return ckks(count) if name == "ckks" else bfv(name, bits, count, sites)


def measure(name: str, bits: int, count: int, sites: int) -> Row:
    """One row of the table; the process measures itself and the one that adds."""
    scheme = scheme_of(name, bits, count, sites)
    pids: list[int | str] = ["self"] if scheme.adder is None else ["self", scheme.adder]
    expected = np.zeros(count, dtype=np.float64)
    for pid in pids:
        reset_peak(pid)
    before = [peak_mb(pid) for pid in pids]
    encrypting, adding, decrypting = [], [], []
    uploaded = 0
    for site in range(sites):
        values = scheme.values(site)
        expected += values
        seconds, payload = timed(partial(scheme.encrypt, site, values))
        encrypting.append(seconds)
        uploaded = size(payload)
        adding.append(timed(partial(scheme.add, payload))[0])
    closing, total = timed(scheme.total)
    for _ in range(REPEATS):
        seconds, result = timed(partial(scheme.decrypt, total))
        decrypting.append(seconds)
    growth = sum(peak_mb(pid) - was for pid, was in zip(pids, before, strict=True))
    scheme.close()
    return {
        "scheme": name,
        "bits": bits,
        "upload_bytes_per_value": uploaded / count,
        "download_bytes_per_value": size(total) / count,
        "encrypt_values_per_s": count / median(encrypting),
        "sum_values_per_s": sites * count / (sites * median(adding) + closing),
        "decrypt_values_per_s": count / median(decrypting),
        "max_error": float(np.abs(result - expected).max()),
        "peak_growth_mb": growth,
    }


def measured_apart(name: str, bits: int, count: int, sites: int) -> Row:
    command = [sys.executable, __file__, "--row", name, str(bits), "--values", str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--sites", str(sites)], check=True, capture_output=True, env=environment
    )
    row: Row = json.loads(done.stdout)
    return row


def table(rows: list[Row]) -> str:
    heads = ["scheme", "bits", "up B/value", "down B/value", "encrypt M/s", "sum M/s"]
    heads += ["decrypt M/s", "max error", "peak MB"]
    lines = ["".join(f"{head:>13}" for head in heads)]
    for row in rows:
        shown = [
            f"{value / 1e6:.1f}" if key.endswith("per_s") else f"{value:.3g}"
            for key, value in row.items()
            if isinstance(value, int | float)
        ]
        lines.append("".join(f"{cell:>13}" for cell in [str(row["scheme"]), *shown]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--values", type=int, default=1_000_000, help="values of one update")
    parser.add_argument("--sites", type=int, default=10, help="hospitals")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--row", nargs=2, metavar=("SCHEME", "BITS"), help="measure one row here")
    arguments = parser.parse_args()
    if arguments.row:
        name, bits = arguments.row
        print(json.dumps(measure(name, int(bits), arguments.values, arguments.sites)))
        return
    wanted = [(name, bits) for name, widths in DIGITS.items() for bits in widths]
    wanted += [("ckks", 40), ("float32", 32)]
    rows = [measured_apart(name, bits, arguments.values, arguments.sites) for name, bits in wanted]
    print(json.dumps(rows, indent=2) if arguments.json else table(rows))


if __name__ == "__main__":
    main()
