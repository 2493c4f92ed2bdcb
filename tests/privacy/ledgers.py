"""Charges, caps and files for the tests of the privacy budget and its ledger."""

from __future__ import annotations

import math
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from privacy.budget import Caps, Charge, Partition, Purpose
from protocol.signing import SigningKey

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
CAPS = Caps(epsilon=3.0, epsilon_worst=10.0, delta=1e-5)
BIG = Caps(epsilon=1e3, epsilon_worst=1e3, delta=1e-5)
KEY = SigningKey.from_seed(bytes(range(32)))


def job(number: int) -> str:
    """A job's digest."""
    return f"{number:064x}"


def charge(
    number: int = 1,
    steps: int = 1,
    *,
    sigma: float = 30.0,
    own: float | None = None,
    q: float = 1.0,
    population: str = "cardiology",
    partition: Partition = "train",
    purpose: Purpose | None = None,
) -> Charge:
    """A charge of five hospitals with one colluding, so that own noise is half of all."""
    return Charge(
        population=population,
        partition=partition,
        job=job(number),
        purpose=purpose or ("update" if partition == "train" else "evaluation"),
        sigma_effective=sigma,
        sigma_own=sigma / 2 if own is None else own,
        q=q,
        steps=steps,
        clip=1.0,
        declared_size=500,
        cohort_size=5,
        colluding_sites=1,
    )


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Balle, Wang 2018, Theorem 8, term by term."""
    above, below = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    return (math.erfc(above / 2**0.5) - math.exp(epsilon) * math.erfc(below / 2**0.5)) / 2


def mu_of(mechanisms: Iterable[tuple[float, int]]) -> float:
    """Gaussian-DP parameter of (sigma, steps) pairs."""
    return math.sqrt(math.fsum(steps / sigma**2 for sigma, steps in mechanisms))


def copy_of(path: Path, folder: Path) -> Path:
    """What a disk holds of a ledger at this moment, as a crash or a backup leaves it."""
    folder.mkdir()
    for suffix in ("", "-wal", "-shm"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copy(source, folder / source.name)
    return folder / path.name


def tamper(path: Path, *statements: str) -> None:
    """Change a ledger file as somebody with SQLite and without the key would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
