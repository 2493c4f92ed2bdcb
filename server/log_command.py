"""`fedward server log`: what happened in a job, and what happens."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from server.config import Folder
from server.delivery_folder import DeliveryFolder, find_either
from server.delivery_view import delivery_line
from server.delivery_view import follow as follow_delivery
from server.follow import LOOK_S, follow
from server.history import Record
from server.job_folder import JobFolder
from server.options import DEFAULT, Job, Json, Server
from server.view import progress_table


def log(
    job: Job,
    *,
    watch: Annotated[
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
    if isinstance(kept, DeliveryFolder):
        _log_delivery(folder, kept, watch=watch, as_json=as_json)
    elif as_json:
        _print_lines(kept, watch=watch)
    elif watch:
        follow(folder, kept, Console())
    else:
        events = kept.events()
        Console().print(progress_table(Record.of(kept), events, last=len(events)))


def _log_delivery(folder: Folder, kept: DeliveryFolder, *, watch: bool, as_json: bool) -> None:
    if as_json:
        _print_lines(kept, watch=watch)
    elif watch:
        follow_delivery(folder, kept, Console())
    else:
        for event in kept.events():
            typer.echo(delivery_line(event))


def _print_lines(kept: JobFolder | DeliveryFolder, *, watch: bool) -> None:
    shown = 0
    while True:
        ended = kept.outcome is not None
        events = kept.events()
        for event in events[shown:]:
            typer.echo(json.dumps(asdict(event)))
        shown = len(events)
        if ended or not watch:
            return
        time.sleep(LOOK_S)
