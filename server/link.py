"""The SuperLink's process: how it is started, with which settings, and how it ends.

What runs there is `server.superlink`. See docs/adr/0010-coordinator-is-files-and-processes.md.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from typing import IO, cast

from protocol.keyfile import replace_file
from server.config import ENVIRONMENT, Folder
from server.transcript import Listener, Transcript

TRANSCRIPT = "superlink.log"
_GRACE_S = 10.0
_SECRET_BYTES = 32
# Without these a coordinator keeps twice the memory that its messages need.
_FRUGAL = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}


class SuperLink:
    """The SuperLink's process.

    Args:
        folder: The coordinator's folder.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._transcript = Transcript(folder.state / TRANSCRIPT)
        self._listener: Listener | None = None

    def start(self) -> None:
        """Start it with a new secret; it ends with this process, however this one ends.

        Raises:
            InputError: The disk is full, or the secret cannot be written.
        """
        state = self._folder.state
        (state / "flower").mkdir(parents=True, exist_ok=True, mode=0o700)
        secret = secrets.token_hex(_SECRET_BYTES).encode()
        replace_file(self._folder.superlink_secret, secret)
        self._process = subprocess.Popen(  # noqa: S603 - nothing in it comes from outside
            [sys.executable, "-P", "-m", "server.superlink", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(self._folder),
            cwd=state,
            start_new_session=True,
        )
        self._listener = self._transcript.follow(cast("IO[bytes]", self._process.stdout))

    @property
    def pid(self) -> int:
        """Number of the process, 0 before the first."""
        return 0 if self._process is None else self._process.pid

    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ask it to end, and end it if it does not."""
        if self._process is None:
            return
        if self.running():
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._listener is not None:
            self._listener.join(_GRACE_S)
        self._transcript.close()


def environment(folder: Folder) -> dict[str, str]:
    """What the SuperLink and the processes of jobs are told: nobody is called home to."""
    inherited = dict(os.environ)
    here = f"127.0.0.1,localhost,::1,{folder.config.listens[0]}"
    others = inherited.get("NO_PROXY") or inherited.get("no_proxy")
    unproxied = f"{here},{others}" if others else here
    return (
        inherited
        | _FRUGAL
        | {
            ENVIRONMENT: str(folder.file),
            "FLWR_HOME": str(folder.state / "flower"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_LOG_LEVEL": "WARNING",
            "NO_PROXY": unproxied,
            "no_proxy": unproxied,
        }
    )
