from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import InputError
from simulations.attack_config import (
    AttackConfig,
    Imprint,
    Inversion,
    Matching,
    Membership,
    read_attacks,
)

SHIPPED = Path(__file__).parents[2] / "configs" / "simulations" / "attacks.yaml"


def test_the_shipped_file_shows_the_defaults() -> None:
    assert read_attacks(SHIPPED) == AttackConfig(name="attacks")


def test_null_leaves_an_attack_out(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nmatching: null\nimprint: {bins: 64}\n")
    config = read_attacks(path)
    assert config.matching is None
    assert config.imprint == Imprint(bins=64)
    assert config.membership == Membership()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hospitals": 2}, "hospitals"),
        ({"hospitals": 21}, "hospitals"),
        ({"epsilons": ()}, "epsilons"),
        ({"epsilons": (1.0, 1.0)}, "epsilons"),
        ({"seed": -1}, "seed"),
        (dict.fromkeys(("inversion", "matching", "imprint", "membership")), "attacks"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        replace(AttackConfig(name="a"), **changes)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Inversion, {"records": ()}),
        (Inversion, {"records": (4, 0)}),
        (Inversion, {"updates": 0}),
        (Inversion, {"hidden": ()}),
        (Matching, {"updates": 0}),
        (Matching, {"iterations": 0}),
        (Matching, {"restarts": 0}),
        (Imprint, {"records": 0}),
        (Imprint, {"bins": 1}),
        (Membership, {"models": 7}),
        (Membership, {"records": 1}),
        (Membership, {"hidden": 0}),
        (Membership, {"rounds": 0}),
        (Membership, {"local_steps": 0}),
    ],
)
def test_so_is_every_size(kind: type, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        kind(**changes)


def test_a_misspelt_key_is_an_error_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nimprint: {bin: 64}\n")
    with pytest.raises(InputError, match=r"imprint.*bin.*bins"):
        read_attacks(path)
