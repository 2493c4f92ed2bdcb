"""`fedward client ledger`: what is spent of the hospital's privacy budget, and what proves it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.ledger_plot import draw
from privacy.charges import Charge
from privacy.ledger import Ledger
from privacy.ledger_audit import Balance, Report
from privacy.ledger_heads import REMEDY
from privacy.ledger_rules import Account
from protocol.config import read
from protocol.errors import InputError, IntegrityError
from protocol.keyfile import replace_file
from protocol.signing import SigningKey

_BLOCKED = f"this is an old copy, and nothing is released; {REMEDY}"
# Wide enough for every column where there is no terminal to ask.
_FILE_WIDTH = 150


def ledger(
    path: Annotated[
        Path | None, typer.Argument(metavar="LEDGER", help="The ledger's file.")
    ] = None,
    *,
    config: Annotated[
        Path | None, typer.Option(help="The hospital's configuration, which names the ledger.")
    ] = None,
    population: Annotated[str | None, typer.Option(help="Show one population only.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Recompute the chain, signatures and every epsilon.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the signed chain as JSON.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw both epsilons against the caps.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show the privacy budget: what is spent, reserved and refused, and by which jobs.

    "Held to cap" is epsilon as admission counts it, which is what the cap limits; "epsilon" is the
    tightest count of the same releases.

    Raises:
        InputError: No ledger is named, the population is unknown, or a file cannot be written.
        IntegrityError: The ledger does not hold, or is another hospital's.
    """
    hospital = None if config is None else _hospital(config)
    with Ledger.open(_locate(path, hospital), None) as opened:
        report = opened.verify() if verify else opened.report()
        if verify and hospital is not None:
            _check_signer(report, hospital)
        balances = [item for item in report.balances if population in {None, item.population}]
        if population is not None and not balances:
            raise InputError(
                f"no budget of population {population!r}",
                expected=f"one of {sorted({item.population for item in report.balances})}",
            )
        if export is not None:
            opened.export(export)
        if plot is not None:
            shown = {(balance.population, balance.partition) for balance in balances}
            history = opened.history()
            replace_file(plot, draw({key: history[key] for key in shown if key in history}))
        jobs = _select(opened.jobs(), population)
    if as_json:
        typer.echo(json.dumps(to_document(report, balances, jobs, verified=verify), indent=2))
    else:
        _print_tables(report, balances, jobs, verified=verify)


def to_document(
    report: Report,
    balances: Sequence[Balance],
    jobs: Sequence[tuple[Account, Charge]],
    *,
    verified: bool,
) -> dict[str, Any]:
    """Everything that the tables show, for programs; what is infinite is the text "inf"."""
    return {
        "rows": report.rows,
        "head": report.head,
        "signer": report.signer,
        "blocked": report.blocked,
        "remedy": REMEDY if report.blocked else None,
        "verified": verified,
        "budgets": [_budget_document(balance) for balance in balances],
        "jobs": [_job_document(account, charge) for account, charge in jobs],
    }


@dataclass(frozen=True)
class _Paths:
    """Where a hospital's configuration says that its ledger and its key are."""

    ledger: Path
    key: Path


def _hospital(config: Path) -> _Paths:
    from client.hospital import HospitalConfig  # noqa: PLC0415 - reads every part of a hospital

    hospital = read(HospitalConfig, config)
    base = config.parent
    return _Paths(base / hospital.ledger, base / hospital.keys / "signing.key")


def _locate(path: Path | None, hospital: _Paths | None) -> Path:
    if path is not None:
        return path
    if hospital is None:
        raise InputError("no ledger is named", remedy="give its path, or --config and a hospital")
    return hospital.ledger


def _check_signer(report: Report, hospital: _Paths) -> None:
    """A chain that holds may still be somebody else's."""
    own = SigningKey.load(hospital.key).fingerprint
    if report.signer != own:
        raise IntegrityError("the ledger is not this hospital's", expected=own, found=report.signer)


def _select(jobs: Sequence[Account], population: str | None) -> list[tuple[Account, Charge]]:
    """One line for each charge of each job that touches the population."""
    return [
        (account, charge)
        for account in jobs
        for charge in account.charges.values()
        if population in {None, charge.population}
    ]


def _budget_document(balance: Balance) -> dict[str, Any]:
    filtered, filtered_worst = balance.admission
    return {
        "population": balance.population,
        "partition": balance.partition,
        "delta": balance.caps.delta,
        "epsilon": _number(balance.epsilon),
        "epsilon_filter": _number(filtered),
        "epsilon_cap": _number(balance.caps.epsilon),
        "epsilon_worst": _number(balance.epsilon_worst),
        "epsilon_worst_filter": _number(filtered_worst),
        "epsilon_worst_cap": _number(balance.caps.epsilon_worst),
        "jobs": dict(balance.jobs),
    }


def _job_document(account: Account, charge: Charge) -> dict[str, Any]:
    return {
        "row": account.row,
        "time": account.at.isoformat(),
        "status": account.status,
        "finished": account.finished,
        "used": account.used[charge.purpose],
        "released": len(account.releases.get(charge.purpose, [])),
        **vars(charge),
    }


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"


def _print_tables(
    report: Report,
    balances: Sequence[Balance],
    jobs: Sequence[tuple[Account, Charge]],
    *,
    verified: bool,
) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    console.print(_budget_table(balances))
    console.print(_job_table(jobs))
    checked = "verified: every link, signature, grant and epsilon" if verified else "not verified"
    console.print(Text(f"{report.rows} rows, {checked}"))
    console.print(Text(f"head   {report.head}\nsigner {report.signer}"))
    if report.blocked:
        console.print(Text(f"blocked: {_BLOCKED}", style="bold red"))


def _budget_table(balances: Sequence[Balance]) -> Table:
    """What is spent: by the tightest count, and as admission counts it to hold it to the cap."""
    table = _table(
        "Privacy budget",
        words=("population", "of", "trust"),
        numbers=("epsilon", "held to cap", "cap", "delta"),
    )
    for balance in balances:
        caps, (held, held_worst) = balance.caps, balance.admission
        whose, delta = (balance.population, balance.partition), f"{caps.delta:g}"
        spent = (f"{balance.epsilon:.4f}", f"{held:.4f}", f"{caps.epsilon:g}")
        worst = (f"{balance.epsilon_worst:.4f}", f"{held_worst:.4f}", f"{caps.epsilon_worst:g}")
        _add_row(table, *whose, "as stated", *spent, delta)
        _add_row(table, "", "", "worst case", *worst, "")
    return table


def _job_table(jobs: Sequence[tuple[Account, Charge]]) -> Table:
    table = _table(
        "Jobs",
        words=("job", "population", "of", "status"),
        numbers=("day (UTC)", "sigma / own", "q", "used / of"),
    )
    for account, charge in jobs:
        _add_row(
            table,
            charge.job[:8],
            charge.population,
            charge.partition,
            account.status,
            f"{account.at:%Y-%m-%d}",
            f"{charge.sigma_effective:.4g} / {charge.sigma_own:.4g}",
            f"{charge.q:.3g}",
            f"{account.used[charge.purpose]} / {charge.steps}",
        )
    return table


def _table(title: str, *, words: Iterable[str], numbers: Iterable[str]) -> Table:
    """A table for 80 columns: only a population's name may wrap, and numbers end in one line."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name in words:
        table.add_column(name, overflow="fold", no_wrap=name != "population")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _add_row(table: Table, *cells: str) -> None:
    # As texts, so that a population called "[red]" is shown and not obeyed.
    table.add_row(*map(Text, cells))
