"""Whether a verified message gets past the administrator's decisions and the machine's state.

This is before policy and budget, which the job's own process decides by (`client.admission`): a job
that waits, was refused or finds no room costs no process. Deliveries pass the same gate.
"""

from __future__ import annotations

import shutil
from datetime import datetime

from client.known_jobs import Asked, Known, check_unknown, summarise, summarise_delivery
from client.node_config import NodeConfig
from client.node_state import StateFolder
from client.reception import Arrival
from protocol.deliveries import Delivery
from protocol.delivery_messages import Offer, Vouch
from protocol.errors import Code, RefusalError
from protocol.messages import Enrol, Stop

_MEGABYTE = 2**20
_BEGINNINGS = frozenset({Enrol.KIND, Offer.KIND, Vouch.KIND})


def check_gate(
    arrival: Arrival, config: NodeConfig, folder: StateFolder, now: datetime, *, name: str
) -> None:
    """Refuse what the administrator, or the machine, does not take on.

    A job that asks for the first time is remembered; so is a delivery that this hospital is part
    of. A `stop` always passes: a hospital that left still wants to know that the job is over.

    Args:
        arrival: The message.
        config: The section `node`.
        folder: The node's state.
        now: The time, with a zone.
        name: This hospital's in the roster.

    Raises:
        RefusalError: With code `roster`, `expired`, `waiting`, `policy` or `busy`.
    """
    about = arrival.about
    if isinstance(about, Delivery) and name not in (*about.holders, *about.recipients):
        # The coordinator asks every node that is connected, to find those that it means.
        raise RefusalError(Code.ROSTER, f"delivery {about.title!r} does not ask this hospital")
    if arrival.packet.kind == Stop.KIND:
        return
    known = _remember(arrival, config, folder, now)
    what = f"{arrival.kind} {known.name!r}"
    if known.decision == "waiting":
        raise RefusalError(
            Code.WAITING,
            f"{what} waits for this hospital's administrator",
            remedy=f"fedward client jobs approve CONFIG {known.digest[:12]}",
        )
    if known.decision != "approved":
        raise RefusalError(Code.POLICY, f"{what} was {known.decision} here")
    if arrival.packet.kind in _BEGINNINGS and not known.begun:
        _check_room(config, folder)


def _remember(arrival: Arrival, config: NodeConfig, folder: StateFolder, now: datetime) -> Known:
    about = arrival.about
    known = folder.load_job(about.digest)
    if known is not None:
        return known
    check_unknown(about, now)
    # Whoever signs can ask for as many as they like.
    _check_disk(config, folder)
    asked = Asked(
        digest=about.digest,
        name=arrival.title,
        summary=summarise_delivery(about) if isinstance(about, Delivery) else summarise(about),
        decision="approved" if config.approval == "auto" else "waiting",
        seen=now.isoformat(timespec="milliseconds"),
        expires=about.expires,
    )
    folder.add_job(asked)
    folder.forget(now)
    return Known(asked=asked, decision=asked.decision, begun=False)


def _check_room(config: NodeConfig, folder: StateFolder) -> None:
    """Refuse a new job while the node is paused or the disk is full."""
    if folder.paused:
        raise RefusalError(Code.BUSY, "this node is paused", remedy="fedward client resume CONFIG")
    _check_disk(config, folder)


def _check_disk(config: NodeConfig, folder: StateFolder) -> None:
    free_mb = shutil.disk_usage(folder.path).free // _MEGABYTE
    if free_mb < config.disk_mb:
        raise RefusalError(
            Code.BUSY,
            "the disk of the state folder is too full to begin a job",
            expected=f"{config.disk_mb} MiB free",
            found=f"{free_mb} MiB",
        )
