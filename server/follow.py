"""Watching a job from its folder, by whoever may read it: a watcher that dies costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import typer
from rich.console import Console
from rich.live import Live

from protocol.lockfile import is_locked
from server.config import Folder
from server.history import Record
from server.job_folder import JobFolder
from server.launch import Event
from server.presence import lock_of
from server.view import event_line, progress_table

LOOK_S = 0.5
INTERRUPTED = 130


def follow(folder: Folder, job: JobFolder, console: Console, *, look_s: float = LOOK_S) -> Record:
    """Show a job until it has ended: a live table on a terminal, else a line for each event.

    Args:
        folder: The coordinator's folder.
        job: The job.
        console: Where to.
        look_s: Pause between two looks.

    Returns:
        How it ended.

    Raises:
        typer.Exit: Somebody pressed Ctrl-C; the job goes on.
    """
    try:
        if console.is_terminal and not console.quiet:
            with Live(console=console, auto_refresh=False) as live:
                return _watch(folder, job, console, live, look_s)
        return _watch(folder, job, console, None, look_s)
    except KeyboardInterrupt:
        console.print(
            f"Detached; the job goes on. Watch it with: fedward server log {job.path.name}"
            f" --follow --server {folder.file}",
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED) from None


def _watch(
    folder: Folder, job: JobFolder, console: Console, live: Live | None, look_s: float
) -> Record:
    shown, told = 0, False
    while True:
        ended = job.outcome is not None  # looked at first, so that no last event is missed
        events = job.events()
        record = Record.of(job)
        if live is not None:
            live.update(progress_table(record, events), refresh=True)
        else:
            shown = _print_new(console.print, events, shown)
        if ended:
            return record
        if is_locked(lock_of(folder)) == told:
            told = not told
            console.print(
                "The coordinator is not running; the job waits for fedward server up."
                if told
                else "The coordinator is running again."
            )
        time.sleep(look_s)


def _print_new(show: Callable[..., None], events: Sequence[Event], shown: int) -> int:
    for event in events[shown:]:
        show(event_line(event), soft_wrap=True, markup=False, highlight=False)
    return len(events)
