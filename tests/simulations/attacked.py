"""Small consortia under attack, the same for every test."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulations.attack_bench import Bench
from simulations.attack_config import AttackConfig, Imprint, Inversion, Matching, Membership
from simulations.attack_jobs import Defence, Plan
from simulations.attack_range import Range

NONE = Defence(epsilon=None, encrypted=False)
NOISE = Defence(epsilon=3.0, encrypted=False)
ENCRYPTION = Defence(epsilon=None, encrypted=True)
BOTH = Defence(epsilon=3.0, encrypted=True)
EVERY = (NONE, NOISE, ENCRYPTION, BOTH)

SMALL = AttackConfig(
    name="small",
    epsilons=(3.0, 1.0),
    inversion=Inversion(records=(1,), updates=8),
    matching=Matching(updates=2, iterations=40),
    imprint=Imprint(records=32, bins=512),
    membership=Membership(models=8, records=8, hidden=32, rounds=3, local_steps=12),
    seeded_noise=True,
)
"""Every attack, on few records."""


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def bench(
    defence: Defence,
    *,
    records: int = 2,
    hidden: tuple[int, ...] = (16, 8),
    seed: int = 0,
    **changes: Any,
) -> Bench:
    """Four hospitals with a small network; `changes` are fields of the configuration."""
    config = AttackConfig(name="test", seeded_noise=True, **changes)
    options = {"model": "mlp", "hidden": list(hidden)}
    plan = Plan(config=config, records=records, options=options)
    return next(Range(config).benches(plan, defence, generator(seed)))
