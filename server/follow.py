"""Watching a job or a delivery from its folder, by whoever may read it.

A watcher that dies costs nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import typer
from rich.console import Console
from rich.live import Live

from protocol.lockfile import is_locked
from server.config import Folder
from server.delivery_folder import DeliveryFolder
from server.delivery_view import DeliveryRecord, delivery_line
from server.history import Record
from server.job_folder import JobFolder
from server.launch import Event
from server.presence import lock_of
from server.view import event_line, painted, progress_table

LOOK_S = 0.5
INTERRUPTED = 130
Kept = JobFolder | DeliveryFolder
Show = Callable[[Sequence[Event]], None]


class Ended(Protocol):
    """What is said of a job or a delivery at its end."""

    @property
    def status(self) -> str:
        """`completed`, `failed` or `stopped`."""

    @property
    def reason(self) -> str:
        """Why it was not completed."""

    @property
    def seconds(self) -> float:
        """How long it took."""

    @property
    def refusals(self) -> Mapping[str, str]:
        """Code by hospital."""

    def to_json(self) -> dict[str, object]:
        """The same for programs."""


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
    with _detachable(folder, job, console):
        if console.is_terminal and not console.quiet:
            with Live(console=console, auto_refresh=False) as live:

                def show(events: Sequence[Event]) -> None:
                    live.update(progress_table(Record.of(job), events), refresh=True)

                watch(folder, job, console, show, look_s=look_s)
        else:
            watch(folder, job, console, _lines(console, event_line), look_s=look_s)
    return Record.of(job)


def follow_delivery(
    folder: Folder, kept: DeliveryFolder, console: Console, *, look_s: float = LOOK_S
) -> DeliveryRecord:
    """Print a line for each event until a delivery has ended; otherwise as `follow`.

    Raises:
        typer.Exit: Somebody pressed Ctrl-C; the delivery goes on.
    """
    with _detachable(folder, kept, console):
        watch(folder, kept, console, _lines(console, delivery_line), look_s=look_s)
    return DeliveryRecord.of(kept)


def watch(
    folder: Folder, kept: Kept, console: Console, show: Show, *, look_s: float = LOOK_S
) -> None:
    """Hand over what happened so far, again and again, until nothing more will happen.

    Args:
        folder: The coordinator's folder.
        kept: The job or delivery.
        console: Told when the coordinator stops running, and when it is back.
        show: Gets all events.
        look_s: Pause between two looks.
    """
    told = False
    while True:
        ended = kept.outcome is not None  # looked at first, so that no last event is missed
        show(kept.events())
        if ended:
            return
        if is_locked(lock_of(folder)) == told:
            told = not told
            console.print(
                f"The coordinator is not running; the {kept.KIND} waits for fedward server up."
                if told
                else "The coordinator is running again."
            )
        time.sleep(look_s)


def each_once(say: Callable[[Event], None]) -> Show:
    """Say every event when it is handed over for the first time."""
    shown = 0

    def show(events: Sequence[Event]) -> None:
        nonlocal shown
        for event in events[shown:]:
            say(event)
        shown = len(events)

    return show


def conclude(
    console: Console,
    record: Ended,
    *,
    as_json: bool,
    hints: Mapping[str, str] | None = None,
    last: str = "",
) -> None:
    """Say how it ended: the last words of a command, and its exit code.

    Args:
        console: Where to.
        record: How it ended.
        as_json: Print the record in place of words.
        hints: What a refusal comes to, by its code.
        last: A line below it all.

    Raises:
        typer.Exit: With 1: it was not completed.
    """
    if as_json:
        typer.echo(json.dumps(record.to_json()))
    else:
        console.print(f"{painted(record.status)} after {record.seconds:.0f} s", end=" ")
        console.print(record.reason, markup=False, soft_wrap=True)
        for hospital, code in record.refusals.items():
            told = [f"  {hospital}: {code}", *filter(None, [(hints or {}).get(code)])]
            console.print("; ".join(told), markup=False, soft_wrap=True)
        if last:
            console.print(last, soft_wrap=True)
    if record.status != "completed":
        raise typer.Exit(1)


def _lines(console: Console, line: Callable[[Event], str]) -> Show:
    def say(event: Event) -> None:
        console.print(line(event), soft_wrap=True, markup=False, highlight=False)

    return each_once(say)


@contextmanager
def _detachable(folder: Folder, kept: Kept, console: Console) -> Iterator[None]:
    """Let Ctrl-C end the watching, and say that it ends nothing else."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(
            f"Detached; the {kept.KIND} goes on. Watch it with: fedward server log "
            f"{kept.path.name} --follow --server {folder.file}",
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED) from None
