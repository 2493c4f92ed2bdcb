"""The process of one job or delivery: it opens the hospital, and answers what it is handed.

It was forked by the zygote, holds the keys of its job and nothing of another's, and reaches no
network. It ends when its channel or its parent does, when the job is closed, or when nothing has
come for a long time; what it must not lose is on the disk by then.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from client.frames import receive, send
from client.hospital import Hospital
from client.limits import Limits, apply_limits
from client.member import Member
from client.node_state import JOBS
from client.reception import LAST
from client.store import DiskSessions
from protocol.errors import FedwardError
from protocol.messages import Packet

_PR_SET_PDEATHSIG = 1
_LOG = logging.getLogger(__name__)


def work(
    channel: socket.socket,
    config: Path,
    limits: Limits,
    open_hospital: Callable[[Path], Hospital],
) -> None:
    """Answer packets until there is nothing more to answer.

    Args:
        channel: From the supervisor.
        config: The hospital's configuration file.
        limits: What this process may take.
        open_hospital: How to open the hospital.
    """
    apply_limits(limits)
    channel.settimeout(limits.idle_s)
    try:
        with open_hospital(config) as hospital:
            sessions = DiskSessions(hospital.base / hospital.config.node.state / JOBS)
            answer_all(channel, Member(hospital, sessions))
    except FedwardError as error:
        send(channel, {"error": str(error)})
    except TimeoutError:
        _LOG.info("nothing came for %s s", limits.idle_s)


def answer_all(channel: socket.socket, member: Member) -> None:
    """Answer until the channel ends, or the job or delivery is over here.

    Raises:
        TimeoutError: Nothing came within the channel's timeout.
    """
    while (frame := receive(channel)) is not None:
        reply = member.answer(Packet.from_wire(frame.parts))
        send(channel, {}, reply.to_wire())
        if reply.kind in LAST:
            return
        # Waiting for the next message, nothing keeps the large parts of this one.
        del frame, reply


def die_with_parent(parent: int) -> None:
    """Let the kernel end this process when its parent ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
