"""`fedward client jobs`: what asked this hospital, and the administrator's word on it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.hospital import HospitalConfig
from client.known_jobs import Known
from client.node_state import StateFolder
from client.up_command import Config
from protocol.config import read
from protocol.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False)
Job = Annotated[str, typer.Argument(help="The job's name, or the first digits of its digest.")]
_DIGITS = 12


@app.callback()
def _jobs() -> None:
    """Decide on jobs that asked this hospital, and on models on their way from or to it.

    With `approval: manual` in the section `node` of the configuration, a job waits until somebody
    approved it here. The coordinator sees that it waits, and asks again. So does a delivery, which
    hands a finished model on; the policy says to whom (`hand_on_to`), and whether models of others
    come in (`accept_models`).
    """


@app.command("list")
def list_jobs(
    config: Config,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List every job and delivery that asked, with what it wants and what was decided."""
    jobs = _folder(config).known()
    if as_json:
        typer.echo(json.dumps([_document(known) for known in jobs], indent=2))
    else:
        Console().print(_table(jobs) if jobs else "no job has asked yet")


@app.command()
def approve(config: Config, job: Job) -> None:
    """Let a job run here, as far as policy and budget allow it."""
    known = _decided(config, job)
    _folder(config).decide(known.digest, "approved")
    typer.echo(f"approved {known.name}: the node takes part when the coordinator asks again")


@app.command()
def deny(config: Config, job: Job) -> None:
    """Refuse a job; one that began here is stopped, see also `fedward client leave`."""
    known = _decided(config, job)
    _folder(config).decide(known.digest, "denied")
    typer.echo(f"denied {known.name}")


def _decided(config: Path, job: str) -> Known:
    """The job that a decision is about.

    Raises:
        InputError: No such job, or this hospital left it, which is for good.
    """
    known = _folder(config).find(job)
    if known.decision == "left":
        raise InputError(f"this hospital left {known.name!r}", expected="a job that it did not")
    return known


def _document(known: Known) -> dict[str, object]:
    return {**asdict(known.asked), "decision": known.decision, "begun": known.begun}


def _table(jobs: list[Known]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for name in ("job", "name", "decision", "task", "mode"):
        table.add_column(name)
    for name in ("epsilon", "rounds"):
        table.add_column(name, justify="right")
    for known in jobs:
        told = known.asked.summary
        epsilon = "" if told["epsilon"] is None else f"{told['epsilon']:.4g}"
        cells = (known.digest[:_DIGITS], known.name, known.decision, told["task"], told["mode"])
        table.add_row(*map(Text, (*cells, epsilon, str(told["rounds"] or ""))))
    return table


def _folder(config: Path) -> StateFolder:
    return StateFolder(config.parent / read(HospitalConfig, config).node.state)
