"""`fedward new`: a commented file to start from, of each kind that a person writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from protocol.errors import InputError
from protocol.templates import template

Kind = Literal["job", "hospital", "server", "nginx", "node-service", "server-service"]
_FILES: dict[Kind, tuple[str, str]] = {
    "job": ("jobs/template.yaml", "job.yaml"),
    "hospital": ("hospital/example.yaml", "hospital.yaml"),
    "server": ("server/example.yaml", "server.yaml"),
    "nginx": ("deploy/nginx.conf", "nginx.conf"),
    "node-service": ("deploy/fedward-node.service", "fedward-node.service"),
    "server-service": ("deploy/fedward-server.service", "fedward-server.service"),
}


def new(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=f"One of {', '.join(_FILES)}.")],
    path: Annotated[
        Path | None, typer.Argument(help="Where to; job.yaml here for a job, and so on.")
    ] = None,
) -> None:
    """Write a commented file that is right as it stands: change what is yours.

    Every key is explained where it stands, and what is left out has the careful value. A file that
    exists is never overwritten.

    nginx and the two services are for the machine that runs a coordinator or a node; the lines to
    change say "yours".
    """
    source, usual = _FILES[kind]
    wanted = path or Path(usual)
    try:
        with wanted.open("x", encoding="utf-8") as file:
            file.write(template(source))
    except FileExistsError:
        raise InputError(f"{wanted}: exists already", remedy="name another file") from None
    except OSError as error:
        raise InputError(f"{wanted}: cannot be written", found=error.strerror) from None
    Console().print(f"Wrote {wanted}", soft_wrap=True, highlight=False)
