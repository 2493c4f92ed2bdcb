"""What a person sees while a simulation runs: which arm, which round, how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Line

from simulations.config import Arm
from simulations.sweep import Progress

MINUTE_S = 60.0
HOUR_S = 3600.0


class Pace:
    """How long a sweep still takes, from how long its runs took.

    Every seed has the same arms in the same order, so an arm takes as long as it took before. The
    mean of the others stands in for one that was not there yet.

    Args:
        clock: Seconds that only grow.

    >>> times = iter([0.0, 10.0])
    >>> pace, arm = Pace(clock=lambda: next(times)), Arm(arm="pooled")
    >>> pace.left_s(Progress(arm=arm, seed=0, done=0, total=3, arms=3))
    >>> pace.left_s(Progress(arm=arm, seed=0, done=1, total=3, arms=3))
    20.0
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: dict[int, float] = {}

    def left_s(self, progress: Progress) -> float | None:
        """Seconds until the sweep ends; None before anything is known."""
        now = self._clock()
        begun = self._begun.setdefault(progress.done, now)
        took = self._took(progress.arms)
        if progress.share > 0:
            took[progress.done % progress.arms] = (now - begun) / progress.share
        if not took:
            return None
        usual = fmean(took.values())
        runs = [
            took.get(run % progress.arms, usual) for run in range(progress.done, progress.total)
        ]
        return max(0.0, sum(runs) - (now - begun))

    def _took(self, arms: int) -> dict[int, float]:
        """Seconds of each arm's last whole run, by its place."""
        ends = {run: self._begun[run + 1] for run in self._begun if run + 1 in self._begun}
        return {run % arms: end - self._begun[run] for run, end in ends.items()}


def left(seconds: float | None) -> str:
    """A remaining time in words.

    >>> left(None), left(20.0), left(250.0), left(7100.0)
    ('', 'under a minute left', 'about 4 min left', 'about 2.0 h left')
    """
    if seconds is None:
        return ""
    if seconds < MINUTE_S:
        return "under a minute left"
    if seconds < HOUR_S:
        return f"about {seconds / MINUTE_S:.0f} min left"
    return f"about {seconds / HOUR_S:.1f} h left"


class Bar:
    """Progress on standard error: one line that moves on a terminal, a line for each run elsewhere.

    Args:
        console: Where to; a quiet one shows nothing.
        pace: How long it still takes.
    """

    def __init__(self, console: Console, pace: Pace | None = None) -> None:
        self._console = console
        self._pace = pace or Pace()
        self._line = Line(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.completed}/{task.total} runs"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
        )
        self._task = self._line.add_task("starting", total=None, left="")

    def __enter__(self) -> Bar:
        if self._console.is_terminal:
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._line.stop()

    def show(self, progress: Progress) -> None:
        """Show where the sweep is."""
        title = f"{_title(progress.arm)}, seed {progress.seed}"
        remaining = left(self._pace.left_s(progress))
        if not self._console.is_terminal:
            if progress.event is None:
                words = f"run {progress.done + 1} of {progress.total}: {title}"
                self._console.print(f"{words}, {remaining}" if remaining else words)
            return
        event = progress.event
        self._line.update(
            self._task,
            description=title if event is None else f"{title}, {event.detail}",
            completed=progress.done,
            total=progress.total,
            left=remaining,
        )


def _title(arm: Arm) -> str:
    return arm.arm if arm.epsilon is None else f"{arm.arm} at epsilon {arm.epsilon:g}"
