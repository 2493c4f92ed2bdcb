"""A process that has imported what a job needs, and forks one worker for each job.

Importing torch and SEAL's bindings takes seconds; a fork takes milliseconds and shares their
memory. That works while this process has computed nothing: after one operation of torch, its
threads would be missing in every child. So it imports, waits and forks, and never computes; it
holds no key and opens no file of the hospital.

The supervisor starts it with the configuration's path and the number of an open socket:
`python -m client.zygote CONFIG DESCRIPTOR`.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from client.frames import Frame, receive, send
from client.hospital import Hospital
from client.limits import Limits
from client.worker import die_with_parent, work
from protocol.config import parse
from protocol.errors import InputError

PRELOADED = ("torch", "tenseal", "opacus", "client.member", "client.training", "client.finish")
_LOG = logging.getLogger(__name__)


def serve(
    *,
    open_hospital: Callable[[Path], Hospital] = Hospital.open,
    arguments: Sequence[str] | None = None,
) -> None:
    """Fork workers until the supervisor closes the socket.

    Args:
        open_hospital: How a worker opens the hospital. The product has one way; a test's own
            zygote may open it with seeded noise over public data.
        arguments: Configuration and descriptor; None for those of the command line.
    """
    path, descriptor = sys.argv[1:] if arguments is None else arguments
    control = socket.socket(fileno=int(descriptor))
    die_with_parent(os.getppid())
    preload()
    while (frame := receive(control)) is not None:
        if "reap" in frame.head:
            send(control, {"status": reap(frame.head["reap"])})
        else:
            send(control, {"pid": _fork(control, frame, Path(path), open_hospital)})


def preload() -> None:
    """Import what jobs run, registered tasks and strategies included; compute nothing.

    One that cannot be imported is left out: only a job that names it is refused.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    for group in ("fedward.tasks", "fedward.strategies"):
        for entry in entry_points(group=group):
            try:
                entry.load()
            except Exception as error:  # noqa: BLE001 - somebody else's module may raise anything
                _LOG.error("%s %r cannot be imported: %s", group, entry.name, type(error).__name__)


def reap(pid: int) -> int:
    """How a worker ended: its exit code, or minus the signal that ended it."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _fork(
    control: socket.socket,
    frame: Frame,
    config: Path,
    open_hospital: Callable[[Path], Hospital],
) -> int:
    """Fork a worker.

    Returns:
        Its process number, in the parent; the worker does not return.
    """
    limits = parse(Limits, frame.head["limits"], "limits")
    if len(frame.descriptors) != 1:
        raise InputError("an order for a worker", expected="one channel")
    parent, (descriptor,) = os.getpid(), frame.descriptors
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    code = 1
    try:
        die_with_parent(parent)
        control.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        work(socket.socket(fileno=descriptor), config, limits, open_hospital)
        code = 0
    except Exception as error:  # noqa: BLE001 - its text may quote a record; it stays unsaid
        _LOG.error("a worker ended by %s", type(error).__name__)
    finally:
        # Not sys.exit: what the zygote registered to be done at its end is not the worker's.
        os._exit(code)


if __name__ == "__main__":
    serve()
