"""`fedward client pause`, `resume` and `leave`: what an administrator tells a node."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from client.hospital import Hospital, HospitalConfig
from client.known_jobs import Known
from client.node_state import StateFolder
from client.store import DiskSessions
from client.up_command import Config
from client.withdraw import open_jobs, withdraw
from protocol.config import read
from protocol.errors import BusyError, InputError

_ENDED_S = 60.0
_LOOK_S = 0.2
_KEYS = ("signing.key", "exchange.key", "node.key")


def pause(config: Config) -> None:
    """Take no new jobs; those that began here go on.

    A coordinator that asks meanwhile is told that the node is busy. It holds until
    `fedward client resume`, also when the node is started again.
    """
    _folder(config).pause()
    typer.echo("paused: new jobs are refused, running ones go on")


def resume(config: Config) -> None:
    """Take new jobs again."""
    _folder(config).resume()
    typer.echo("resumed: new jobs are taken")


def leave(
    config: Config,
    job: Annotated[
        str | None, typer.Argument(help="Name or first digits of the job; see 'jobs list'.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All jobs that began here.")] = False,
    forget_keys: Annotated[
        bool,
        typer.Option(
            "--forget-keys",
            help="With --all, and the node stopped: also delete the hospital's secret keys.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Stop a job here for good: its process ends, and what it did not use of the budget returns.

    What was released stays charged. The other hospitals go on if they are enough; this hospital
    cannot come back to the job. Deleting the keys ends this hospital's membership: it can only come
    back as a new member. Tell the coordinator.

    Raises:
        InputError: No such job, or the words do not fit together.
        BusyError: The node answers a message of the job.
    """
    if every == (job is not None):
        raise InputError("what to leave", expected="either a job or --all")
    if forget_keys and not every:
        raise InputError("--forget-keys", expected="together with --all")
    folder = _folder(config)
    if forget_keys and folder.running:
        raise BusyError("the node runs", remedy="stop it before its keys are deleted")
    chosen = _begun(folder) if job is None else [folder.find(job)]
    names = ", ".join(known.name for known in chosen) or "no job"
    if not yes:
        keys = ", and delete the hospital's keys" if forget_keys else ""
        typer.confirm(f"Leave {names} for good{keys}?", abort=True)
    for known in chosen:
        _leave(config, folder, known)
        typer.echo(f"left {known.name}")
    if forget_keys:
        _forget_keys(config)
        typer.echo("the hospital's secret keys are deleted")


def _leave(config: Path, folder: StateFolder, known: Known) -> None:
    """Let the node end the job's process, then close the job's books."""
    folder.decide(known.digest, "left")
    end = time.monotonic() + _ENDED_S
    while folder.running and known.digest in folder.load_status().get("processes", {}):
        if time.monotonic() > end:
            raise BusyError(
                "the node still answers a message of this job",
                remedy="try again; it takes no further message of it",
            )
        time.sleep(_LOOK_S)
    with Hospital.open(config) as hospital:
        sessions = DiskSessions(folder.jobs)
        # Asked for in any case: a kill, or an interrupted `leave`, may have come between.
        if known.digest in open_jobs(hospital, sessions):
            withdraw(hospital, sessions, known.digest)


def _begun(folder: StateFolder) -> list[Known]:
    return [known for known in folder.known() if known.begun and known.decision != "left"]


def _forget_keys(config: Path) -> None:
    keys = config.parent / read(HospitalConfig, config).keys
    for name in _KEYS:
        (keys / name).unlink(missing_ok=True)


def _folder(config: Path) -> StateFolder:
    return StateFolder(config.parent / read(HospitalConfig, config).node.state)
