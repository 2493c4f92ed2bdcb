"""The way to the coordinator, checked step by step until one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from client.checks import Finding, failed
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
from protocol.errors import FedwardError
from protocol.roster import Roster, split_address

# Flower refuses a node whose clock is further ahead or behind, in seconds.
MOST_AHEAD_S = 5.0
MOST_BEHIND_S = 305.0
_CERTIFICATE_DAYS = 30


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
