"""How long a reservation and its settlement take in a privacy ledger that holds many events.

    python benchmarks/ledger.py [--json [FILE]] [--events 300]

Each timed pair is two transactions,
each on the disk before it returns, so a busy disk shows; `cpu_ms` is without the disk. `q = 1` is
the default recipe; the other ledger holds only sub-sampled events with noises that all differ, the
dearest thing to compose.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

from report import how_many, parser_of, publish

from privacy.budget import Caps, Charge
from privacy.ledger import Ledger
from protocol.signing import SigningKey

EVENTS = 300
PAIRS = 60
TARGET_MS = 5.0
CAPS = Caps(epsilon=1e3, epsilon_worst=1e3, delta=1e-5)
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def charge(number: int, q: float) -> Charge:
    return Charge(
        population="benchmark",
        partition="train",
        job=f"{number:064x}",
        purpose="update",
        sigma_effective=20 + number / 100,
        sigma_own=10 + number / 200,
        q=q,
        steps=12,
        clip=1.0,
        declared_size=500,
        cohort_size=5,
        colluding_sites=1,
    )


def pair(ledger: Ledger, number: int, q: float) -> tuple[float, float]:
    """Seconds of one reservation and its settlement: on the clock, and on the processor."""
    one = charge(number, q)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    ledger.reserve([one], CAPS, NOW)
    ledger.settle(one.job, NOW, {"update": 10})
    return time.perf_counter() - begun, time.process_time() - begun_cpu


def measure(name: str, q: float, folder: Path, events: int) -> dict[str, str | int | float]:
    path, key = folder / f"{name}.sqlite", SigningKey.generate()
    with Ledger.open(path, key) as ledger:
        for number in range(events):
            pair(ledger, number, q)
        pairs = [pair(ledger, events + number, q) for number in range(PAIRS)]
    times, cpu_times = zip(*pairs, strict=True)
    begun = time.perf_counter()
    with Ledger.open(path, key) as ledger:
        opened = time.perf_counter()
        rows = ledger.verify().rows
        verified = time.perf_counter()
    return {
        "ledger": name,
        "events": events,
        "p50_ms": 1e3 * median(times),
        "p95_ms": 1e3 * quantiles(times, n=20)[-1],
        "cpu_ms": 1e3 * median(cpu_times),
        "rows": rows,
        "open_ms": 1e3 * (opened - begun),
        "verify_ms": 1e3 * (verified - opened),
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--events", type=how_many, default=EVENTS, help="before the timed ones")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(name, q, Path(folder), arguments.events)
            for name, q in (("q = 1", 1.0), ("q = 0.1", 0.1))
        ]
    publish(
        f"reserve + settle, target p50 <= {TARGET_MS} ms at q = 1",
        rows,
        target=arguments.json,
        packages=["fedward", "cryptography", "scipy"],
    )


if __name__ == "__main__":
    main()
