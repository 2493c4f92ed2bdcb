"""`fedward predict`: predictions of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from learning.artefact import load
from learning.promotion import load_record
from protocol.errors import InputError
from serving.parts import Job
from serving.predicting import Summary, predict_file

_PATTERN = "{task.completed} rows"


def predict(
    model: Annotated[
        Path, typer.Argument(help="Folder of a version (models/sepsis/3), or of a model in use.")
    ],
    source: Annotated[Path, typer.Argument(help="Table to read, .csv or .parquet.")],
    target: Annotated[Path, typer.Argument(help="Table to write, .csv or .parquet.")],
    *,
    keep: Annotated[
        list[str] | None, typer.Option(help="A column to copy beside the predictions.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="A column that is neither read nor written.")
    ] = None,
    signer: Annotated[
        list[str] | None, typer.Option(help="Fingerprint of a key that may have signed the model.")
    ] = None,
) -> None:
    """Predict every row of a table, and write a table of predictions.

    TARGET is there whole or not at all. A run that was interrupted goes on where it was when the
    same command is given again. What the model could not take as it was stands beside TARGET, in a
    file whose name ends with .problems.csv, by row and column, never by value. Columns that the
    model does not know are refused unless --keep or --ignore names them.
    """
    found = load(_version(model), signer or None)
    job = Job(
        model=found,
        source=source,
        target=target,
        keep=tuple(keep or ()),
        ignore=tuple(ignore or ()),
    )
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn(_PATTERN), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("rows", total=None)
        summary = predict_file(job, lambda rows: progress.update(task, completed=rows))
    _tell(job, summary)


def _tell(job: Job, summary: Summary) -> None:
    resumed = f", {summary.resumed} of them before" if summary.resumed else ""
    typer.echo(f"{job.target}: {summary.rows} rows by {job.model.card.label}{resumed}")
    for (column, problem), count in sorted(summary.problems.items()):
        typer.echo(f"  {column}: {problem} in {count} rows")
    typer.echo(f"{job.problems}: {sum(summary.problems.values())} problems by row and column")
    typer.echo(f"intended use: {job.model.card.intended_use}")


def _version(folder: Path) -> Path:
    """A version's folder; of a model's folder the one in use.

    Raises:
        InputError: No version of it is in use.
    """
    if folder.name.isdigit():
        return folder
    promoted = load_record(folder.parent, folder.name).promoted
    if promoted is None:
        raise InputError(
            f"{folder}: no version of this model is in use",
            remedy="name one, such as models/sepsis/3, or promote one",
        )
    return folder / str(promoted)
