"""Flower's SuperNode as a child process: started, watched, started again, told to end."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from client.runner import Runtime, release_node
from privacy.keys import load_node_key
from protocol.errors import BusyError, InputError
from protocol.keyfile import replace_file

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
END_S = 10.0
SENT_S = 5.0
_STEADY_S = 60.0
_SECRET_BYTES = 32
_ID = re.compile(r"SuperNode ID: (\d+)")
_LOST = "Connection attempt failed"
_FOUND = "Connection successful after"
_SENT = ("Sent successfully", "Failed to send message", "Ignoring reply message")
_DROPPED = re.compile(r"(?:Ignoring|Failed to receive) message ([0-9a-f]+)")
_EXPECTED = ("DEBUG logs enabled", "EXPERIMENTAL")
_TOLD = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# A child that ends when this process does, however that ends; then the real program.
_BOUND = (
    "import ctypes, os, signal, sys\n"
    "if sys.platform == 'linux': ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"
    "os.getppid() == int(sys.argv[1]) or sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Link:
    """How the hospital reaches the coordinator.

    Args:
        address: The coordinator's host and port, from the pinned roster.
        ca: Its certificate authority, PEM, from the pinned roster.
        key: The node's key file.
        folder: The node's state folder.
        port: Local port of the SuperNode's interface; 0 for any that is free.
        environment: The SuperNode's environment.
    """

    address: str
    ca: str
    key: Path
    folder: Path
    port: int
    environment: Mapping[str, str]


class SuperNode:
    """The SuperNode of this hospital.

    Args:
        link: How it reaches the coordinator.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._process: subprocess.Popen[str] | None = None
        self._began = 0.0
        self._deaths = 0
        self._next = 0.0
        self._handed = 0
        self._sent = 0
        self.starts = 0
        self.connected = False
        self.node: int | None = _load_id(link.folder)
        self._listener: threading.Thread | None = None
        self.runtime: Runtime | None = None
        """The local interface; None while the process does not run."""

    def keep_running(self) -> None:
        """Start the process where it does not run, after a pause that grows with each death.

        One whose answers would arrive late from now on is ended first.
        """
        if self.runtime is not None and self.runtime.is_stale:
            _LOG.warning("a run ended in the middle of a message: Flower's node is started anew")
            self.close()
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            self._mourn(self._process.returncode)
        if time.monotonic() >= self._next:
            self._start()

    @property
    def pid(self) -> int | None:
        """Process number, None while it does not run."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and alive else None

    def note_reply(self) -> None:
        """Remember that one more reply was handed over."""
        self._handed += 1

    def wait_sent(self) -> None:
        """Wait, but not long, until every reply that was handed over has left, or could not."""
        end = time.monotonic() + SENT_S
        while self._sent < self._handed and self.pid is not None and time.monotonic() < end:
            time.sleep(0.05)

    def close(self) -> None:
        """End the process; it says goodbye to the coordinator itself."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_S)
            # Gone in order: the next start has nobody to dismiss.
            (self._link.folder / "node_id").unlink(missing_ok=True)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._drop_runtime()

    def _start(self) -> None:
        link = self._link
        self._dismiss_dead()
        port = link.port or _free_port()
        secret = secrets.token_bytes(_SECRET_BYTES)
        replace_file(link.folder / "runtime.secret", secret)
        replace_file(link.folder / "ca.pem", link.ca.encode())
        self._process = subprocess.Popen(  # noqa: S603 - an installed program, no shell
            [sys.executable, "-P", "-c", _BOUND, str(os.getpid()), *self._command(port)],
            env=dict(link.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.starts += 1
        self._began = time.monotonic()
        self.runtime = Runtime(f"127.0.0.1:{port}", secret)
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()
        _LOG.info("Flower's node started", extra={"pid": self._process.pid})

    def _command(self, port: int) -> list[str]:
        link = self._link
        return [
            _program("flower-supernode"),
            *("--isolation", "process"),
            *("--superlink", link.address),
            *("--root-certificates", str(link.folder / "ca.pem")),
            *("--auth-supernode-private-key", str(link.key)),
            *("--host", "127.0.0.1"),
            *("--port", str(port)),
            *("--superexec-auth-secret-file", str(link.folder / "runtime.secret")),
        ]

    def _mourn(self, code: int) -> None:
        steady = time.monotonic() - self._began > _STEADY_S
        pause = BACKOFF_S[min(0 if steady else self._deaths, len(BACKOFF_S) - 1)]
        self._deaths = 1 if steady else self._deaths + 1
        self._next = time.monotonic() + pause
        self._process = None
        self._drop_runtime()
        _LOG.warning("Flower's node ended", extra={"code": code, "again_in_s": pause})

    def _dismiss_dead(self) -> None:
        """A node that was killed still counts as present; say that it is gone."""
        if self.node is None:
            return
        try:
            key = load_node_key(self._link.key)
            release_node(self._link.address, self._link.ca.encode(), key, self.node)
        except BusyError as error:
            _LOG.info("the coordinator was not told that the node had ended: %s", error)
        self.node = None

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Follow what the process says: its state, and what an administrator should see."""
        if process.stdout is None:
            return
        with process.stdout as lines:
            for line in lines:
                self._follow(_COLOUR.sub("", line).strip())

    def _follow(self, line: str) -> None:
        found = _ID.search(line)
        if found is not None:
            self.node, self.connected = int(found[1]), True
            # On a full disk the next start only waits until the coordinator misses this node;
            # a thread that ended here would let the process choke on what it says.
            with suppress(InputError):
                replace_file(self._link.folder / "node_id", found[1].encode())
            _LOG.info("connected", extra={"node": self.node})
        elif _LOST in line or _FOUND in line:
            self.connected = _FOUND in line
        elif any(text in line for text in _SENT):
            self._sent += 1
        elif (dropped := _DROPPED.search(line)) is not None:
            runtime = self.runtime  # this is a thread of its own
            if runtime is not None:
                runtime.drop(dropped[1])
        elif _TOLD.search(line) and not any(text in line for text in _EXPECTED):
            _LOG.warning("Flower: %s", line)

    def _drop_runtime(self) -> None:
        """Let go of a process that ended, once all that it said was heard, and of its replies."""
        if self._listener is not None:
            self._listener.join(END_S)
            self._listener = None
        if self.runtime is not None:
            self.runtime.close()
            self.runtime = None
        self.connected = False
        self._handed = self._sent = 0


def _load_id(folder: Path) -> int | None:
    """The number of a node that did not end in order, None where there is none."""
    try:
        return int((folder / "node_id").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _program(name: str) -> str:
    """A program of this installation."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise InputError(f"no program {name!r}", remedy="install fedward with its dependencies")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
