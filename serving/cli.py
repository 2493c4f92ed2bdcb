"""`fedward serve`: answer requests, and look after who may ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import click
import typer

from fedward import LazyGroup, Mount


class _Serve(LazyGroup):
    """`fedward serve CONFIG` is `fedward serve up CONFIG`."""

    mounts: ClassVar[Mapping[str, Mount]] = {
        "up": Mount("serving.up_command:up", "Serve models until told to end."),
        "token": Mount("serving.token_command:app", "Make and revoke bearer tokens."),
    }

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command to run; what names none is a configuration."""
        known = args[0] in self.mounts or args[0].startswith("-")
        return super().resolve_command(ctx, args if known else ["up", *args])


app = typer.Typer(cls=_Serve, add_completion=False, no_args_is_help=True)


@app.callback()
def _serve() -> None:
    """Serve this hospital's models over the Open Inference Protocol, by gRPC and REST.

    `fedward serve CONFIG` starts the server; see docs/serving.md.
    """
