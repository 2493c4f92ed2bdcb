"""A hospital's node with seeded noise and a known split, over data marked public; for tests.

`python seeded_node.py SEED CONFIG` is what `fedward client up CONFIG` never is: a node that can be
run again with the same outcome. It differs in the zygote alone, which opens the hospital as
simulations do.
"""

from __future__ import annotations

import sys
from pathlib import Path

from client.hospital import Hospital
from client.node import run
from client.zygote import serve
from simulations.consortium import open_hospital


def main(words: list[str]) -> None:
    """Be the node; with the word `zygote`, be its zygote."""
    if words[0] != "zygote":
        seed, config = words
        run(Path(config), zygote_command=(sys.executable, "-P", __file__, "zygote", seed))
        return
    seed = words[1]

    def opened(config: Path) -> Hospital:
        folder = config.parent
        return open_hospital(folder.parent, folder.name, noise_seed=int(seed), split_seed=int(seed))

    serve(open_hospital=opened, arguments=words[2:])


if __name__ == "__main__":
    main(sys.argv[1:])
