"""The one command; its parts live in the cli.py of client, server, serving and simulations.

A part is imported when it is run, so that help costs no import of torch, Flower or Ray. Errors
become one line and an exit code here, and nowhere else.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_type_hints

import click
import typer
from typer.core import TyperGroup
from typer.models import ArgumentInfo

from protocol.errors import FedwardError, InputError

if TYPE_CHECKING:
    from protocol.jobs import Job

__all__ = ["LazyGroup", "Mount", "app", "main", "planned_job"]

# Flower and Ray report to their makers unless they are told not to; nothing that a hospital starts
# may call anybody but its coordinator.
_SILENCE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Mount:
    """Where a command is and what help says of it before it is imported.

    Args:
        target: `module:attribute` of a Typer app or of a function that is one command.
        summary: One line.
        panel: The heading under which help lists it.
    """

    target: str
    summary: str
    panel: str = "Commands"

    def load(self, name: str) -> click.Command:
        """Import the command.

        Raises:
            InputError: A package that it needs is not installed.
        """
        module, attribute = self.target.split(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise InputError(
                f"command {name!r} needs the package {error.name!r}",
                remedy="install the extra of fedward that brings it, see README.md",
            ) from error
        if not isinstance(found, typer.Typer):
            wrapper = typer.Typer(add_completion=False)
            wrapper.command(name, help=_told(found))(found)
            found = wrapper
        command = typer.main.get_command(found)
        command.name = name
        _restore_help(command)
        return command


def _restore_help(command: click.Command) -> None:
    """Give arguments the help that they were declared with.

    Typer 0.20, which Flower pins, sets it before click 8.5, which sets it to nothing.
    """
    for part in command.commands.values() if isinstance(command, click.Group) else ():
        _restore_help(part)
    if command.callback is None:
        return
    declared = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    for parameter in command.params:
        for info in getattr(declared.get(parameter.name or ""), "__metadata__", ()):
            if isinstance(info, ArgumentInfo):
                parameter.help = info.help


def _told(function: Any) -> str:
    """A docstring's prose, without the sections that are for programmers."""
    return re.split(
        r"\n\n(?:Args|Raises|Returns|Guarantee|Source):", inspect.getdoc(function) or ""
    )[0]


class LazyGroup(TyperGroup):
    """A group whose `mounts` are listed from their summaries and imported when they are run."""

    mounts: ClassVar[Mapping[str, Mount]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.suggest_commands = False  # click suggests already; Typer would say it twice
        for name, mount in self.mounts.items():
            listed = click.Command(name, help=mount.summary)
            listed.rich_help_panel = mount.panel  # type: ignore[attr-defined]
            self.add_command(listed)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command to run; a mounted one is imported now."""
        name, command, rest = super().resolve_command(ctx, args)
        mount = self.mounts.get(name or "")
        return name, command if mount is None else mount.load(str(name)), rest


class _Root(LazyGroup):
    mounts: ClassVar[Mapping[str, Mount]] = {
        "client": Mount("client.cli:app", "Run a hospital's node.", "Hospital"),
        "serve": Mount("serving.cli:app", "Serve a hospital's models.", "Hospital"),
        "predict": Mount(
            "serving.predict_command:predict", "Predict the rows of a file.", "Hospital"
        ),
        "server": Mount("server.cli:app", "Run a consortium's coordinator.", "Coordinator"),
        "run": Mount("server.run_command:run", "Launch a job and watch it.", "Coordinator"),
        "new": Mount(
            "server.new_command:new",
            "Write a commented file to start from: a job, a hospital, a service.",
            "Coordinator",
        ),
        "simulate": Mount(
            "simulations.cli:simulate", "Run a whole consortium on this machine.", "Researcher"
        ),
        "audit": Mount(
            "simulations.audit_cli:audit", "Test the claimed privacy with canaries.", "Researcher"
        ),
        "attack": Mount(
            "simulations.attack_cli:attack", "Try to get training records back.", "Researcher"
        ),
    }


app = typer.Typer(cls=_Root, add_completion=False, no_args_is_help=True)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer's shape of a callback
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - only here, and slow

        typer.echo(f"fedward {version('fedward')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_print_version)
    ] = False,
) -> None:
    """Federated learning for hospitals: one model, and no patient's record leaves its hospital."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    os.environ.update(_SILENCE)
    with _one_line():
        typer.main.get_command(app)(args=sys.argv[1:] or ["--help"], prog_name="fedward")


def planned_job(path: Path, *, coordinator: str, roster: str, now: datetime) -> Job:
    """The job that a coordinator's YAML file would become, for a hospital that looks beforehand.

    It stands here since neither of the two sides imports the other.

    Raises:
        InputError: The file is wrong, or its parts do not fit each other.
    """
    from server.jobs import Origin, resolve  # noqa: PLC0415 - a part, imported when it is run
    from server.requests import read_request  # noqa: PLC0415

    return resolve(read_request(path), Origin(coordinator=coordinator, roster=roster, now=now))


@contextmanager
def _one_line() -> Iterator[None]:
    """Errors as one line on stderr: 2 for a person's mistake, 1 for the rest, 130 for Ctrl-C."""
    try:
        yield
    except FedwardError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("FEDWARD_DEBUG") == "1":
            raise
        # An exception that nobody foresaw may quote a patient's value: its text stays unsaid.
        _complain(f"{type(error).__name__}, a defect; FEDWARD_DEBUG=1 shows the traceback")
        sys.exit(1)


def _complain(message: str) -> None:
    from rich.console import Console  # noqa: PLC0415 - only when something went wrong
    from rich.text import Text  # noqa: PLC0415

    line = Text.assemble(("error:", "red"), " ", " ".join(message.splitlines()))
    Console(stderr=True, highlight=False).print(line, soft_wrap=True)


if __name__ == "__main__":
    main()
