"""`fedward attack`: try to get patients' records back, with and without each defence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from simulations.cli import find_config


def attack(
    config: Annotated[str, typer.Argument(help="A YAML file, or the built-in one: attacks.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of pictures and JSON.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Attack training on invented records: without defences, and with noise, encryption or both.

    Ends with exit code 1 if an attack gets through both, or a node takes planted weights.
    """
    from simulations.attack_config import read_attacks  # noqa: PLC0415 - numpy is slow to import

    chosen = read_attacks(find_config(config))
    from simulations.attack_report import save, table  # noqa: PLC0415 - and so is matplotlib
    from simulations.attacks import attack as run  # noqa: PLC0415 - and torch

    console = Console(stderr=True, quiet=as_json or quiet)
    with console.status("starting") as status:
        found = run(chosen, watch=status.update)
    saved = save(found, out or Path("results") / chosen.name)
    if as_json:
        typer.echo(json.dumps(found.to_json()))
    else:
        Console().print(table(found))
        console.print("Saved " + ", ".join(str(path) for path in saved), soft_wrap=True)
    if not found.passed:
        raise typer.Exit(1)
