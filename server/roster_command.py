"""`fedward server roster`: look at the roster, take a hospital out, sign it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from protocol.errors import InputError
from protocol.keyfile import replace_file
from protocol.roster import Roster
from protocol.signing import fingerprint, in_groups
from server.config import Folder
from server.editions import without
from server.options import DEFAULT, Json, Server
from server.registry import update

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Look at the roster, take a hospital out, sign a new edition, write it out.",
)


@app.command()
def show(*, server: Server = DEFAULT, as_json: Json = False) -> None:
    """Show the present edition and every hospital's fingerprint."""
    roster = _load(Folder.open(server))
    if as_json:
        typer.echo(json.dumps(to_document(roster)))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Edition     {roster.sequence}, {in_groups(roster.digest)}")
    console.print(f"Coordinator {in_groups(fingerprint(roster.coordinator))}")
    console.print(f"Address     {roster.address}", markup=False)
    for card in roster.members:
        console.print(f"{card.name}\n  {in_groups(card.fingerprint)}", markup=False)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The hospital's name in the roster.")],
    *,
    server: Server = DEFAULT,
    as_json: Json = False,
) -> None:
    """Sign an edition without a hospital; its node is not let in any more.

    Jobs that run go on under the roster that they were signed for.
    """
    _tell(*update(Folder.open(server), lambda roster: without(roster, name)), as_json=as_json)


@app.command()
def refresh(*, server: Server = DEFAULT, as_json: Json = False) -> None:
    """Sign a new edition if the address or the authority has changed since the last."""
    _tell(*update(Folder.open(server), lambda roster: roster), as_json=as_json)


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="The file to write; - for the terminal.")],
    *,
    server: Server = DEFAULT,
) -> None:
    """Write the signed roster out, as hospitals trust it."""
    folder = Folder.open(server)
    _load(folder)
    signed = folder.roster.read_bytes()
    if path == Path("-"):
        typer.echo(signed.decode())
    elif path.exists() and path.read_bytes() != signed:
        raise InputError(f"{path}: exists already", remedy="name another file")
    else:
        replace_file(path, signed)


def to_document(roster: Roster) -> dict[str, object]:
    """What `show` shows, for programs."""
    return {
        "sequence": roster.sequence,
        "digest": roster.digest,
        "coordinator": fingerprint(roster.coordinator),
        "address": roster.address,
        "hospitals": {card.name: card.fingerprint for card in roster.members},
    }


def _load(folder: Folder) -> Roster:
    return folder.load_roster(folder.load_key().fingerprint)


def _tell(before: Roster, after: Roster, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**to_document(after), "changed": after != before}))
    elif after == before:
        typer.echo(f"Nothing changed; edition {after.sequence} stands.")
    else:
        typer.echo(
            f"Edition {after.sequence} with {len(after.members)} hospitals. Send it to every "
            f"hospital; each runs: fedward client trust ROSTER\nDigest {in_groups(after.digest)}"
        )
