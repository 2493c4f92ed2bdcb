"""The default recipe: each factor of its path, and its limits."""

import math
from typing import Any

import pytest

from privacy.accounting import SLACK, gaussian_epsilon
from privacy.recipe import default_recipe
from protocol.errors import InputError


def test_recipe_follows_the_signal() -> None:
    def path(**changed: Any) -> float:
        arguments: dict[str, Any] = {
            "epsilon_target": 1.0, "delta": 1e-5, "rounds": 10, "kappa": 0.5, "size": 500,
            "length": 31,
        }  # fmt: skip
        recipe = default_recipe(**(arguments | changed))
        assert recipe.rounds == (arguments | changed)["rounds"]
        return recipe.learning_rate * recipe.rounds

    # mu is the Gaussian-DP parameter of the target: its own epsilon is the target.
    mu = path(size=100) * math.sqrt(31) / (0.5 * 100)
    assert gaussian_epsilon(mu, SLACK * 1e-5) == pytest.approx(1.0, rel=1e-6)
    assert path(rounds=20) == pytest.approx(path())
    assert path(size=1000) == pytest.approx(2 * path())
    assert path(length=124) == pytest.approx(path() / 2)
    assert path(kappa=1.0) == pytest.approx(2 * path())
    assert path(size=10**6) == path(epsilon_target=None) == 60
    assert path(size=1) == 1
    for bad in ({"rounds": 0}, {"length": 0}):
        with pytest.raises(InputError, match="recipe"):
            path(**bad)
