"""`fedward server plan`: what a job costs each hospital, before anybody is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from learning.schema import Schema
from privacy.he.accumulator import Shape
from privacy.he.parameters import num_words
from privacy.he.words import framed_size
from privacy.plan import DpPlan
from protocol.config import parse
from protocol.jobs import Job
from server.jobs import Origin, resolve
from server.requests import read_request

_NOBODY = "0" * 64


def plan(
    job: Annotated[Path, typer.Argument(help="The job's YAML file; see configs/jobs.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a job and show what it costs each hospital, before anybody is asked.

    Nothing is signed or sent. The numbers are those that the job would carry.
    """
    origin = Origin(coordinator=_NOBODY, roster=_NOBODY, now=datetime.now(UTC))
    # Where numbers' scales come from changes no cost.
    found = summary(resolve(replace(read_request(job), scaling=None), origin))
    if as_json:
        typer.echo(json.dumps(found.to_json()))
    else:
        Console().print(found.table())


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a job costs, for people and scripts.

    Args:
        job: The resolved job.
        upload_bytes: Ciphertext of one update.
        download_bytes: Residue words of one sum.
    """

    job: Job
    upload_bytes: int
    download_bytes: int

    def lines(self) -> list[tuple[str, str, object]]:
        """Key, label and value of every line."""
        job = self.job
        privacy, training = job.privacy, job.training
        private = privacy.mode != "none"
        return [
            ("name", "Job", job.name),
            ("task", "Task", job.task.name),
            ("strategy", "Strategy", job.strategy.name),
            ("sites", "Hospitals", len(job.sites)),
            ("min_sites", "Fewest hospitals", job.min_sites),
            ("parameters", "Values in an update", privacy.update.length),
            ("rounds", "Rounds", training.rounds),
            ("spare_attempts", "Spare attempts, paid for", training.spare_attempts),
            ("learning_rate", "Learning rate", round(training.learning_rate, 6)),
            ("mode", "Privacy mode", privacy.mode),
            ("unit", "Protects each", privacy.unit),
            ("epsilon", "Epsilon, stated trust", privacy.epsilon if private else None),
            (
                "epsilon_worst",
                "Epsilon, all others collude",
                round(privacy.epsilon_worst, 4) if private else None,
            ),
            ("delta", "Delta", privacy.delta if private else None),
            (
                "noise_multiplier",
                "Noise multiplier of the sum",
                round(privacy.update.noise_multiplier, 4),
            ),
            ("colluding_sites", "Colluding hospitals withstood", privacy.colluding_sites),
            ("evaluation_noise", "Noise of a count of held-out patients", self.evaluation_noise),
            ("subgroups", "Results told by", ", ".join(self.subgroups) or None),
            ("upload_bytes", "Upload per hospital and round, bytes", self.upload_bytes),
            ("download_bytes", "Download per hospital and round, bytes", self.download_bytes),
        ]

    @property
    def evaluation_noise(self) -> float | None:
        """Standard deviation in patients of a count of all hospitals; None if none is made."""
        if self.job.privacy.evaluation is None:
            return None
        sites = len(self.job.sites)
        return round(DpPlan.of(self.job.privacy, "test", sites).noise_std(sites), 2)

    @property
    def subgroups(self) -> tuple[str, ...]:
        """Columns that the schema marks."""
        schema = parse(Schema, self.job.schema, "job.schema")
        return tuple(column.name for column in schema.columns if column.subgroup)

    def to_json(self) -> dict[str, object]:
        """One flat object."""
        return {key: value for key, _, value in self.lines()}

    def table(self) -> Table:
        """Aligned for a terminal."""
        table = Table(title=f"Plan of {self.job.name}", show_header=False)
        table.add_column("what")
        table.add_column("value", justify="right")
        for _, label, value in self.lines():
            table.add_row(label, "none" if value is None else str(value))
        return table


def summary(job: Job) -> Summary:
    """What a resolved job costs each hospital."""
    packing, length = job.encryption.update, job.privacy.update.length
    if packing is None:
        return Summary(job=job, upload_bytes=8 * length, download_bytes=8 * length)
    shape = Shape.of(packing, framed_size(num_words(length, packing), len(job.sites)))
    return Summary(job=job, upload_bytes=shape.payload_size, download_bytes=shape.residues_size)
