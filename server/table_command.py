"""`fedward server table`: what a finished statistics job found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from protocol.keyfile import replace_file
from server.archive import Archive
from server.config import Folder
from server.options import DEFAULT, Job, Json, Server
from server.released import released
from server.table_view import curves_table, summary_table


def table(
    job: Job,
    *,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw it: histograms and curves.")
    ] = None,
    server: Server = DEFAULT,
    as_json: Json = False,
) -> None:
    """Show what a statistics job found: counts, means, quantiles and curves of all patients.

    Every number bears the noise that the job paid for; beside it stands how far that may have moved
    it. Counts below the job's `fewer_than` are not shown.
    """
    kept = Archive(Folder.open(server).jobs).find(job)
    found = released(kept)
    if picture is not None:
        from server.table_picture import picture as drawn  # noqa: PLC0415 - matplotlib is slow

        replace_file(picture, drawn(found, kept.job.name))
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
        typer.echo(json.dumps({**about, **found.to_json()}))
        return
    console = Console()
    console.print(summary_table(found, f"{kept.job.name} {kept.digest[:8]}"))
    if found.curves:
        console.print(curves_table(found))
