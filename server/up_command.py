"""`fedward server up`: the coordinator's service, in the foreground until it is told to end."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from protocol.errors import BusyError
from protocol.lockfile import is_locked
from server.announcements import Tell
from server.config import ENVIRONMENT, Folder
from server.link import environment
from server.options import DEFAULT
from server.presence import lock_of
from server.readiness import check_port, check_ready
from server.service import Service
from server.webhook import Webhook

HANDOVER_S = 10.0


def up(
    config: Annotated[
        Path, typer.Argument(envvar=ENVIRONMENT, help="The coordinator's configuration.")
    ] = DEFAULT,
) -> None:
    """Let hospitals connect, and carry out jobs until Ctrl-C or SIGTERM.

    Checks keys, roster and certificates, starts Flower's SuperLink and starts it again if it ends,
    lets in the hospitals of the roster, also when the roster changes, and gives every unfinished
    job a run. Jobs survive its end: the next start goes on where they stood. New certificates are
    noticed; SIGHUP makes it look at once.
    """
    folder = Folder.open(config)
    if is_locked(lock_of(folder)):
        raise BusyError(
            f"{folder.file.parent}: a coordinator is running here already",
            remedy="fedward server status says how it fares",
        )
    warnings = check_ready(folder, datetime.now(UTC))
    check_port(folder.config, wait_s=HANDOVER_S)
    # Requests to the own SuperLink must not go through the hospital's proxy either.
    unproxied = environment(folder)["NO_PROXY"]
    os.environ.update({"NO_PROXY": unproxied, "no_proxy": unproxied})
    tell = telling()
    for warning in warnings:
        tell("warning", warning)
    stop, renew = Event(), Event()
    _on_signals(stop, renew)
    tell("up", f"listens on {folder.config.bind} for hospitals at {folder.config.address}")
    webhook = Webhook(folder.config.webhook, lambda line: tell("webhook", line))
    Service(folder, tell, webhook).run(stop, renew)
    tell("down", "ended; unfinished jobs go on at the next start")


def telling() -> Tell:
    """Lines for people on a terminal, JSON for whoever collects logs elsewhere."""
    console = Console(stderr=True, highlight=False)

    def line(kind: str, text: str) -> None:
        now = datetime.now(UTC)
        if console.is_terminal:
            colour = {"error": "red", "warning": "yellow"}.get(kind, "cyan")
            console.print(f"{now:%H:%M:%S} [{colour}]{kind:<9}[/]", end=" ")
            console.print(text, markup=False, soft_wrap=True)
            return
        entry = {"time": now.isoformat(timespec="milliseconds"), "kind": kind, "text": text}
        # Whoever collects them may be gone, or on a disk that is full: jobs go on.
        with suppress(OSError):
            sys.stderr.write(json.dumps(entry) + "\n")
            sys.stderr.flush()

    return line


def _on_signals(stop: Event, renew: Event) -> None:
    def end(_: int, __: FrameType | None) -> None:
        stop.set()

    def look(_: int, __: FrameType | None) -> None:
        renew.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGHUP, look)
