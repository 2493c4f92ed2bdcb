"""The SuperLink's process: how it is started, with which settings, and how it ends.

Flower's server side is one program, `flower-superlink`; it starts a process for every run, which
imports `server.launched`. See docs/adr/0010-coordinator-is-files-and-processes.md.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from server.config import ENVIRONMENT, Folder

_GRACE_S = 10.0
_POLL_S = "0.25"
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

    def start(self) -> None:
        """Start it; it ends with this process, however this one ends."""
        state = self._folder.state
        (state / "flower").mkdir(parents=True, exist_ok=True, mode=0o700)
        with (state / "superlink.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - nothing in it comes from outside
                _command(self._folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(self._folder),
                cwd=state,
                start_new_session=True,
            )

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


def environment(folder: Folder) -> dict[str, str]:
    """What the SuperLink and the ServerApps that it starts are told: nobody is called home to."""
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
            # Otherwise every request is a line in the log.
            "FLWR_LOG_LEVEL": "WARNING",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": _POLL_S,
            "NO_PROXY": unproxied,
            "no_proxy": unproxied,
            # The SuperLink starts flower-superexec by its name.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")]),
        }
    )


def _command(folder: Folder) -> list[str]:
    host, port = folder.config.listens
    options = {
        "--host": host,
        "--port": str(port),
        "--ssl-certfile": str(folder.certificate),
        "--ssl-keyfile": str(folder.certificate_key),
        "--ssl-ca-certfile": str(folder.ca),
        "--database": str(folder.state / "superlink.sqlite"),
    }
    code = "from server.link import serve; serve()"
    words = [word for option in options.items() for word in option]
    flags = ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
    return [sys.executable, "-P", "-c", code, str(os.getpid()), *words, *flags]


def serve() -> None:
    """Be `flower-superlink` until the parent, whose number is the first argument, is gone."""
    from flwr.supercore.app_utils import start_parent_process_monitor  # noqa: PLC0415
    from flwr.superlink.cli.flower_superlink import flower_superlink  # noqa: PLC0415

    start_parent_process_monitor(int(sys.argv.pop(1)))
    flower_superlink()
