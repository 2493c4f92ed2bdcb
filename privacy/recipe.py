"""How far private gradient descent goes when a job says only how private it must be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from privacy.accounting import SLACK, gaussian_mu
from protocol.errors import InputError

_PATH_LIMITS = (1.0, 60.0)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Rounds and step length that suit full-batch private gradient descent.

    Args:
        rounds: T.
        learning_rate: Step along the sum of clipped gradients over the declared size.
    """

    rounds: int
    learning_rate: float


def default_recipe(
    *, epsilon_target: float | None, delta: float, rounds: int, kappa: float, size: int, length: int
) -> Recipe:
    """Learning rate for a job that says only how private it must be.

    The whole path of full-batch gradient descent gets the length
    clip(kappa mu n / sqrt(P), 1, 60): as far as the signal carries before the noise does.

    Args:
        epsilon_target: Epsilon of training; None where there is no noise.
        delta: Delta of training.
        rounds: T, the task's number of rounds.
        kappa: The task's constant: 0.5 for linear models, 2 for perceptrons.
        size: n, declared training patients of all sites together.
        length: P, parameters.

    >>> default_recipe(epsilon_target=None, delta=1e-5, rounds=10, kappa=0.5, size=500, length=31)
    Recipe(rounds=10, learning_rate=6.0)
    """
    if rounds < 1 or length < 1:
        raise InputError("recipe", expected="rounds >= 1 and length >= 1")
    mu = math.inf
    if epsilon_target is not None:
        mu = gaussian_mu(epsilon_target, SLACK * delta)
    shortest, longest = _PATH_LIMITS
    path = min(max(kappa * mu * size / math.sqrt(length), shortest), longest)
    return Recipe(rounds=rounds, learning_rate=path / rounds)
