"""What a node needs, checked one by one; each check says what it found and what to do.

Nothing private is in a finding: no value, no count of records, no key. Whatever a check needs of
the machine is an argument.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from client.dialling import (
    Proxy,
    Reply,
    StepError,
    ask_fleet,
    connect,
    look_up,
    peer_certificate,
    proxy_for,
    secure,
    tunnel,
)
from client.policy import Population
from privacy.keys import Identity
from privacy.ledger import Ledger
from privacy.ledger_audit import Report
from protocol.errors import FedwardError
from protocol.roster import Roster, Trust, load_pinned, split_address

Verdict = Literal["ok", "warn", "fail"]

# Flower refuses a node whose clock is further ahead or behind, in seconds.
MOST_AHEAD_S = 5.0
MOST_BEHIND_S = 305.0
_CERTIFICATE_DAYS = 30
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


def failed(check: str, error: FedwardError) -> Finding:
    """The finding of a check that ended with an error."""
    parts = [error.problem]
    parts += [f"expected {error.expected}"] if error.expected else []
    parts += [f"found {error.found}"] if error.found else []
    return Finding(
        check=check,
        verdict="fail",
        found="; ".join(parts),
        remedy=error.remedy or "see docs/hospital-it.md",
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


def check_connection(
    roster: Roster,
    *,
    proxy: str | None,
    environment: Mapping[str, str],
    clock: Callable[[], datetime],
    timeout_s: float,
) -> Iterator[Finding]:
    """Every step to the SuperLink, until one fails.

    Args:
        roster: It names address and authority.
        proxy: The configured proxy.
        environment: Environment variables.
        clock: Present time with a time zone.
        timeout_s: Seconds for each step.
    """
    step = "name"
    try:
        host, port = split_address(roster.address)
        way = proxy_for(host, proxy, environment)
        door = (host, port) if way is None else (way.host, way.port)
        yield _looked_up(door, way)
        step = "connection" if way is None else "proxy"
        with connect(*door, timeout_s) as stream:
            if way is None:
                yield Finding(check=step, verdict="ok", found=f"{host}:{port} answers")
            else:
                tunnel(stream, way, host, port)
                yield Finding(check=step, verdict="ok", found=f"{way} leads to {host}:{port}")
            step = "TLS"
            if not roster.ca:
                raise StepError(
                    "the roster names no authority", remedy="ask the coordinator for a new roster"
                )
            with secure(stream, host, roster.ca) as secured:
                end = peer_certificate(secured).not_valid_after_utc
                now = clock()
                yield _certificate(end, now)
                step = "SuperLink"
                before = clock()
                reply = ask_fleet(secured, host)
                between = before + (clock() - before) / 2
        yield check_clock(reply, between)
        yield _superlink(reply)
    except FedwardError as error:
        yield failed(step, error)


def _looked_up(door: tuple[str, int], way: Proxy | None) -> Finding:
    addresses = ", ".join(look_up(*door))
    found = f"{door[0]} is {addresses}"
    return Finding(
        check="name",
        verdict="ok",
        found=found if way is None else f"proxy {found}; it looks the coordinator up",
    )


def _certificate(end: datetime, now: datetime) -> Finding:
    until = f"believed, and valid to {end:%Y-%m-%d}"
    if end - now < timedelta(days=_CERTIFICATE_DAYS):
        return Finding(
            check="TLS",
            verdict="warn",
            found=until,
            remedy="remind the coordinator: fedward server certificate renew",
        )
    return Finding(check="TLS", verdict="ok", found=until)


def check_clock(reply: Reply, now: datetime) -> Finding:
    """This machine's clock is near the coordinator's.

    Args:
        reply: It brings the coordinator's time, cut to whole seconds.
        now: This machine's time when it was sent.
    """
    if reply.date is None:
        return Finding(
            check="clock",
            verdict="warn",
            found="the coordinator's answer has no time",
            remedy="compare the clocks by hand: they may differ by 5 seconds",
        )
    ahead_s = (now - reply.date).total_seconds() - 0.5
    word = "ahead of" if ahead_s > 0 else "behind"
    found = f"{abs(ahead_s):.0f} s {word} the coordinator's"
    remedy = "let this machine's clock follow a time server (NTP, chrony)"
    if not -MOST_BEHIND_S < ahead_s < MOST_AHEAD_S:
        return Finding(check="clock", verdict="fail", found=found, remedy=remedy)
    if not -MOST_BEHIND_S / 5 < ahead_s < MOST_AHEAD_S / 2:
        return Finding(check="clock", verdict="warn", found=found, remedy=remedy)
    return Finding(check="clock", verdict="ok", found=found)


def _superlink(reply: Reply) -> Finding:
    status = f"status {reply.status}"
    if reply.status in (200, 401):
        return Finding(check="SuperLink", verdict="ok", found="answers, and asks for a node's key")
    if reply.status >= 500:
        remedy = "the coordinator's SuperLink is down: ask the coordinator"
    else:
        remedy = "the address answers, but not as a SuperLink: tell the coordinator the status"
    return Finding(check="SuperLink", verdict="fail", found=status, remedy=remedy)


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

    Args:
        name: The data set.
        offered: Columns that the source declares.
        wanted: Columns of a job's schema, None where no job is given.
    """
    check = f"data {name}"
    if wanted is None:
        return Finding(check=check, verdict="ok", found=f"columns {', '.join(offered)}")
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
