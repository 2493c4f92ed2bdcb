"""Kill every process of a federation at random moments of its jobs, and print what became of them.

    python -m tests.end_to_end.crash [--points 5] [--seed 0] [--keep FOLDER]

Each kind of process is killed in so many jobs of four rounds, at moments that a seed draws between
launch and the earliest end of a job that nobody disturbed. A job that ends before its moment is one
of these, and another takes its place. It leaves with code 1 if any job was not completed, models
differ, or a ledger is not consistent.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.end_to_end.federation import Federation, federation
from tests.end_to_end.killing import HEADER, NOTHING, VICTIMS, Survived, survive

_EARLIEST_S = 1.0


def main() -> int:
    """Run; the exit code."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    words.add_argument("--points", type=int, default=5, help="kills of each kind of process")
    words.add_argument("--seed", type=int, help="of the moments; left out, a new one")
    words.add_argument("--only", choices=VICTIMS, action="append", help="kill only these")
    words.add_argument("--keep", type=Path, help="leave the federation's files and logs here")
    chosen = words.parse_args()
    seed = secrets.randbelow(2**32) if chosen.seed is None else chosen.seed
    rng = np.random.Generator(np.random.PCG64(seed))
    found: list[Survived] = []
    with _folder(chosen.keep) as folder, federation(Federation(folder)) as place:
        begin = time.monotonic()
        place.complete(place.job("undisturbed"))
        usual_s = time.monotonic() - begin
        _say(f"seed {seed}; an undisturbed job takes {usual_s:.0f} s\n{HEADER}")
        for survived in _storm(place, chosen.only or VICTIMS, chosen.points, rng, usual_s):
            found.append(survived)
            _say(survived.row())
    lost = sum(not one.sound for one in found)
    _say(f"{len(found)} jobs, {lost} not as they should be")
    return min(lost, 1)


def _storm(
    place: Federation,
    victims: Sequence[str],
    points: int,
    rng: np.random.Generator,
    usual_s: float,
) -> Iterator[Survived]:
    """Jobs, until each kind of process was killed so many times; those that it missed, too."""
    for victim in victims:
        killed = missed = 0
        while killed < points:
            name = f"{victim.replace(' ', '-').lower()}-{killed + missed}"
            at_s = float(rng.uniform(_EARLIEST_S, usual_s))
            survived = survive(place, name, victim, at_s=at_s)
            if survived.victim == NOTHING:
                missed, usual_s = missed + 1, min(usual_s, survived.total_s)
            else:
                killed += 1
            yield survived


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where the federation lives: a folder to keep, or one that is removed at the end."""
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="fedward-crash-") as folder:
        yield Path(folder)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
