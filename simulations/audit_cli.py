"""`fedward audit`: try to catch the pipeline giving less privacy than it claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from simulations.cli import find_config
from simulations.output import Json, Quiet, folder_for, tell


def audit(
    config: Annotated[str, typer.Argument(help="A YAML file, or the built-in one: audit.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of picture and JSON.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train on canaries, encryption included, and test the final weights against the claim.

    Ends with exit code 1 if a check raises an alarm. A pass is evidence, not proof.
    """
    from simulations.audit_config import read_audit  # noqa: PLC0415 - numpy is slow to import

    chosen = read_audit(find_config(config))
    from simulations.audit import audit as run  # noqa: PLC0415 - and so is torch
    from simulations.audit_report import save, table  # noqa: PLC0415 - and matplotlib

    folder = folder_for(out, Path("results") / chosen.name)
    console = Console(stderr=True, quiet=as_json or quiet)
    with console.status("starting") as status:
        found = run(chosen, watch=status.update)
    tell(found, [table(found)], save(found, folder), console, as_json=as_json)
    if not found.passed:
        raise typer.Exit(1)
