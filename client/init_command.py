"""`fedward client init`: a hospital's configuration, keys and card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from client.hospital import HospitalConfig
from privacy.keys import Identity
from protocol.card import check_name
from protocol.config import read
from protocol.errors import InputError
from protocol.keyfile import replace_file
from protocol.signing import fingerprint, in_groups
from protocol.templates import template

CONFIG = "hospital.yaml"


def init(
    folder: Annotated[Path, typer.Argument(help="Where everything will live.")] = Path(),
    *,
    name: Annotated[
        str | None, typer.Option(help="The hospital's name in the consortium's roster.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make the hospital's keys and a commented configuration, and print the card.

    Keys are made here, have mode 0600, are never overwritten and never leave. The card holds public
    keys only: send it to the coordinator, and read its fingerprint to everybody else.
    """
    identity = create(folder, name)
    show_card(identity, write_card(folder, identity), as_json=as_json)


def create(folder: Path, name: str | None) -> Identity:
    """Make what is missing in a hospital's folder.

    Args:
        folder: The folder; made if it is absent.
        name: The hospital's name; None where the configuration exists already.

    Raises:
        InputError: No name is known or it is another than before, or something cannot be written.
    """
    path = folder / CONFIG
    if not path.exists():
        if name is None:
            raise InputError(
                "the hospital's name is not known", remedy="name it: fedward client init --name ..."
            )
        check_name(name)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be created", found=error.strerror) from None
        replace_file(path, template("hospital/example.yaml", {"name": json.dumps(name)}).encode())
    config = read(HospitalConfig, path)
    if name not in (None, config.name):
        raise InputError(f"{path}: names another hospital", expected=name, found=config.name)
    keys = folder / config.keys
    if keys.is_dir() and any(keys.iterdir()):
        identity = Identity.load(keys)
        if identity.name != config.name:
            raise InputError(
                f"{keys}: keys of another hospital", expected=config.name, found=identity.name
            )
        return identity
    return Identity.create(keys, config.name)


def write_card(folder: Path, identity: Identity) -> Path:
    """Write the card where a person finds it, to be sent."""
    path = folder / f"{identity.name}.card.json"
    replace_file(path, identity.card().to_bytes())
    return path


def show_card(identity: Identity, path: Path, *, as_json: bool) -> None:
    """Print a card's fingerprint and what to do with it."""
    card = identity.card()
    if as_json:
        told = {"name": card.name, "fingerprint": card.fingerprint, "card": str(path)}
        replaces = fingerprint(card.replaces) if card.replaces else None
        typer.echo(json.dumps({**told, "replaces": replaces}))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Hospital    {card.name}")
    console.print(f"Fingerprint {in_groups(card.fingerprint)}")
    if card.replaces:
        console.print(f"Replaces    {in_groups(fingerprint(card.replaces))}")
    console.print(
        f"Card        {path}\n"
        "Send the card to the coordinator. Read the fingerprint to the coordinator and to every\n"
        "other hospital over another channel. When the roster comes: fedward client trust ROSTER",
        markup=False,
    )
