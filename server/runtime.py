"""Flower's Runtime API as the coordinator's service uses it: which run waits for somebody.

A SuperLink that isolates its apps starts none: it offers each run to whoever knows its secret. The
service claims a run, and hands its token to a process that carries out the run's job
(`server.assignment`).

Source: `flwr.supercore.superexec` of Flower 1.41.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import (
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient

from protocol.keyfile import load_secret
from server.config import Folder
from server.control import local_address, translated

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
