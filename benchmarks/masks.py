"""What pairwise masks cost: milliseconds per peer and million words, by modulus and cohort.

OMP_NUM_THREADS=1 python benchmarks/masks.py [--json [FILE]]
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
from report import how_many, parser_of, publish

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
    """The median of `repeat` masks over `num_words` words, in seconds."""
    cohort, ephemeral = cohort_of(peers + 1)
    words_W = np.random.default_rng(0).integers(0, modulus, num_words, dtype=np.uint64)
    times = []
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
        times.append(time.perf_counter() - start_s)
    return median(times)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--words", type=how_many, default=1_000_000, help="words per mask")
    parser.add_argument("--repeat", type=how_many, default=9, help="the median of this many counts")
    arguments = parser.parse_args()
    rows = []
    for name, modulus in MODULI.items():
        for peers in PEERS:
            taken_s = measure(arguments.words, peers, modulus, arguments.repeat)
            rows.append(
                {
                    "modulus": name,
                    "peers": peers,
                    "words": arguments.words,
                    "seconds": taken_s,
                    "ms_per_peer_and_million_words": taken_s * 1e9 / peers / arguments.words,
                }
            )
    publish("Masks", rows, target=arguments.json, packages=["fedward", "cryptography", "numpy"])


if __name__ == "__main__":
    main()
