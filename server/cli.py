"""`fedward server`: what a coordinator's administrator types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import typer

from fedward import LazyGroup, Mount

_CONSORTIUM, _SERVICE, _JOBS = "Consortium", "Service", "Jobs"


class _Server(LazyGroup):
    mounts: ClassVar[Mapping[str, Mount]] = {
        "init": Mount(
            "server.init_command:init", "Make keys, certificates, an empty roster.", _CONSORTIUM
        ),
        "enrol": Mount(
            "server.enrol_command:enrol", "Take hospitals' cards into the roster.", _CONSORTIUM
        ),
        "roster": Mount(
            "server.roster_command:app", "Show the roster, take a hospital out.", _CONSORTIUM
        ),
        "certificate": Mount(
            "server.certificate_command:app", "Renew the server's certificate.", _CONSORTIUM
        ),
        "up": Mount("server.up_command:up", "Let hospitals connect and carry out jobs.", _SERVICE),
        "status": Mount(
            "server.status_command:status", "Who is connected and what is under way.", _SERVICE
        ),
        "plan": Mount(
            "server.plan_command:plan", "Check a job and show what it costs, offline.", _JOBS
        ),
        "log": Mount("server.log_command:log", "What happened in a job, and what happens.", _JOBS),
        "table": Mount("server.table_command:table", "Show what a statistics job found.", _JOBS),
        "deliver": Mount(
            "server.deliver_command:deliver", "Have a model handed on to a hospital.", _JOBS
        ),
        "stop": Mount("server.stop_command:stop", "End a job.", _JOBS),
        "resume": Mount("server.stop_command:resume", "Let a job go on without waiting.", _JOBS),
        "history": Mount(
            "server.status_command:history", "Every job that has ended, with its epsilon.", _JOBS
        ),
    }


app = typer.Typer(cls=_Server, add_completion=False, no_args_is_help=True)


@app.callback()
def _server() -> None:
    """Run a consortium's coordinator: connect hospitals, launch jobs, watch them."""
