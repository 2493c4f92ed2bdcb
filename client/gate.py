"""Whether a verified message gets past the administrator's decisions and the machine's state.

This is before policy and budget, which the job's own process decides by (`client.admission`): a job
that waits, was refused or finds no room costs no process.
"""

from __future__ import annotations

import shutil
from datetime import datetime

from client.node_config import NodeConfig
from client.node_state import Asked, Known, StateFolder, summarise
from client.reception import Arrival
from protocol.errors import Code, RefusalError
from protocol.messages import Enrol, Stop

_MEGABYTE = 2**20


def check_gate(arrival: Arrival, config: NodeConfig, folder: StateFolder, now: datetime) -> None:
    """Refuse what the administrator, or the machine, does not take on.

    A job that asks for the first time is remembered. A `stop` always passes: a hospital that left
    still wants to know that the job is over.

    Args:
        arrival: The message.
        config: The section `node`.
        folder: The node's state.
        now: The time, with a zone.

    Raises:
        RefusalError: With code `waiting`, `policy` or `busy`.
    """
    known = _remember(arrival, config, folder, now)
    if arrival.packet.kind == Stop.KIND:
        return
    name, digest = known.name, known.digest[:12]
    if known.decision == "waiting":
        raise RefusalError(
            Code.WAITING,
            f"job {name!r} waits for this hospital's administrator",
            remedy=f"fedward client jobs approve CONFIG {digest}",
        )
    if known.decision != "approved":
        raise RefusalError(Code.POLICY, f"job {name!r} was {known.decision} here")
    if arrival.packet.kind == Enrol.KIND and not known.begun:
        _check_room(config, folder)


def _remember(arrival: Arrival, config: NodeConfig, folder: StateFolder, now: datetime) -> Known:
    job = arrival.job
    known = folder.load_job(job.digest)
    if known is not None:
        return known
    asked = Asked(
        digest=job.digest,
        name=job.name,
        summary=summarise(job),
        decision="approved" if config.approval == "auto" else "waiting",
        seen=now.isoformat(timespec="milliseconds"),
        expires=job.expires,
    )
    folder.add_job(asked)
    return Known(asked=asked, decision=asked.decision, begun=False)


def _check_room(config: NodeConfig, folder: StateFolder) -> None:
    """Refuse a new job while the node is paused or the disk is full."""
    if folder.paused:
        raise RefusalError(Code.BUSY, "this node is paused", remedy="fedward client resume CONFIG")
    free_mb = shutil.disk_usage(folder.path).free // _MEGABYTE
    if free_mb < config.disk_mb:
        raise RefusalError(
            Code.BUSY,
            "the disk of the state folder is too full to begin a job",
            expected=f"{config.disk_mb} MiB free",
            found=f"{free_mb} MiB",
        )
