"""A whole consortium in one folder: real keys, real ledgers, real files, public data.

Every virtual hospital has the folder that a real one has, and is opened by the same code. What is
not real is that one machine holds them all, so a simulation protects nobody and is for public or
synthetic data only; the hospitals' configurations say so.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
import yaml

from client.hospital import Hospital, Split
from learning.task import Task
from privacy.keys import Identity
from protocol.card import Card
from protocol.roster import Roster
from protocol.signing import SigningKey
from protocol.trust import Trust
from server.jobs import Origin
from simulations.arrays import Cells, save_npz

NAMES = (
    "north", "south", "east", "west", "centre", "harbour", "hill", "lake", "meadow", "river",
)  # fmt: skip
ROUND_TO = 10
CONFIG = "hospital.yaml"


@dataclass(frozen=True, kw_only=True)
class Consortium:
    """Coordinator and virtual hospitals.

    Args:
        folder: Where everything lives.
        coordinator: The coordinator's key.
        roster: The signed roster that every hospital pinned and confirmed.
        names: Hospitals in the order of their nodes.
        dataset: Name of the data set and of its population at every hospital.
        noise_seed: Seeded noise, None for the operating system's entropy.
        split_seed: What the split into training and held-out patients depends on.
    """

    folder: Path
    coordinator: SigningKey
    roster: Roster
    names: tuple[str, ...]
    dataset: str
    noise_seed: int | None
    split_seed: int

    def open(self, name: str) -> Hospital:
        """Open one hospital."""
        return open_hospital(
            self.folder, name, noise_seed=self.noise_seed, split_seed=self.split_seed
        )

    def origin(self) -> Origin:
        """Who launches jobs, now."""
        return Origin(
            coordinator=self.coordinator.fingerprint,
            roster=self.roster.digest,
            now=datetime.now(UTC),
        )

    def splits(self, task: Task) -> dict[str, Split]:
        """Every hospital's records: what only a simulation can see in one place."""
        found = {}
        for name in self.names:
            with self.open(name) as hospital:
                found[name] = hospital.split(self.dataset, task, cache="")
        return found


def open_hospital(folder: Path, name: str, *, noise_seed: int | None, split_seed: int) -> Hospital:
    """Open a virtual hospital by its name, in whatever process."""
    key = hashlib.sha256(f"simulated split {split_seed}".encode()).digest()
    return Hospital.open(folder / name / CONFIG, seed=noise_seed, split_key=key)


def declared(splits: Mapping[str, Split]) -> dict[str, tuple[int, int]]:
    """Training and held-out patients by hospital, rounded as a hospital would declare them."""
    return {
        name: (_rounded(split.train.num_patients), _rounded(split.test.num_patients))
        for name, split in splits.items()
    }


def hospital_names(count: int) -> tuple[str, ...]:
    """Names of virtual hospitals.

    >>> hospital_names(2), hospital_names(11)[10:]
    (('north', 'south'), ('site-011',))
    """
    return tuple(
        NAMES[index] if index < len(NAMES) else f"site-{index + 1:03}" for index in range(count)
    )


def found(
    folder: Path,
    shares: Mapping[str, Cells],
    *,
    dataset: str,
    test_fraction: float,
    modes: Sequence[str],
    strategies: Sequence[str],
    tasks: Sequence[str],
    noise_seed: int | None,
    split_seed: int,
) -> Consortium:
    """Make every folder, key, card, roster, trust file and configuration.

    Args:
        folder: An empty or missing folder.
        shares: Each hospital's records, by column.
        dataset: Name of the data set.
        test_fraction: Share of patients held out.
        modes: Privacy modes that the hospitals' policies allow.
        strategies: Strategies that they allow.
        tasks: Tasks that they allow.
        noise_seed: See Consortium.
        split_seed: See Consortium.
    """
    coordinator = SigningKey.generate()
    policy = {
        "tasks": list(tasks),
        "strategies": list(strategies),
        "modes": list(modes),
        "epsilon_per_job": 1000.0,
        "epsilon_worst_per_job": 1000.0,
        "delta": 1e-3,
        "min_cell": 1,
        "clear_runs": True,
        "publish_metrics": True,
        "publish_model": True,
    }
    cards = tuple(
        _make_hospital(folder / name, name, columns, dataset, test_fraction, policy)
        for name, columns in shares.items()
    )
    roster = Roster(
        version=1,
        sequence=1,
        coordinator=coordinator.public,
        address="in-memory:0",
        members=cards,
    )
    signed = roster.sign(coordinator)
    trust = replace(Trust.pin(roster), confirmed={card.name: card.fingerprint for card in cards})
    (folder / "roster.json").write_bytes(signed)
    trust.save(folder / "trust.json")
    for name, file in product(shares, ("roster.json", "trust.json")):
        # One file under many names: with a copy for each, space would grow with the square.
        (folder / name / file).hardlink_to(folder / file)
    return Consortium(
        folder=folder,
        coordinator=coordinator,
        roster=roster,
        names=tuple(shares),
        dataset=dataset,
        noise_seed=noise_seed,
        split_seed=split_seed,
    )


def _make_hospital(
    folder: Path,
    name: str,
    columns: Cells,
    dataset: str,
    test_fraction: float,
    policy: Mapping[str, object],
) -> Card:
    folder.mkdir(parents=True, mode=0o700)
    identity = Identity.create(folder / "keys", name)
    config = {
        "name": name,
        "datasets": {
            dataset: {
                "source": _write(folder, columns),
                "population": dataset,
                "test_fraction": test_fraction,
            }
        },
        "populations": {
            dataset: {
                "public": True,
                "budget": {"epsilon": 1000.0, "epsilon_worst": 1000.0, "delta": 1e-5},
            }
        },
        "policy": dict(policy),
    }
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return identity.card()


def _write(folder: Path, columns: Cells) -> dict[str, str]:
    """Write a hospital's records, and say as its configuration would where they are."""
    if any(isinstance(cells, np.ndarray) for cells in columns.values()):
        save_npz(folder / "data.npz", columns)
        return {"kind": "npz", "path": "data.npz"}
    _write_csv(folder / "data.csv", columns)
    return {"kind": "csv", "path": "data.csv"}


def _write_csv(path: Path, columns: Cells) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _rounded(count: int) -> int:
    """A declared size: rounded, public, and never less than one unit of rounding."""
    return max(ROUND_TO, ROUND_TO * round(count / ROUND_TO))
