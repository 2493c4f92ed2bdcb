"""How long a simulation still takes, and how that is shown."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from server.launch import Event
from simulations.config import Arm
from simulations.progress import Bar, Pace
from simulations.sweep import Progress

POOLED, PRIVATE = Arm(arm="pooled"), Arm(arm="distributed", epsilon=3.0)


def at(done: int, *, share: float = 0.0, event: Event | None = None) -> Progress:
    """Two arms, three seeds."""
    arm = (POOLED, PRIVATE)[done % 2]
    return Progress(arm=arm, seed=done // 2, done=done, total=6, arms=2, share=share, event=event)


def pace_of(*times: float) -> Pace:
    ticks: Iterator[float] = iter(times)
    return Pace(clock=lambda: next(ticks))


def test_an_arm_takes_as_long_as_it_took_before() -> None:
    """10 s and 100 s for the arms of a seed; the third run has just begun."""
    pace = pace_of(0.0, 10.0, 110.0)
    assert pace.left_s(at(0)) is None
    assert pace.left_s(at(1)) == pytest.approx(5 * 10.0)
    assert pace.left_s(at(2)) == pytest.approx(2 * (10.0 + 100.0))


def test_the_rounds_that_are_done_tell_how_long_a_run_takes() -> None:
    """A quarter of the first run in 5 s: 20 s each, 15 s of which are left of this one."""
    pace = pace_of(0.0, 5.0)
    pace.left_s(at(0))
    assert pace.left_s(at(0, share=0.25)) == pytest.approx(15.0 + 5 * 20.0)


def test_a_run_that_takes_longer_than_ever_leaves_no_negative_time() -> None:
    pace = pace_of(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 50.0)
    for done in range(6):
        pace.left_s(at(done))
    assert pace.left_s(at(5)) == 0.0


def test_a_log_gets_one_line_for_each_run() -> None:
    heard = io.StringIO()
    console = Console(file=heard, width=80, force_terminal=False)
    with Bar(console, pace_of(0.0, 1.0, 90.0, 100.0)) as bar:
        bar.show(at(0))
        bar.show(at(0, share=0.5, event=Event(kind="round", round=5, sites=("north",))))
        bar.show(at(1))
        bar.show(at(2))
    assert heard.getvalue().splitlines() == [
        "run 1 of 6: pooled, seed 0",
        "run 2 of 6: distributed at epsilon 3, seed 0, about 8 min left",
        "run 3 of 6: pooled, seed 1, about 3 min left",
    ]


def test_a_terminal_shows_the_round_and_the_time_left() -> None:
    """Half of the second run took 60 s: 60 s more, then twice 90 s and 120 s."""
    heard = io.StringIO()
    console = Console(file=heard, width=120, force_terminal=True)
    event = Event(kind="round", round=5, sites=("north",), detail="round 5 of 10")
    with Bar(console, pace_of(0.0, 90.0, 150.0)) as bar:
        bar.show(at(0))
        bar.show(at(1))
        bar.show(at(1, share=0.5, event=event))
    assert "distributed at epsilon 3, seed 0, round 5 of 10" in heard.getvalue()
    assert "about 8 min left" in heard.getvalue()
