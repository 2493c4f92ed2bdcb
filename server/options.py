"""Arguments and options that several of the coordinator's commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.config import ENVIRONMENT

DEFAULT = Path("server.yaml")

Server = Annotated[
    Path,
    typer.Option("--server", "-s", envvar=ENVIRONMENT, help="The coordinator's configuration."),
]
Job = Annotated[
    str, typer.Argument(help="A job: its name, its folder, or the first digits of its digest.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
