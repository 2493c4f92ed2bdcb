"""`fedward serve token`: who may ask."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from protocol.config import read
from protocol.errors import InputError
from serving.config import ServingConfig
from serving.tokens import SCOPES, Scope, create_token, load_tokens, revoke_token

app = typer.Typer(no_args_is_help=True, add_completion=False)
Config = Annotated[Path, typer.Argument(help="The server's configuration file.")]
Name = Annotated[str, typer.Argument(help="Who has the token, such as 'ward-3'.")]


@app.callback()
def _token() -> None:
    """Make and revoke bearer tokens; only their digests are kept."""


@app.command()
def create(
    config: Config,
    name: Name,
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="predict, read, feedback or monitor; the first two if not given."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model it is good for; all if not given.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is good.")] = 90,
) -> None:
    """Make a token and print it; it is shown this once.

    A server that runs takes it at once.
    """
    expires = datetime.now(UTC) + timedelta(days=days)
    scopes = tuple(map(_scope, scope or ["predict", "read"]))
    typer.echo(create_token(_path(config), name, scopes, tuple(model or ()), expires))
    typer.echo(f"for {name}, until {expires.date()}; it is not shown again", err=True)


@app.command("list")
def list_tokens(config: Config) -> None:
    """Print all tokens as JSON, without what they are made of."""
    tokens = [asdict(token) for token in load_tokens(_path(config))]
    for token in tokens:
        del token["sha256"]
    typer.echo(json.dumps(tokens, indent=2))


@app.command()
def revoke(config: Config, name: Name) -> None:
    """Remove a token; a server that runs refuses it from its next request."""
    revoke_token(_path(config), name)
    typer.echo(f"revoked {name}")


def _scope(text: str) -> Scope:
    for scope in SCOPES:
        if text == scope:
            return scope
    raise InputError("--scope", expected=" or ".join(SCOPES), found=repr(text))


def _path(config: Path) -> Path:
    settings = read(ServingConfig, config)
    if settings.tokens is None:
        raise InputError(f"{config} names no file of tokens", remedy="add: tokens: tokens.json")
    return config.parent / settings.tokens
