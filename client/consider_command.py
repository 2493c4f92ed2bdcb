"""`fedward client consider`: what this hospital's node would answer to a job, and at what cost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.admission import Answer
from client.admission import consider as considered
from client.data.opening import open_source
from client.hospital import HospitalConfig
from client.init_command import CONFIG
from client.job_files import Asked, read_job
from client.policy import caps_of
from client.situation import charges_of, situation_of
from client.training import check_guards
from privacy.budget import Decision, decide
from privacy.charges import Charge
from privacy.ledger import Ledger
from protocol.config import read
from protocol.errors import BudgetError, Code, FedwardError, RefusalError
from protocol.jobs import Job
from protocol.roster import Trust, load_pinned

_FILE_WIDTH = 120


def consider(
    job: Annotated[
        Path,
        typer.Argument(help="A coordinator's YAML file, a signed job, its folder, or a bundle."),
    ],
    *,
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The hospital's configuration.")
    ] = Path(CONFIG),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what the node would answer to a job, with every reason, and what it would cost.

    Nothing is reserved, written or sent, and no record is read. A YAML file is planned as if it
    were launched now. Leaves with code 1 where the job would be refused.
    """
    found = look(config, job, datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps(found.to_json()))
    else:
        found.show()
    if found.reasons:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Outlook:
    """The answer to a job.

    Args:
        asked: The job.
        reasons: Every reason against it, in the order of the node's questions.
        cost: What it would take of the budget; None where this cannot be told.
    """

    asked: Asked
    reasons: tuple[RefusalError, ...]
    cost: Decision | None

    def to_json(self) -> dict[str, object]:
        """Everything that is shown, for programs; what is infinite is the text "inf"."""
        job = self.asked.job
        return {
            "job": job.name,
            "digest": job.digest,
            "signed": self.asked.signed,
            "answer": "refused" if self.reasons else "accepted",
            "code": str(self.reasons[0].code) if self.reasons else None,
            "reasons": [
                {
                    "code": str(reason.code),
                    "problem": reason.problem,
                    "expected": reason.expected,
                    "found": reason.found,
                    "remedy": reason.remedy,
                }
                for reason in self.reasons
            ],
            "cost": [dict(zip(_COLUMNS, row, strict=True)) for row in _rows(self.cost)],
        }

    def show(self) -> None:
        """Print it."""
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(width=_FILE_WIDTH, highlight=False)
        job = self.asked.job
        origin = "signed by the coordinator" if self.asked.signed else "not signed"
        console.print(Text(f"Job {job.name}, {job.digest[:12]}, {origin}", "bold"))
        if self.cost is not None:
            console.print(_table(_rows(self.cost)))
        if not self.reasons:
            console.print(Text("The node would take part.", "bold green"))
            return
        told = f"The node would refuse and say only: {self.reasons[0].code}"
        console.print(Text(told, "bold red"))
        for reason in self.reasons:
            console.print(Text(f"- {reason.code}: {reason}"))


_COLUMNS = (
    "population",
    "partition",
    "trust",
    "spent",
    "asked",
    "left",
    "cap",
)


def look(config: Path, path: Path, now: datetime) -> Outlook:
    """Ask everything that a node would ask, of files alone.

    Raises:
        InputError: The configuration, the trust or the job's file cannot be read.
        IntegrityError: The roster is not the pinned one, or the ledger does not hold.
    """
    hospital, base = read(HospitalConfig, config), config.parent
    trust = Trust.load(base / hospital.trust)
    roster = load_pinned(base / hospital.roster, trust)
    asked = read_job(path, roster, now)
    job = asked.job
    situation = situation_of(
        hospital,
        lambda: open_source(hospital.datasets[job.dataset].source, base).columns(),
        trust=trust,
        roster=roster,
        dataset=job.dataset,
        now=now,
    )
    answer = considered(job, situation)
    counted, over = _ledger(base / hospital.ledger, job)
    cost = _cost(hospital, job, counted, now)
    reasons = [asked.reason, over, *answer.reasons, _guards(answer), _budget(cost)]
    return Outlook(asked, tuple(reason for reason in reasons if reason is not None), cost)


def _ledger(path: Path, job: Job) -> tuple[list[Charge], RefusalError | None]:
    """What counts so far, and whether the job is over here."""
    if not path.exists():
        return [], None
    with Ledger.open(path, None) as ledger:
        accounts = ledger.jobs()
        finished = ledger.finished(job.digest)
    counted = [
        charge
        for account in accounts
        if account.status in ("reserved", "settled") and job.digest not in _jobs(account.counted)
        for charge in account.counted
    ]
    over = RefusalError(Code.REPLAYED, "this job has begun or ended here before")
    return counted, over if finished else None


def _jobs(charges: Iterable[Charge]) -> set[str]:
    return {charge.job for charge in charges}


def _cost(
    hospital: HospitalConfig, job: Job, counted: Sequence[Charge], now: datetime
) -> Decision | None:
    here = hospital.datasets.get(job.dataset)
    if here is None or hospital.name not in {site.name for site in job.sites}:
        return None
    budget = hospital.populations[here.population].budget
    try:
        charges = list(charges_of(job, hospital.name, here.population).values())
        return decide(rows=counted, charges=charges, caps=caps_of(job, budget), clock=now)
    except FedwardError:
        # Numbers that cannot be counted are refused for themselves, see `client.admission`.
        return None


def _guards(answer: Answer) -> RefusalError | None:
    if answer.admitted is None or answer.reasons:
        return None
    try:
        check_guards(answer.admitted)
    except FedwardError as error:
        return RefusalError(Code.TASK, str(error))
    return None


def _budget(cost: Decision | None) -> RefusalError | None:
    try:
        if cost is not None:
            cost.require()
    except BudgetError as error:
        return RefusalError(Code.BUDGET, str(error))
    return None


def _rows(cost: Decision | None) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for standing in () if cost is None else cost.standings:
        caps = (standing.caps.epsilon, standing.caps.epsilon_worst)
        for kind, trust in enumerate(("as stated", "worst case")):
            spent, alone, total = (
                standing.spent[kind],
                standing.alone[kind],
                standing.total[kind],
            )
            left = max(caps[kind] - total, 0.0) if math.isfinite(total) else 0.0
            numbers = (spent, alone, left, caps[kind])
            rows.append((standing.population, standing.partition, trust, *map(_number, numbers)))
    return rows


def _number(value: float) -> float | str:
    return round(value, 6) if math.isfinite(value) else "inf"


def _table(rows: Iterable[Sequence[object]]) -> Table:
    table = Table(title="Epsilon", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in _COLUMNS[:3]:
        table.add_column(name, no_wrap=True)
    for name in ("spent", "this job", "left then", "cap"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        texts = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]
        table.add_row(*map(Text, texts))
    return table
