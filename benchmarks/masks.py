"""What pairwise masks cost: milliseconds per peer and million words, by modulus and cohort.

OMP_NUM_THREADS=1 python benchmarks/masks.py --json masks.json
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from privacy.keys import Ephemeral
from privacy.masks import mask
from protocol.cohort import Cohort
from protocol.signing import SigningKey

PEERS = (2, 4, 10, 20)
# Just below a power of two no word is refused; just above, one in 2^(60 - bits) is.
MODULI = {"2^46 - 21": (1 << 46) - 21, "2^46 + 15": (1 << 46) + 15, "2^50 + 55": (1 << 50) + 55}


def cohort_of(count: int) -> tuple[Cohort, Ephemeral]:
    keys = [(SigningKey.generate(), Ephemeral.generate()) for _ in range(count)]
    members = [
        ephemeral.member(name=f"hospital-{index}", job="job", roster="roster", key=key)
        for index, (key, ephemeral) in enumerate(keys)
    ]
    return Cohort.assemble(job="job", roster="roster", epoch=1, members=members), keys[0][1]


def measure(num_words: int, peers: int, modulus: int, repeat: int) -> float:
    """The fastest of `repeat` masks over `num_words` words, in seconds."""
    cohort, ephemeral = cohort_of(peers + 1)
    words_W = np.random.default_rng(0).integers(0, modulus, num_words, dtype=np.uint64)
    fastest_s = float("inf")
    for attempt in range(repeat):
        start_s = time.perf_counter()
        mask(
            words_W,
            modulus=modulus,
            me="hospital-0",
            cohort=cohort,
            ephemeral=ephemeral,
            attempt=attempt,
            purpose="update",
            data_key=bytes(32),
            weights_tag=bytes(32),
        )
        fastest_s = min(fastest_s, time.perf_counter() - start_s)
    return fastest_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=1_000_000, help="words per mask")
    parser.add_argument("--repeat", type=int, default=9, help="the fastest of this many counts")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    table = Table("modulus", "peers", "ms", "ms per peer and million words", title="Masks")
    rows = []
    for name, modulus in MODULI.items():
        for peers in PEERS:
            seconds = measure(arguments.words, peers, modulus, arguments.repeat)
            ms_each = seconds * 1e3 / peers * 1e6 / arguments.words
            table.add_row(name, str(peers), f"{seconds * 1e3:.1f}", f"{ms_each:.2f}")
            rows.append(
                {
                    "modulus": modulus,
                    "peers": peers,
                    "words": arguments.words,
                    "seconds": seconds,
                    "ms_per_peer_and_million_words": ms_each,
                }
            )
    Console().print(table)
    if arguments.json:
        report = {"machine": platform.platform(), "numpy": np.__version__, "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
