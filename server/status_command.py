"""`fedward server status` and `history`: hospitals, jobs, deliveries now, and all that ended."""

from __future__ import annotations

import json

import typer
from rich.console import Console

from server.archive import Archive
from server.config import Folder
from server.delivery_folder import DeliveryArchive
from server.delivery_view import DeliveryRecord, deliveries_table
from server.history import Record
from server.options import DEFAULT, Json, Server
from server.presence import present
from server.view import hospitals_table, jobs_table


def status(*, server: Server = DEFAULT, as_json: Json = False) -> None:
    """Show whether the coordinator runs, who is connected, and which jobs are under way."""
    folder = Folder.open(server)
    found = present(folder)
    records = [Record.of(job) for job in Archive(folder.jobs).unfinished()]
    deliveries = [DeliveryRecord.of(one) for one in DeliveryArchive(folder).unfinished()]
    if as_json:
        coordinator = {
            "running": found is not None,
            "ready": found is not None and found.ready,
            "address": folder.config.address,
            "hospitals": dict(found.hospitals) if found else {},
            "jobs": [record.to_json() for record in records],
            "deliveries": [delivery.to_json() for delivery in deliveries],
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
    if deliveries:
        console.print(deliveries_table(deliveries, "Deliveries under way"))


def history(*, server: Server = DEFAULT, as_json: Json = False) -> None:
    """Show every job that has ended: outcome, epsilon, seconds, bytes; and every delivery.

    With --json, jobs come first; a delivery has a key "kind" that says so.
    """
    folder = Folder.open(server)
    jobs = [job for job in Archive(folder.jobs).jobs() if job.outcome is not None]
    records = [Record.of(job) for job in jobs]
    ended = [one for one in DeliveryArchive(folder).deliveries() if one.outcome is not None]
    deliveries = [DeliveryRecord.of(one) for one in ended]
    if as_json:
        jobs_json = [record.to_json() for record in records]
        typer.echo(json.dumps([*jobs_json, *(record.to_json() for record in deliveries)]))
        return
    console, table = Console(), jobs_table(records, "Jobs that have ended")
    console.print(table if records else "No job has ended yet.")
    if deliveries:
        console.print(deliveries_table(deliveries, "Deliveries that have ended"))
