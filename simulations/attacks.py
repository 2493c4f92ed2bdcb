"""Attacks on training under every defence: what an attacker gets back, and what it does not.

Every attack meets the same records under every defence, and every attacker reads exactly what the
parties on its side hold, see `simulations.attack_views` and docs/attacks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simulations.attack_config import AttackConfig
from simulations.attack_imprint import imprint
from simulations.attack_membership import membership
from simulations.attack_range import Range
from simulations.attack_results import Attacks, Line, Told
from simulations.attack_updates import inversion, matching
from simulations.audit_bench import one_thread

Watch = Callable[[str], None]


def attack(config: AttackConfig, *, watch: Watch = lambda _: None) -> Attacks:
    """Run every attack of a configuration; this is what `fedward attack` and notebooks call.

    Args:
        config: Which attacks, how large, against which noise.
        watch: Called with one line when a part begins.

    Raises:
        InputError: The configuration cannot be met, for instance an epsilon by so few hospitals.
    """
    # Networks and batches are small: more threads than one spend their time waiting for each other.
    with one_thread():
        return _attack(config, watch)


def _attack(config: AttackConfig, watch: Watch) -> Attacks:
    range_ = Range(config)
    lines: list[Line] = []
    told: tuple[Told, ...] = ()
    refused: Mapping[str, Mapping[str, str]] = {}
    if config.inversion is not None:
        lines += inversion(range_, config.inversion, watch)
    if config.matching is not None:
        lines += matching(range_, config.matching, watch)
    if config.imprint is not None:
        planted, refused = imprint(range_, config.imprint, watch)
        lines += planted
    if config.membership is not None:
        told = membership(range_, config.membership, watch)
    return Attacks(config=config, lines=tuple(lines), told=told, refused=refused)
