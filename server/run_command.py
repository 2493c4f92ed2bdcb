"""`fedward run`: sign a job, hand it to the running coordinator, and watch it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from protocol.jobs import Job
from protocol.roster import Roster
from protocol.signing import SigningKey
from server.archive import Archive
from server.config import Folder
from server.follow import conclude, follow
from server.history import expected_seconds
from server.jobs import Origin, resolve
from server.options import DEFAULT, Json, Server
from server.plan_command import Summary, summary
from server.presence import Presence, present, require_present
from server.requests import read_request
from server.scaling import scaled
from server.view import metrics_line, number, plain_table, size

START_S = 20.0
"""How long `fedward server up`, typed just before, may take until the coordinator is seen."""


def run(
    job: Annotated[Path, typer.Argument(help="The job's YAML file; fedward new job writes one.")],
    *,
    server: Server = DEFAULT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would cost; ask and keep nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Launch a job and watch it: exact numbers, signature, hospitals, rounds, model.

    The job is kept in the coordinator's folder before anybody is asked, and the coordinator carries
    it out; this command only watches. Ctrl-C leaves the job alone. The exit code is 0 if the job
    was completed.
    """
    folder = Folder.open(server)
    key = folder.load_key()
    found = present(folder) if dry_run else require_present(folder, wait_s=START_S)
    archive = Archive(folder.jobs)
    resolved = _resolve(job, key, folder.load_roster(key.fingerprint), archive)
    if dry_run:
        _show_costs(_costs(folder, resolved, found), as_json=as_json)
        return
    kept = archive.create(resolved, key.sign("job", resolved.to_bytes()))
    console = Console(quiet=as_json)
    console.print(f"Launched {kept.job.name}, kept as {kept.path.name}", soft_wrap=True)
    record = follow(folder, kept, console)
    conclude(console, record, as_json=as_json, last=metrics_line(record.metrics))


def _resolve(path: Path, key: SigningKey, roster: Roster, archive: Archive) -> Job:
    """The job of a file, for hospitals that this roster knows.

    Raises:
        InputError: The file holds no job, or names a hospital that is not enrolled, or a
            statistics job whose table is not here.
    """
    request = scaled(read_request(path), archive)
    for site in request.sites:
        roster.card(site.name)
    origin = Origin(coordinator=key.fingerprint, roster=roster.digest, now=datetime.now(UTC))
    return resolve(request, origin)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a job would cost, before anybody is asked.

    Args:
        summary: The job in figures.
        seconds: How long it would take.
        basis: What that is taken from.
        connected: Whether each hospital is connected; empty where no coordinator runs.
    """

    summary: Summary
    seconds: float
    basis: str
    connected: dict[str, bool]

    def to_json(self) -> dict[str, object]:
        """One object, with one entry for each hospital."""
        job, privacy = self.summary.job, self.summary.job.privacy
        exchanges = job.training.rounds
        hospitals = {
            site.name: {
                "train_size": site.train_size,
                "test_size": site.test_size,
                "epsilon": None if privacy.mode == "none" else privacy.epsilon,
                "epsilon_worst": None if privacy.mode == "none" else privacy.epsilon_worst,
                "epsilon_evaluation": (
                    None if privacy.evaluation is None else privacy.epsilon_evaluation
                ),
                "delta": None if privacy.mode == "none" else privacy.delta,
                "bytes_up": exchanges * self.summary.upload_bytes,
                "bytes_down": exchanges * self.summary.download_bytes,
                "connected": self.connected.get(site.name),
            }
            for site in job.sites
        }
        return {
            **self.summary.to_json(),
            "expected_seconds": round(self.seconds),
            "expected_from": self.basis,
            "hospitals": hospitals,
        }

    def table(self) -> Table:
        """One line for each hospital."""
        table = plain_table(
            "What each hospital would pay and move",
            "epsilon: training patients, if the stated trust holds; worst: if all others collude;"
            " held: held-out patients",
        )
        table.add_column("hospital")
        for column in ("train", "test", "epsilon", "worst", "held", "up", "down", "node"):
            table.add_column(column, justify="right", no_wrap=True)
        privacy, names = self.summary.job.privacy, {True: "connected", False: "away", None: "?"}
        private = privacy.mode != "none"
        training = self.summary.job.training
        for site in self.summary.job.sites:
            table.add_row(
                site.name,
                str(site.train_size),
                str(site.test_size),
                number(privacy.epsilon if private else None),
                number(privacy.epsilon_worst if private else None),
                number(privacy.epsilon_evaluation if privacy.evaluation else None),
                size(training.rounds * self.summary.upload_bytes),
                size(training.rounds * self.summary.download_bytes),
                names[self.connected.get(site.name)],
            )
        return table


def _costs(folder: Folder, job: Job, found: Presence | None) -> Costs:
    told = summary(job)
    ended = [kept for kept in Archive(folder.jobs).jobs() if kept.outcome is not None]
    seconds, basis = expected_seconds(job, told.upload_bytes, ended)
    return Costs(
        summary=told,
        seconds=seconds,
        basis=basis,
        connected=dict(found.hospitals) if found else {},
    )


def _show_costs(costs: Costs, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(costs.to_json()))
        return
    console = Console()
    console.print(costs.summary.table())
    console.print(costs.table())
    console.print(f"About {costs.seconds:.0f} s ({costs.basis}). Nothing was signed or sent.")
