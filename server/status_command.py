"""`fedward server status` and `history`: hospitals and jobs now, and every job that has ended."""

from __future__ import annotations

import json

import typer
from rich.console import Console

from server.archive import Archive
from server.config import Folder
from server.history import Record
from server.options import DEFAULT, Json, Server
from server.presence import present
from server.view import hospitals_table, jobs_table


def status(*, server: Server = DEFAULT, as_json: Json = False) -> None:
    """Show whether the coordinator runs, who is connected, and which jobs are under way."""
    folder = Folder.open(server)
    found = present(folder)
    records = [Record.of(job) for job in Archive(folder.jobs).unfinished()]
    if as_json:
        coordinator = {
            "running": found is not None,
            "ready": found is not None and found.ready,
            "address": folder.config.address,
            "hospitals": dict(found.hospitals) if found else {},
            "jobs": [record.to_json() for record in records],
        }
        typer.echo(json.dumps(coordinator))
        return
    console = Console()
    if found is None:
        console.print(f"Not running; start it with: fedward server up {server}", soft_wrap=True)
    else:
        state = "ready" if found.ready else "starting"
        console.print(f"Running ({state}) for hospitals at {folder.config.address}")
        console.print(hospitals_table(found.hospitals))
    console.print(jobs_table(records, "Jobs under way") if records else "No job is under way.")


def history(*, server: Server = DEFAULT, as_json: Json = False) -> None:
    """Show every job that has ended: outcome, epsilon, seconds, bytes."""
    folder = Folder.open(server)
    jobs = [job for job in Archive(folder.jobs).jobs() if job.outcome is not None]
    records = [Record.of(job) for job in jobs]
    if as_json:
        typer.echo(json.dumps([record.to_json() for record in records]))
    else:
        table = jobs_table(records, "Jobs that have ended")
        Console().print(table if records else "No job has ended yet.")
