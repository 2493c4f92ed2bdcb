"""`fedward attack`: try to get patients' records back, with and without each defence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from simulations.cli import find_config
from simulations.output import Json, Quiet, folder_for, tell


def attack(
    config: Annotated[str, typer.Argument(help="A YAML file, or the built-in one: attacks.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of pictures and JSON.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Attack training on invented records: without defences, and with noise, encryption or both.

    Ends with exit code 1 if an attack gets through both, or a node takes planted weights.
    """
    from simulations.attack_config import read_attacks  # noqa: PLC0415 - numpy is slow to import

    chosen = read_attacks(find_config(config))
    from simulations.attack_report import save, table  # noqa: PLC0415 - and so is matplotlib
    from simulations.attacks import attack as run  # noqa: PLC0415 - and torch

    folder = folder_for(out, Path("results") / chosen.name)
    console = Console(stderr=True, quiet=as_json or quiet)
    with console.status("starting") as status:
        found = run(chosen, watch=status.update)
    tell(found, [table(found)], save(found, folder), console, as_json=as_json)
    if not found.passed:
        raise typer.Exit(1)
