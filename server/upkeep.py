"""What a running coordinator has to do next, decided without a clock, a process or a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
SOUND_S = 300.0
CLOCK_STEP_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Something that is started again when it ends before its time.

    Args:
        started_s: When it was started last, on a monotonic clock.
        failures: How often in a row it ended soon.
        not_before_s: When it may be started next.
    """

    started_s: float = 0.0
    failures: int = 0
    not_before_s: float = 0.0

    def started(self, now_s: float) -> Effort:
        """The same, running since now."""
        return replace(self, started_s=now_s)

    def ended(self, now_s: float) -> Effort:
        """The same after an end that nobody wanted: each soon after a start doubles the wait.

        >>> effort = Effort().started(0.0)
        >>> effort.ended(2.0).not_before_s, effort.ended(2.0).ended(3.0).not_before_s
        (3.0, 5.0)
        """
        failures = 1 if now_s - self.started_s > SOUND_S else self.failures + 1
        delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 10))
        return replace(self, failures=failures, not_before_s=now_s + delay)

    def due(self, now_s: float) -> bool:
        """Whether it may be started."""
        return now_s >= self.not_before_s


@dataclass(frozen=True, kw_only=True)
class Registration:
    """How the SuperLink's list of nodes becomes the roster's.

    Args:
        add: Key by hospital that is missing.
        drop: Flower's identifiers of nodes that are in the roster no longer.
    """

    add: Mapping[str, str]
    drop: tuple[int, ...]


def register(wanted: Mapping[str, str], present: Mapping[int, str]) -> Registration:
    """What to register and what to unregister.

    Args:
        wanted: Node key in PEM, by hospital; hospitals without a node have an empty one.
        present: Node key in PEM, by Flower's identifier.

    >>> register({"north": "A", "south": "B"}, {1: "B", 2: "C"})
    Registration(add={'north': 'A'}, drop=(2,))
    """
    keys = {key.strip() for key in present.values()}
    known = {key.strip() for key in wanted.values() if key}
    return Registration(
        add={name: key for name, key in wanted.items() if key and key.strip() not in keys},
        drop=tuple(sorted(node for node, key in present.items() if key.strip() not in known)),
    )


def lost(before: Iterable[str], online: Iterable[str]) -> tuple[str, ...]:
    """Hospitals that were there and are not.

    >>> lost({"north", "south"}, {"south"})
    ('north',)
    """
    return tuple(sorted(set(before) - set(online)))


def clock_step(wall_s: float, steady_s: float) -> float:
    """Seconds by which the wall clock was set between two looks; 0 for what drift explains.

    Args:
        wall_s: What passed on the wall clock.
        steady_s: What passed on the monotonic clock.

    >>> clock_step(3602.0, 2.0), clock_step(2.001, 2.0)
    (3600.0, 0.0)
    """
    step = wall_s - steady_s
    return step if abs(step) > CLOCK_STEP_S else 0.0
