"""The supervisor's side of its jobs' processes: start them, ask them, notice that one is gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from client.frames import Frame, pair, receive, send
from client.limits import Limits
from protocol.errors import BusyError, FedwardError
from protocol.messages import Packet

ZYGOTE: tuple[str, ...] = (sys.executable, "-P", "-m", "client.zygote")
START_S = 120.0
"""How long the zygote may import."""
_LOOK_S = 0.2
_END_S = 2.0


class ChildGoneError(FedwardError):
    """A job's process ended, or had to be ended, before it answered."""


class Child:
    """One job's process.

    Args:
        pid: Its number.
        channel: This side of its channel.
    """

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel

    def ask(
        self, packet: Packet, *, until: float, abandoned: Callable[[], bool] = lambda: False
    ) -> Packet:
        """Hand over a packet and wait for the answer.

        Args:
            packet: What arrived.
            until: Unix time after which nobody wants the answer.
            abandoned: Looked at while waiting; true ends the wait.

        Raises:
            ChildGoneError: The process is gone, could not open the hospital, or took too long.
        """
        self._channel.settimeout(_LOOK_S)
        # A process that could not open its hospital has said so and is gone: that is read below.
        with suppress(OSError):
            send(self._channel, {}, packet.to_wire())
        frame = self._wait(until, abandoned)
        if "error" in frame.head:
            raise ChildGoneError(f"the job's process could not begin: {frame.head['error']}")
        return Packet.from_wire(frame.parts)

    def alive(self) -> bool:
        """Whether the process still holds its end of the channel."""
        self._channel.settimeout(0.0)
        try:
            return bool(self._channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def kill(self) -> None:
        """End the process at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the channel: a process that waits ends by itself."""
        self._channel.close()

    def _wait(self, until: float, abandoned: Callable[[], bool]) -> Frame:
        self._channel.settimeout(_LOOK_S)
        while True:
            try:
                frame = receive(self._channel)
            except TimeoutError:
                if time.time() > until or abandoned():
                    raise ChildGoneError("the answer was not waited for any longer") from None
                continue
            if frame is None:
                raise ChildGoneError("the job's process is gone")
            return frame


class Nursery:
    """All jobs' processes, and the zygote that forks them.

    Args:
        config: The hospital's configuration file.
        limits: What each job may take.
        command: The zygote's command line, without its two arguments.
        environment: The zygote's environment; nothing secret.
        output: Where its messages go, a descriptor.
    """

    def __init__(
        self,
        config: Path,
        limits: Limits,
        *,
        command: Sequence[str] = ZYGOTE,
        environment: Mapping[str, str],
        output: int | None = None,
    ) -> None:
        self._config = config
        self._limits = limits
        self._command = tuple(command)
        self._environment = dict(environment)
        self._output = output
        self._children: dict[str, Child] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the zygote, so that it has imported everything when the first job comes."""
        ours, theirs = pair()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [*self._command, str(self._config), str(theirs.fileno())],
            env=self._environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        theirs.close()
        ours.settimeout(START_S)
        self._control = ours

    def child(self, job: str) -> Child:
        """The process of a job; it is started where it does not run.

        Raises:
            BusyError: None can be started.
        """
        found = self._children.get(job)
        if found is not None and found.alive():
            return found
        if found is not None:
            self.drop(job)
        self._children[job] = self._fork()
        return self._children[job]

    def drop(self, job: str) -> str:
        """End a job's process, if there is one.

        Returns:
            How it ended, in words.
        """
        child = self._children.pop(job, None)
        if child is None:
            return "did not run"
        child.close()
        status = self._reap(child)
        return f"ended by signal {-status}" if status < 0 else f"ended with {status}"

    @property
    def pids(self) -> dict[str, int]:
        """Process number by job."""
        return {job: child.pid for job, child in self._children.items()}

    def close(self) -> None:
        """End every process."""
        for job in list(self._children):
            self.drop(job)
        self._end_zygote()

    def _fork(self) -> Child:
        for _ in range(2):
            if self._process is None or self._process.poll() is not None:
                self._end_zygote()
                self.start()
            ours, theirs = pair()
            reply = self._order({"limits": asdict(self._limits)}, theirs.fileno())
            theirs.close()
            if reply is not None:
                return Child(reply.head["pid"], ours)
            ours.close()
        raise BusyError("no process can be started for a job", remedy="see the node's log")

    def _order(self, head: Mapping[str, object], *descriptors: int) -> Frame | None:
        """Ask the zygote; None when it is gone, and then it is not left running."""
        if self._control is None:
            return None
        try:
            send(self._control, head, descriptors=descriptors)
            reply = receive(self._control)
        except OSError:
            reply = None
        if reply is None:
            self._end_zygote()
        return reply

    def _reap(self, child: Child) -> int:
        """End a process whose channel is closed, and learn how it ended."""
        end = time.monotonic() + _END_S
        while time.monotonic() < end and _runs(child.pid):
            time.sleep(0.02)
        child.kill()
        reply = self._order({"reap": child.pid})
        return -signal.SIGKILL if reply is None else int(reply.head["status"])

    def _end_zygote(self) -> None:
        """Its children die with it."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _runs(pid: int) -> bool:
    """Whether a process still runs; one that ended waits for the zygote to ask how."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] not in {"Z", "X"}
