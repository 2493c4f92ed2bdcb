"""`fedward serve CONFIG`: be the server."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from protocol.config import read
from serving.config import ServingConfig
from serving.server import Listening, serve

Config = Annotated[Path, typer.Argument(help="The server's configuration file.")]


def up(config: Config) -> None:
    """Serve models until the server is told to end.

    Every version is verified, signature included, before it is served. The server changes to
    another version when one is promoted, without refusing a request. SIGTERM or Ctrl-C ends it
    after the requests under way. It listens on this machine only, unless TLS and tokens or
    clients' certificates are configured. No value of a patient is logged.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = read(ServingConfig, config)
    uvloop.run(serve(settings, config.parent, _say))


def _say(listening: Listening) -> None:
    """Where to ask; programs that start the server read this line."""
    places = {"REST": listening.rest, "gRPC": listening.grpc}
    told = ", ".join(f"{name} {place}" for name, place in places.items() if place is not None)
    typer.echo(f"serving: {told}")
