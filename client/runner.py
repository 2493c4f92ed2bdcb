"""Flower's internal interfaces: the one file that knows them.

A SuperNode that isolates its apps offers tasks at a local address. Whoever holds its secret may
claim one, pull the message, and push a reply; Flower's own runner then installs and imports the
bundle that came along. This one hands message and bundle to the caller as bytes, and runs nothing.

Source: modules `flwr.supernode.runtime`, `flwr.supercore.runtime`, `flwr.supernode` of Flower 1.41.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Context, Error, Message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import context_from_proto
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
)
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from flwr.supernode.runtime.run_clientapp import push_message, push_task_output

from protocol.errors import BusyError
from protocol.records import parts_of, to_record

HEARTBEAT_S = 10.0
"""Flower gives a task up after 60 s without one."""
ARRIVAL_S = 900.0
"""How long a message may take to arrive from the coordinator."""
_ACQUIRE = frozenset({"/flwr.proto.Runtime/AcquireTask"})
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What a task brings: the bundle of its run, and the message's parts by name."""

    fab: bytes
    parts: Mapping[str, bytes]


@dataclass
class _Fates:
    """What became of the messages that a SuperNode brought.

    Args:
        dropped: Identifiers of those whose run ended before the SuperNode could confirm them.
        broken: Whether an answer was handed over in part.
    """

    dropped: set[str] = field(default_factory=set)
    broken: bool = False


class Runtime:
    """The local interface of a running SuperNode.

    Args:
        address: Its host and port.
        secret: What the SuperNode was started with.
    """

    def __init__(self, address: str, secret: bytes) -> None:
        self._address = address
        self._fates = _Fates()
        self._client = _connect(
            address,
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=_ACQUIRE),
        )

    def acquire(self) -> Assignment | None:
        """Claim the next task; None while there is none.

        Raises:
            BusyError: The SuperNode does not answer.
        """
        request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        with _translated():
            response = self._client.AcquireTask(request)
        if not response.token:
            return None
        client = _connect(self._address, RuntimeTokenHttpInterceptor(response.token))
        return Assignment(client, self._fates)

    def drop(self, message: str) -> None:
        """Say that the rest of a message will never arrive, since its run is over.

        Flower keeps the task nevertheless, and would let whoever claims it wait.
        """
        self._fates.dropped.add(message)

    @property
    def is_stale(self) -> bool:
        """Whether the SuperNode will send an answer in the place of another, or wait for ever.

        It sends one answer after each message that it could confirm. Once a message that it could
        not confirm is answered, be it by an error that Flower makes after a minute, that answer
        is sent after the next message, and from then on every answer is one message late. Of an
        answer handed over in part it awaits the rest. Only a new process helps.
        """
        return self._fates.broken or bool(self._fates.dropped)

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


class Assignment:
    """One claimed task, kept alive by a thread of its own. Use it as a context manager.

    Its heartbeats do not depend on what computes the answer: that happens in another process.

    Args:
        client: Speaks to the SuperNode about this task.
        fates: What becomes of messages; others write into it meanwhile.
    """

    def __init__(self, client: RuntimeHttpClient, fates: _Fates) -> None:
        self._client = client
        self._fates = fates
        self._message: Message | None = None
        self._context: Context | None = None
        self._over = threading.Event()
        self.lost = False
        """Whether Flower gave the task up, so that no reply is wanted any more."""
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def __enter__(self) -> Assignment:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()

    def pull(self) -> Request:
        """The message and its bundle.

        Raises:
            BusyError: The SuperNode does not answer, or the run ended before the message was here.
            IntegrityError: The message is none that this release sends.
        """
        with _translated():
            task = self._client.PullTaskInput(PullTaskInputRequest())
            self._context = context_from_proto(task.context)
            message = _pull_message(self._client, self._context, self._fates.dropped)
            self._message = message
        return Request(task.fab.content, parts_of(message.content))

    def reply(self, parts: Mapping[str, bytes]) -> None:
        """Send the answer.

        Raises:
            BusyError: The SuperNode does not answer, or does not want it any more.
        """
        if self._message is not None:
            answer = Message(to_record(parts), reply_to=self._message)
            self._push(answer, SubStatus.COMPLETED, "")

    def fail(self, reason: str) -> None:
        """Tell the coordinator that there is no answer, so that it need not wait.

        Args:
            reason: A constant text; it leaves the hospital.

        Raises:
            BusyError: As `reply` does.
        """
        if self._message is not None:
            error = Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason)
            self._push(Message(error, reply_to=self._message), SubStatus.FAILED, reason)

    def _push(self, message: Message, status: str, details: str) -> None:
        asked = message.metadata.reply_to_message_id
        if self.lost or self._context is None or asked in self._fates.dropped:
            raise BusyError("Flower gave the task up before it was answered")
        try:
            with _translated():
                push_message(self._client, message, self._context)
                push_task_output(self._client, self._context, status, details)
        except BusyError:
            self._fates.broken = True
            raise

    def _beat(self) -> None:
        """Say that the task is alive until it is over; Flower's own way would end the process."""
        while True:
            try:
                alive = self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success
            except httpx.TransportError:
                alive = True  # the SuperNode is slow or restarts; the next reply will show
            except httpx.HTTPStatusError:
                alive = False
            if not alive:
                self.lost = True
                return
            if self._over.wait(HEARTBEAT_S):
                return


def release_node(address: str, ca: bytes, key: ec.EllipticCurvePrivateKey, node: int) -> None:
    """Tell the SuperLink that a node which died is gone, so that it may come back at once.

    Raises:
        BusyError: The SuperLink does not answer, or does not know the node.
    """
    interceptors: list[ProtobufClientInterceptor] = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(key, key.public_key()),
    ]
    with (
        _translated(),
        FleetHttpClient.from_server_address(
            address, insecure=False, root_certificates=ca, interceptors=interceptors
        ) as client,
    ):
        client.DeactivateNode(DeactivateNodeRequest(node_id=node))


def _pull_message(client: RuntimeHttpClient, context: Context, dropped: Collection[str]) -> Message:
    """The task's message.

    A task is offered while its message still arrives from the coordinator. Flower's own function
    looks again after seconds; a small message is there in milliseconds.
    """
    (tree,) = client.PullMessages(PullAppMessagesRequest()).message_object_trees
    node = Node(node_id=context.node_id)
    pull_object = make_pull_object_fn_protobuf(client.PullObject, node, context.run_id)

    def pull(object_id: str) -> bytes:
        if tree.object_id in dropped:
            raise ObjectPullError(object_id, "its run is over")
        return pull_object(object_id)

    message = pull_and_inflate_object_from_tree(
        tree,
        pull,
        make_confirm_message_received_fn_protobuf(
            client.ConfirmMessageReceived, node, context.run_id
        ),
        return_type=Message,
        max_time=ARRIVAL_S,
        max_tries_per_object=None,
        initial_backoff=0.02,
        backoff_cap=0.5,
    )
    # What is inflated does not know its own identifier, which a reply names.
    message.metadata.__dict__["_message_id"] = tree.object_id
    return message


def _connect(address: str, *interceptors: ProtobufClientInterceptor) -> RuntimeHttpClient:
    return RuntimeHttpClient.from_server_address(
        address,
        insecure=True,
        root_certificates=None,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
            *interceptors,
        ],
    )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, ObjectPullError, ObjectPushError, RuntimeError, ValueError) as error:
        _LOG.debug("runtime", exc_info=error)
        raise BusyError("Flower's node does not answer", found=type(error).__name__) from None
