"""What a researcher writes to attack the project: which attacks, how large, against which noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from protocol.config import read
from protocol.errors import InputError

MOST_HOSPITALS = 20


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """Records read off a dense layer's gradient.

    Args:
        records: Records behind one hospital's update; one line of the table for each.
        updates: Updates that are attacked, over all hospitals.
        hidden: Widths of the network's hidden layers.
    """

    records: tuple[int, ...] = (1, 4, 32)
    updates: int = 32
    hidden: tuple[int, ...] = (64, 32, 16)

    def __post_init__(self) -> None:
        _at_least("records", min(self.records, default=0), 1)
        _at_least("updates", self.updates, 1)
        _at_least("hidden", min(self.hidden, default=0), 1)


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Pictures found by matching the gradient of a small convolutional network.

    Args:
        updates: Updates that are attacked, of one record each, over all hospitals.
        iterations: Steps of the search for one picture.
        restarts: Searches from different beginnings.
    """

    updates: int = 8
    iterations: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        _at_least("updates", self.updates, 1)
        _at_least("iterations", self.iterations, 1)
        _at_least("restarts", self.restarts, 1)


@dataclass(frozen=True, kw_only=True)
class Imprint:
    """Records sorted into the neurons of a first layer that the coordinator planted.

    Args:
        records: Records at each hospital.
        bins: Neurons of the planted layer.
    """

    records: int = 32
    bins: int = 512

    def __post_init__(self) -> None:
        _at_least("records", self.records, 1)
        _at_least("bins", self.bins, 2)


@dataclass(frozen=True, kw_only=True)
class Membership:
    """Who was among the training records, told from the finished model.

    Args:
        models: Models that are trained; each is attacked with the others as its shadows.
        records: Records at each hospital.
        hidden: Width of the network's hidden layer.
        rounds: Rounds of training.
        local_steps: Steps between two rounds where there is no noise.
    """

    models: int = 40
    records: int = 16
    hidden: int = 48
    rounds: int = 5
    local_steps: int = 12

    def __post_init__(self) -> None:
        _at_least("models", self.models, 8)
        _at_least("records", self.records, 2)
        _at_least("hidden", self.hidden, 1)
        _at_least("rounds", self.rounds, 1)
        _at_least("local_steps", self.local_steps, 1)


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """Attacks and defences; see configs/simulations/attacks.yaml for a commented example.

    Args:
        name: Names the folder of results.
        hospitals: Virtual hospitals, K.
        mode: Who adds the noise where there is noise.
        epsilons: Of the private defences, one column of the table for each.
        delta: Of every epsilon.
        colluding_sites: t of mode `distributed`.
        inversion: See `Inversion`; None leaves the attack out, here and below.
        matching: See `Matching`.
        imprint: See `Imprint`.
        membership: See `Membership`.
        seed: Of the invented records and of what attackers draw.
        seeded_noise: Noise that can be repeated and protects nobody; for tests.
    """

    name: str
    hospitals: int = 4
    mode: Literal["distributed", "local"] = "distributed"
    epsilons: tuple[float, ...] = (3.0, 1.0)
    delta: float = 1e-5
    colluding_sites: int = 1
    inversion: Inversion | None = field(default_factory=Inversion)
    matching: Matching | None = field(default_factory=Matching)
    imprint: Imprint | None = field(default_factory=Imprint)
    membership: Membership | None = field(default_factory=Membership)
    seed: int = 0
    seeded_noise: bool = False

    def __post_init__(self) -> None:
        if not 3 <= self.hospitals <= MOST_HOSPITALS:
            raise InputError(
                "hospitals", expected=f"3 to {MOST_HOSPITALS}", found=str(self.hospitals)
            )
        if not self.epsilons or len(set(self.epsilons)) < len(self.epsilons):
            raise InputError("epsilons", expected="at least one, each once")
        _at_least("seed", self.seed, 0)
        if not any((self.inversion, self.matching, self.imprint, self.membership)):
            raise InputError("attacks", expected="at least one that is not null")


def read_attacks(path: Path) -> AttackConfig:
    """The attacks of a YAML file.

    Raises:
        InputError: The file cannot be read, or a key is wrong; names file, line and key.
    """
    return read(AttackConfig, path)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(name, expected=f">= {least}", found=str(value))
