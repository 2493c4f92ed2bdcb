"""A job's process as the coordinator's service sees it: started, looked after, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import IO, cast

from server.config import Folder
from server.link import environment
from server.transcript import Transcript

_GRACE_S = 5.0
_LAST_WORDS_S = 1.0


class JobProcess:
    """A process that carries out one run; it ends with this one, however this one ends.

    Args:
        folder: The coordinator's folder.
        name: The job's, for the transcript.
        token: Of the run. It goes through a pipe, since everybody may read a command line.
        transcript: Gets what the process writes.
    """

    def __init__(self, folder: Folder, name: str, token: str, transcript: Transcript) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "server.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Flower warns of its own grid with every message.
            env=environment(folder) | {"FLWR_LOG_LEVEL": "ERROR"},
            cwd=folder.state,
            start_new_session=True,
        )
        self._listener = transcript.follow(cast("IO[bytes]", self._process.stdout), name)
        self._input = cast("IO[bytes]", self._process.stdin)
        # A process that has ended already says so by `ending`.
        with suppress(BrokenPipeError):
            os.write(self._input.fileno(), token.encode() + b"\n")

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def ending(self) -> str | None:
        """How it ended, for the administrator ("ended with 1: ..."); None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        self._close()
        if code < 0:
            return f"was ended by signal {-code} ({signal.strsignal(-code)})"
        return f"ended with {code}: {self._listener.last}"

    def stop(self) -> None:
        """End it; what it has not kept by now counts as not done."""
        self._process.terminate()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        self._input.close()
        self._listener.join(_LAST_WORDS_S)
