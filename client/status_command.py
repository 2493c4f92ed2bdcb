"""`fedward client status`: how the node stands, without disturbing it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.hospital import HospitalConfig
from client.node_state import StateFolder
from client.support_bundle import write_bundle
from client.up_command import Config
from privacy.ledger import Ledger
from protocol.config import read
from protocol.errors import FedwardError

_DIGITS = 12


def status(
    config: Config,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    support_bundle: Annotated[
        Path | None,
        typer.Option(help="Also write a zip for whoever helps you: versions, logs, settings."),
    ] = None,
) -> None:
    """Show whether the node runs and is connected, its jobs, and what is left of the budget.

    The support bundle holds no key, no record, no ledger row and no password; look into it before
    you send it.
    """
    found = collect(config)
    if support_bundle is not None:
        write_bundle(support_bundle, config, found)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    show(found, Console())
    if support_bundle is not None:
        typer.echo(f"wrote {support_bundle}")


def collect(config: Path) -> dict[str, Any]:
    """Everything that there is to say of a node, for programs."""
    hospital = read(HospitalConfig, config)
    folder = StateFolder(config.parent / hospital.node.state)
    running = folder.running
    said = folder.load_status()
    jobs = {
        known.digest: {
            "name": known.name,
            "decision": known.decision,
            "begun": known.begun,
            **_progress(said, known.digest, running=running),
        }
        for known in folder.known()
    }
    return {
        "hospital": hospital.name,
        "running": running,
        "connected": running and bool(said.get("connected")),
        "paused": folder.paused,
        "approval": hospital.node.approval,
        "coordinator": said.get("coordinator"),
        "since": said.get("since") if running else None,
        "answered": said.get("answered", 0),
        "last_error": said.get("last_error"),
        "jobs": jobs,
        "budget": _budget(config.parent / hospital.ledger),
    }


def show(found: Mapping[str, Any], console: Console) -> None:
    """Print a status for people."""
    state = "not running"
    if found["running"]:
        state = "connected" if found["connected"] else "running, not connected"
    lines = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for label, value in (
        ("Hospital", found["hospital"]),
        ("Node", f"{state}, paused" if found["paused"] else state),
        ("Coordinator", found["coordinator"] or "not known yet"),
        ("Answered", found["answered"]),
        ("Last error", found["last_error"] or "none"),
    ):
        lines.add_row(label, Text(str(value)))
    console.print(lines)
    if found["jobs"]:
        console.print(_job_table(found["jobs"]))
    if isinstance(found["budget"], list) and found["budget"]:
        console.print(_budget_table(found["budget"]))


def _progress(said: Mapping[str, Any], digest: str, *, running: bool) -> dict[str, Any]:
    last = said.get("jobs", {}).get(digest, {})
    pid = said.get("processes", {}).get(digest) if running else None
    names = ("round", "message", "outcome", "at")
    return {**{name: last.get(name) for name in names}, "pid": pid}


def _budget(path: Path) -> list[dict[str, Any]] | str:
    """What is left of each population's budget, or why that cannot be said."""
    if not path.exists():
        return []
    try:
        with Ledger.open(path, None) as ledger:
            return [
                {
                    "population": balance.population,
                    "partition": str(balance.partition),
                    "epsilon": _finite(balance.admission[0]),
                    "cap": _finite(balance.caps.epsilon),
                }
                for balance in ledger.report().balances
            ]
    except FedwardError as error:
        return str(error)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _job_table(jobs: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for name in ("job", "name", "decision", "round", "last"):
        table.add_column(name)
    for digest, job in jobs.items():
        place = "" if job["round"] is None else str(job["round"])
        last = _told(job["message"], job["outcome"])
        cells = (digest[:_DIGITS], job["name"], job["decision"], place, last)
        table.add_row(*map(Text, cells))
    return table


def _told(message: str | None, outcome: str) -> str:
    """The last message and its outcome; every job ends with a `stop`, a completed one as well."""
    if message is None:
        return ""
    return "closed" if (message, outcome) == ("stop", "stopped") else f"{message}: {outcome}"


def _budget_table(budget: list[dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for name in ("population", "partition"):
        table.add_column(name)
    for name in ("epsilon", "cap"):
        table.add_column(name, justify="right")
    for row in budget:
        numbers = ("" if row[key] is None else f"{row[key]:.4g}" for key in ("epsilon", "cap"))
        table.add_row(*map(Text, (row["population"], row["partition"], *numbers)))
    return table
