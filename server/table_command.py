"""`fedward server table`: what a finished statistics job found."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from learning.stability import Stability
from learning.table_histograms import drift
from protocol.keyfile import replace_file
from server.archive import Archive
from server.config import Folder
from server.job_folder import JobFolder
from server.options import DEFAULT, Job, Json, Server
from server.released import released, released_shapes
from server.table_view import curves_table, drift_table, summary_table


def table(
    job: Job,
    *,
    against: Annotated[
        str | None,
        typer.Option(metavar="REFERENCE", help="Compare it with this other statistics job."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw it: histograms and curves.")
    ] = None,
    server: Server = DEFAULT,
    as_json: Json = False,
) -> None:
    """Show what a statistics job found: counts, means, quantiles and curves of all patients.

    Every number bears the noise that the job paid for; beside it stands how far that may have moved
    it. Counts below the job's `fewer_than` are not shown.

    With --against it says how far each column is from that of an earlier job, such as the table
    that a model was scaled by: the population stability index, less what chance among patients and
    the noise of both tables add to it, with its 95 % interval.
    """
    archive = Archive(Folder.open(server).jobs)
    kept = archive.find(job)
    found = released(kept)
    reference = None if against is None else archive.find(against)
    if picture is not None:
        from server.table_picture import picture as drawn  # noqa: PLC0415 - matplotlib is slow

        other = None if reference is None else (reference.job.name, released(reference))
        replace_file(picture, drawn(found, kept.job.name, against=other))
    if as_json:
        privacy = kept.job.privacy
        private = privacy.mode != "none"
        about = {
            "job": kept.job.name,
            "digest": kept.digest,
            "mode": privacy.mode,
            "epsilon": privacy.epsilon if private else None,
            "epsilon_worst": privacy.epsilon_worst if private else None,
            "delta": privacy.delta if private else None,
        }
        compared = {} if reference is None else _compared(kept, reference)
        typer.echo(json.dumps({**about, **found.to_json(), **compared}))
        return
    console = Console()
    if reference is not None:
        console.print(drift_table(_drift(kept, reference), _title(kept), _title(reference)))
        return
    console.print(summary_table(found, _title(kept)))
    if found.curves:
        console.print(curves_table(found))


def _title(kept: JobFolder) -> str:
    return f"{kept.job.name} {kept.digest[:8]}"


def _drift(kept: JobFolder, reference: JobFolder) -> dict[str, Stability | None]:
    return drift(released_shapes(reference), released_shapes(kept))


def _compared(kept: JobFolder, reference: JobFolder) -> dict[str, Any]:
    """The comparison as JSON's types."""
    columns = {
        name: None if one is None else asdict(one) for name, one in _drift(kept, reference).items()
    }
    about = {"job": reference.job.name, "digest": reference.digest}
    return {"against": about, "stability": columns}
