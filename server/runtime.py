"""Flower's Runtime API as the coordinator uses it: which run waits, and the grid of one run.

A SuperLink that isolates its apps starts none: it offers each run to whoever knows its secret. The
coordinator claims a run, and hands its token to a process that carries out the run's job. What the
run brought along is handed over as bytes; nothing here installs or imports it, as Flower's own
runner would.

Source: `flwr.supercore.superexec` and `flwr.superlink.runtime` of Flower 1.41.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Self

from flwr.common.constant import SubStatus
from flwr.common.serde import run_from_proto
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import (
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from protocol.keyfile import load_secret
from server.config import Folder
from server.control import local_address, translated

HEARTBEAT_S = 10.0
"""Flower gives a run up after 60 s without one."""
_ACQUIRE = frozenset({"/flwr.proto.Runtime/AcquireTask"})


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A run that was claimed.

    Args:
        run: Flower's number.
        token: Lets its holder act in the run's name.
    """

    run: int
    token: str = field(repr=False)


class Runtime:
    """The runs that wait for somebody to carry them out.

    Args:
        folder: The coordinator's folder.
    """

    def __init__(self, folder: Folder) -> None:
        secret = load_secret(folder.superlink_secret)
        self._client = RuntimeHttpClient.from_server_address(
            server_address=local_address(folder.config.bind),
            insecure=False,
            root_certificates=folder.ca.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperExec"),
                SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=_ACQUIRE),
            ],
        )

    def claim(self) -> Claim | None:
        """The oldest run that waits, None where none does.

        Raises:
            LinkError: The SuperLink did not answer.
        """
        request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        with translated("hand over a run"):
            found = self._client.AcquireTask(request)
        return Claim(run=found.task.run_id, token=found.token) if found.token else None

    def close(self) -> None:
        """End its connections."""
        self._client.close()


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

    def __enter__(self) -> Self:
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
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
            self.grid._runtime_client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
