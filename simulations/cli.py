"""`fedward simulate`: the whole system on one machine, and a comparison at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from protocol.errors import InputError
from simulations.config import Engine, Simulation, read_simulation
from simulations.output import Json, Quiet, check_folder, folder_for, tell

BUILT_IN = (
    "demo",
    "breast_cancer",
    "survival",
    "survival_lung",
    "treatment",
    "demand",
    "labels",
    "text",
    "imaging",
    "signals",
    "statistics",
)
_SOURCE = Path(__file__).parent.parent / "configs" / "simulations"
_INSTALLED = Path(__file__).parent / "configs" / "simulations"


def simulate(
    config: Annotated[
        str, typer.Argument(help=f"A YAML file, or a built-in one: {', '.join(BUILT_IN)}.")
    ],
    *,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="inline (this process) or ray (Flower's engine).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of table, picture and page.")] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder in which the virtual hospitals stay, to look into afterwards."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one model over virtual hospitals, each arm on the same patients, and compare.

    Every hospital has real keys, a real ledger and real ciphertext in a folder of its own. Use
    public or synthetic data: one machine holds it all.
    """
    chosen = _chosen(config, seeds=seeds, engine=engine)
    folder = folder_for(out or chosen.config.output, Path("results") / chosen.config.name)
    if keep is not None:
        check_folder(keep, "another --keep")
    console = Console(stderr=True, quiet=as_json or quiet)
    if chosen.request.task.name == "statistics":
        _describe(chosen, console, folder, keep=keep, as_json=as_json)
        return
    from simulations.progress import Bar  # noqa: PLC0415 - torch is slow to import
    from simulations.report import save, table  # noqa: PLC0415 - and so is matplotlib
    from simulations.subgroup_results import table as by_subgroup  # noqa: PLC0415
    from simulations.sweep import run  # noqa: PLC0415

    with Bar(console) as bar:
        result = run(chosen, watch=bar.show, keep=keep)
    tables = [table(result)]
    if result.subgroups:
        tables.append(by_subgroup(result.subgroups, result.measure.name))
    tell(result, tables, save(result, folder), console, as_json=as_json)


def _describe(
    chosen: Simulation, console: Console, folder: Path, *, keep: Path | None, as_json: bool
) -> None:
    """Tables instead of models: what was released beside what is true."""
    from simulations.progress import Bar  # noqa: PLC0415 - torch is slow to import
    from simulations.tables import compare  # noqa: PLC0415
    from simulations.tables_report import save, table  # noqa: PLC0415 - and so is matplotlib

    with Bar(console) as bar:
        compared = compare(chosen, watch=bar.show, keep=keep)
    saved = save(compared, folder)
    tell(compared, [table(compared)], saved, console, as_json=as_json)


def find_config(name: str) -> Path:
    """The file that a command line names: a path, or a configuration that comes with Fedward.

    Raises:
        InputError: There is neither.
    """
    path = Path(name)
    if path.suffix or path.exists():
        return path
    for folder in (_SOURCE, _INSTALLED):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise InputError(
        f"no simulation {name!r}", expected=f"a YAML file or one of {', '.join(BUILT_IN)}"
    )


def _chosen(name: str, *, seeds: int | None, engine: str | None) -> Simulation:
    simulation = read_simulation(find_config(name))
    config = simulation.config
    if seeds is not None:
        config = replace(config, seeds=seeds)
    if engine is not None:
        engines: dict[str, Engine] = {"inline": "inline", "ray": "ray"}
        if engine not in engines:
            raise InputError("engine", expected="inline or ray", found=engine)
        config = replace(config, engine=engines[engine])
    return replace(simulation, config=config)
