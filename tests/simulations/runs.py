"""Whole jobs over a virtual consortium, with a coordinator or a network that can be disturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from client.hospital import Hospital
from learning.artefact import Model, load
from privacy.he.sum import SumProcess
from protocol.jobs import Job
from server.checkpoint import Pending
from server.course import Course
from server.exchange import Exchange
from server.launch import Outcome
from simulations.consortium import Consortium
from simulations.engine import Way, inline_app, sign
from simulations.inline import InlineGrid

Drop = Callable[[int, int], bool]


class Run:
    """A job that has run, with everything the coordinator held and received."""

    def __init__(
        self, course: Course, grid: InlineGrid, outcome: Outcome, sums: tuple[Pending, ...]
    ) -> None:
        self.course = course
        self.grid = grid
        self.outcome = outcome
        self.sums = sums


def run_course(consortium: Consortium, job: Job, *, drop: Drop = lambda _, __: False) -> Run:
    """Run a job inline; `drop` loses messages to a hospital by (its index, messages before)."""
    with inline_app(Way.to(consortium)) as app, SumProcess() as child:
        grid = InlineGrid(app, len(consortium.names), drop=drop)
        encrypted = job.encryption.scheme == "bfv"
        sums: dict[tuple[int, str], Pending] = {}
        launch = sign(consortium, job, watch=lambda _: sums.update(course._holding.pending))
        course = Course(launch, Exchange(grid, poll_s=0.0), child if encrypted else None)
        return Run(course, grid, course.run(), tuple(sums.values()))


def models(consortium: Consortium, job: Job) -> dict[str, Model]:
    """The model that each hospital has in its store."""
    found = {}
    for name in consortium.names:
        place = consortium.folder / name / "models" / job.name / "1"
        if place.exists():
            found[name] = load(place)
    return found


@contextmanager
def opened(consortium: Consortium, name: str) -> Iterator[Hospital]:
    """One hospital, to look into its ledger and journal after a run."""
    with consortium.open(name) as hospital:
        yield hospital
