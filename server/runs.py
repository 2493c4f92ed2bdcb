"""Every unfinished job has a run at Flower and a process that carries it out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from protocol.bundle import Signed
from protocol.errors import FedwardError
from server.announcements import Tell
from server.config import Folder
from server.control import Control
from server.job_process import JobProcess
from server.requested import take_resumed
from server.runtime import Runtime
from server.transcript import Transcript
from server.upkeep import Effort

CLAIM_S = 30.0
ASK_S = 10.0
"""How often Flower is asked whether a run is over whose process lives."""
TRANSCRIPT = "jobs.log"


class Kept(Protocol):
    """A job's or a delivery's folder, as far as runs need it."""

    @property
    def digest(self) -> str:
        """Its identity."""

    @property
    def title(self) -> str:
        """What people call it."""

    @property
    def signed(self) -> Signed:
        """What a run of it brings along."""

    @property
    def outcome(self) -> object | None:
        """How it ended, None while it has not."""

    @property
    def runs(self) -> tuple[int, ...]:
        """Flower's runs of it, the present one last."""

    def add_run(self, run: int) -> None:
        """Note another one."""


@dataclass
class _Going:
    job: Kept
    run: int
    since_s: float
    process: JobProcess | None = None
    outlived: bool = False

    def ending(self, now_s: float) -> str | None:
        """How it came to nothing, None while it goes on."""
        if self.process is None:
            late = now_s - self.since_s > CLAIM_S
            return "Flower did not hand its run over" if late else None
        ending = self.process.ending()
        return None if ending is None else f"its process {ending}"


class Runs:
    """The runs of a coordinator's jobs.

    Args:
        folder: The coordinator's folder.
        tell: Called with a kind and a line for whatever the administrator should know.
    """

    def __init__(self, folder: Folder, tell: Tell) -> None:
        self._folder = folder
        self._tell = tell
        self._going: dict[str, _Going] = {}
        self._efforts: dict[str, Effort] = {}
        self._asked_s = 0.0
        self._transcript = Transcript(folder.state / TRANSCRIPT)

    @property
    def numbers(self) -> dict[str, int]:
        """Flower's number of each job's run, by the job's digest."""
        return {digest: going.run for digest, going in self._going.items()}

    @property
    def pids(self) -> dict[str, int]:
        """The process of each job that has one, by the job's digest."""
        goings = self._going.items()
        return {digest: one.process.pid for digest, one in goings if one.process is not None}

    def look(self) -> None:
        """Notice processes that ended; nobody else is asked for that."""
        now_s = time.monotonic()
        for digest, going in list(self._going.items()):
            ending = going.ending(now_s)
            if ending is None:
                continue
            del self._going[digest]
            effort = self._efforts.pop(digest, Effort()).ended(now_s)
            if going.job.outcome is None:
                self._efforts[digest] = effort
                wait_s = effort.not_before_s - now_s
                self._tell("job", f"{going.job.title}: {ending}; again in {wait_s:.0f} s")

    def keep(self, jobs: Iterable[Kept], control: Control, runtime: Runtime) -> None:
        """Give every job a run and a process, unless it has them or has to wait.

        Args:
            jobs: Jobs and deliveries without an outcome.
            control: To submit runs with.
            runtime: To claim runs with.

        Raises:
            LinkError: The SuperLink did not answer.
        """
        now_s = time.monotonic()
        for digest in take_resumed(self._folder):
            self._efforts.pop(digest, None)
        for job in jobs:
            effort = self._efforts.get(job.digest, Effort())
            if job.digest not in self._going and effort.due(now_s):
                self._efforts[job.digest] = self._begin(control, job, effort.started(now_s))
        if any(going.process is None for going in self._going.values()):
            self._claim(control, runtime)
        if now_s - self._asked_s > ASK_S:
            self._asked_s = now_s
            self._end_outlived(control)

    def end(self) -> None:
        """End every process; jobs without an outcome get another one."""
        for going in self._going.values():
            if going.process is not None:
                going.process.stop()
        self._going.clear()
        self._transcript.close()

    def _begin(self, control: Control, job: Kept, effort: Effort) -> Effort:
        """Submit a job; one that cannot be keeps no other waiting."""
        try:
            self._submit(control, job)
        except FedwardError as error:
            effort = effort.ended(effort.started_s)
            wait_s = effort.not_before_s - effort.started_s
            self._tell("job", f"{job.title}: {error}; again in {wait_s:.0f} s")
        return effort

    def _submit(self, control: Control, job: Kept) -> None:
        """Start a run, and see to it that Flower knows no earlier one of the same job."""
        for run in job.runs[-1:]:
            control.stop_run(run)
        run = control.submit(job.signed)
        job.add_run(run)
        self._going[job.digest] = _Going(job, run, time.monotonic())
        self._tell("job", f"{job.title}: submitted as run {run}")

    def _claim(self, control: Control, runtime: Runtime) -> None:
        """Start a process for each run that waits; one that is no job's is left from before."""
        waiting = {going.run: going for going in self._going.values() if going.process is None}
        while (claim := runtime.claim()) is not None:
            if claim.run not in waiting:
                control.stop_run(claim.run)
                continue
            going = waiting.pop(claim.run)
            name = going.job.title
            going.process = JobProcess(self._folder, name, claim.token, self._transcript)

    def _end_outlived(self, control: Control) -> None:
        """End processes that were there a while after their run was over: they answer nobody.

        Flower ends the run of a process that is frozen, since it misses its heartbeats.
        """
        for going in self._going.values():
            if going.process is None or not control.run(going.run).over:
                continue
            if going.outlived:
                self._tell("job", f"{going.job.title}: its process outlives its run and is ended")
                going.process.stop()
            going.outlived = True
