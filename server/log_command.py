"""`fedward server log`: what happened in a job, and what happens."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from server.config import Folder
from server.delivery_folder import DeliveryFolder, find_either
from server.delivery_view import delivery_line
from server.follow import each_once, follow, follow_delivery, watch
from server.history import Record
from server.options import DEFAULT, Job, Json, Server
from server.view import progress_table


def log(
    job: Job,
    *,
    watching: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    server: Server = DEFAULT,
    as_json: Json = False,
) -> None:
    """Show what happened in a job, or in a delivery; with --follow, until it ends.

    With --json every event is one line. Events hold what is declared, pooled or public: rounds,
    hospitals, seconds, bytes, and pooled metrics where they are published.
    """
    folder = Folder.open(server)
    kept = find_either(folder, job)
    if as_json:
        show = each_once(lambda event: typer.echo(json.dumps(asdict(event))))
        if watching:
            watch(folder, kept, Console(quiet=True), show)
        else:
            show(kept.events())
    elif isinstance(kept, DeliveryFolder):
        _log_delivery(folder, kept, watching=watching)
    elif watching:
        follow(folder, kept, Console())
    else:
        events = kept.events()
        Console().print(progress_table(Record.of(kept), events, last=len(events)))


def _log_delivery(folder: Folder, kept: DeliveryFolder, *, watching: bool) -> None:
    if watching:
        follow_delivery(folder, kept, Console())
        return
    for event in kept.events():
        typer.echo(delivery_line(event))
