"""What a node needs, checked one by one; each check says what it found and what to do.

Nothing private is in a finding: no value, no count of records, no key. Whatever a check needs of
the machine is an argument.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from client.policy import Population
from privacy.keys import Identity
from privacy.ledger import Ledger
from privacy.ledger_audit import Report
from protocol.errors import FedwardError
from protocol.roster import Roster, Trust, load_pinned

Verdict = Literal["ok", "warn", "fail"]

_LITTLE_LEFT = 0.1
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of a report.

    Args:
        check: What was looked at.
        verdict: `fail` where the node would not work.
        found: What was found, in one line.
        remedy: What to do; empty where nothing is.
    """

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def failed(check: str, error: FedwardError, remedy: str = "see docs/hospital-it.md") -> Finding:
    """The finding of a check that ended with an error; `remedy` is for one that names none."""
    parts = [error.problem]
    parts += [f"expected {error.expected}"] if error.expected else []
    parts += [f"found {error.found}"] if error.found else []
    return Finding(
        check=check,
        verdict="fail",
        found="; ".join(parts),
        remedy=error.remedy or remedy,
    )


def check_keys(folder: Path) -> tuple[Finding, Identity | None]:
    """The hospital's keys are there, belong together, and are its own alone."""
    try:
        identity = Identity.load(folder)
    except FedwardError as error:
        return failed("keys", error), None
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        return Finding(
            check="keys",
            verdict="warn",
            found=f"others may look into {folder}, mode {mode:04o}",
            remedy=f"run: chmod 700 {folder}",
        ), identity
    return Finding(check="keys", verdict="ok", found=f"of {identity.name}, mode 0600"), identity


def check_trust(
    roster_path: Path, trust_path: Path, identity: Identity | None
) -> Iterator[Finding | Roster]:
    """A roster is pinned, it has this hospital, and its members were confirmed.

    Yields:
        Findings, and the roster where it can be read.
    """
    try:
        trust = Trust.load(trust_path)
        roster = load_pinned(roster_path, trust)
    except FedwardError as error:
        yield Finding(
            check="roster",
            verdict="fail",
            found=error.problem,
            remedy="pin the coordinator's roster: fedward client trust ROSTER",
        )
        return
    yield roster
    if identity is not None and identity.card() not in roster.members:
        yield Finding(
            check="roster",
            verdict="fail",
            found=f"edition {roster.sequence} does not have the card of {identity.name}",
            remedy="send the card to the coordinator, and trust the roster that comes back",
        )
    else:
        yield Finding(
            check="roster",
            verdict="ok",
            found=f"edition {roster.sequence} with {len(roster.members)} hospitals is pinned",
        )
    confirmed = trust.members(roster)
    missing = [card.name for card in roster.members if card.name not in confirmed]
    if missing:
        yield Finding(
            check="hospitals",
            verdict="warn",
            found=f"not confirmed here: {', '.join(missing)}",
            remedy="jobs that ask them are refused; confirm them: fedward client trust ROSTER",
        )
    else:
        yield Finding(check="hospitals", verdict="ok", found="all of them were confirmed here")


def check_disk(free: int, wanted: int) -> Finding:
    """There is room for a job's state; sizes are in bytes."""
    found = f"{free / _GIB:.1f} GiB free"
    if free < wanted:
        return Finding(
            check="disk",
            verdict="fail",
            found=found,
            remedy=f"free some: a job needs up to {wanted / _GIB:.1f} GiB",
        )
    verdict: Verdict = "warn" if free < 2 * wanted else "ok"
    return Finding(
        check="disk",
        verdict=verdict,
        found=found,
        remedy="free some before jobs with large models" if verdict == "warn" else "",
    )


def check_memory(available: int | None, wanted: int) -> Finding:
    """There is memory for a job's process; sizes are in bytes, None where the system is silent."""
    if available is None:
        return Finding(check="memory", verdict="ok", found="this system does not say how much")
    found = f"{available / _GIB:.1f} GiB available"
    if available < wanted:
        return Finding(
            check="memory",
            verdict="warn",
            found=found,
            remedy=f"a job's process may take {wanted / _GIB:.1f} GiB: give the machine more, or "
            "set node.memory_mb lower",
        )
    return Finding(check="memory", verdict="ok", found=found)


def check_ledger(
    path: Path, populations: Mapping[str, Population], identity: Identity | None
) -> Iterator[Finding]:
    """The ledger holds, is this hospital's, and leaves budget."""
    if not path.exists():
        yield Finding(check="ledger", verdict="ok", found="none yet; it begins with the first job")
        return
    try:
        with Ledger.open(path, None) as ledger:
            report = ledger.verify()
    except FedwardError as error:
        yield failed("ledger", error)
        return
    yield _ledger(report, identity)
    for name, population in sorted(populations.items()):
        yield _budget(name, population, report)


def _ledger(report: Report, identity: Identity | None) -> Finding:
    if report.blocked:
        return Finding(
            check="ledger",
            verdict="fail",
            found="blocked: rows of which this hospital told the coordinator are missing",
            remedy="put the newest copy back; see docs/keys.md",
        )
    if identity is not None and report.signer != identity.card().fingerprint:
        return Finding(
            check="ledger",
            verdict="fail",
            found="another key signed it",
            remedy="put this hospital's own ledger or keys back",
        )
    return Finding(check="ledger", verdict="ok", found=f"{report.rows} rows, every one holds")


def _budget(name: str, population: Population, report: Report) -> Finding:
    """Both epsilons that are left, in the tighter of the two partitions."""
    budget = population.budget
    spent = [item.admission for item in report.balances if item.population == name]
    left = budget.epsilon - max((first for first, _ in spent), default=0.0)
    left_worst = budget.epsilon_worst - max((second for _, second in spent), default=0.0)
    found = (
        f"epsilon {max(left, 0.0):.3g} of {budget.epsilon:g} is left, "
        f"{max(left_worst, 0.0):.3g} of {budget.epsilon_worst:g} in the worst case"
    )
    little = min(left / budget.epsilon, left_worst / budget.epsilon_worst) < _LITTLE_LEFT
    return Finding(
        check=f"budget {name}",
        verdict="warn" if little else "ok",
        found=found,
        remedy="most jobs will be refused; it never grows back" if little else "",
    )


def check_columns(name: str, offered: tuple[str, ...], wanted: tuple[str, ...] | None) -> Finding:
    """A source has the columns that a job reads.

    What the source calls its columns is not told: they may be the first record of a file without a
    header.

    Args:
        name: The data set.
        offered: Columns that the source declares.
        wanted: Columns of a job's schema, None where no job is given.
    """
    check = f"data {name}"
    if wanted is None:
        found = f"{len(offered)} columns; with --job FILE it is said whether a job can read them"
        return Finding(check=check, verdict="ok", found=found)
    missing = sorted(set(wanted) - set(offered))
    if missing:
        return Finding(
            check=check,
            verdict="fail",
            found=f"the source lacks {', '.join(missing)}",
            remedy="map the columns in the hospital's configuration, then: fedward client "
            "data-check",
        )
    return Finding(check=check, verdict="ok", found="it has every column that the job reads")
