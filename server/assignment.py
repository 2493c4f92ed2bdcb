"""Flower's Runtime API as a job's process uses it: the bundle and the grid of the one run it has.

What the run brought along is handed over as bytes; nothing here installs or imports it, as Flower's
own runner would.

Source: `flwr.superlink.runtime` of Flower 1.41.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Self

import httpx
from flwr.common.constant import SubStatus
from flwr.common.serde import run_from_proto
from flwr.proto.runtime_pb2 import (
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from server.config import Folder
from server.control import local_address

HEARTBEAT_S = 10.0
"""Flower gives a run up after 60 s without one."""
_LAST_BEAT_S = 1.0


class Assignment:
    """A claimed run, in the process that carries it out; use it as a context manager.

    Flower interrupts this process, as Ctrl-C would, where the run turns out to be over.

    Args:
        folder: The coordinator's folder.
        token: The claim's.
    """

    def __init__(self, folder: Folder, token: str) -> None:
        self.grid = HttpGrid(
            local_address(folder.config.bind), root_certificates=folder.ca.read_bytes(), token=token
        )
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(_LAST_BEAT_S)
        self.grid.close()

    def pull(self) -> bytes:
        """The bundle that the run brought along; the grid speaks for the run from now on."""
        found = self.grid._runtime_client.PullTaskInput(PullTaskInputRequest())
        # Flower's messages take from here who sends them.
        TaskIdentity.task_id = found.task_id
        TaskIdentity.run_id = found.run.run_id
        TaskIdentity.node_id = found.context.node_id
        self.grid.set_run(run_from_proto(found.run))
        return found.fab.content

    def finish(self) -> None:
        """Say that the run was carried out."""
        done = PushTaskOutputRequest(sub_status=SubStatus.COMPLETED)
        self.grid._runtime_client.PushTaskOutput(done)

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            # One that failed costs nothing, were it not the last.
            with suppress(httpx.HTTPError):
                self.grid._runtime_client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
