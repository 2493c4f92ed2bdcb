"""Flower's Control API as the coordinator uses it: who is connected, and which runs there are.

It is asked on this machine only, over TLS and against the consortium's own authority, and answers
whoever knows the running SuperLink's secret (`server.superlink.Guard`). No other module asks it.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import httpx
from flwr.cli.build import build_fab_from_files
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

from protocol.bundle import Signed, pyproject
from protocol.errors import BusyError
from protocol.keyfile import load_secret
from protocol.roster import split_address
from server.config import Folder

_NOT_FOUND, _IN_USE = 404, 412
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, never bound


class LinkError(BusyError):
    """The SuperLink did not answer, or not as asked; trying again later may help."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A hospital's node as the SuperLink sees it.

    Args:
        node: Flower's identifier.
        key: Public key in PEM.
        online: Whether its heartbeat is fresh.
    """

    node: int
    key: str
    online: bool


@dataclass(frozen=True, kw_only=True)
class Run:
    """One Flower run.

    Args:
        run: Flower's number.
        over: Whether its ServerApp can act no longer.
        ending: How it ended, for the administrator.
    """

    run: int
    over: bool
    ending: str


class Control:
    """The SuperLink's Control API. Close it, or use it as a context manager.

    Args:
        folder: The coordinator's folder; its SuperLink was started.

    Raises:
        InputError: There is no secret, or others may read it.
    """

    def __init__(self, folder: Folder) -> None:
        self._client = ControlHttpClient.from_server_address(
            server_address=local_address(folder.config.bind),
            insecure=False,
            root_certificates=folder.ca.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr CLI"),
                _Bearer(load_secret(folder.superlink_secret).decode("ascii")),
            ],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End its connections."""
        self._client.close()

    def nodes(self) -> tuple[Node, ...]:
        """Every registered node.

        Raises:
            LinkError: The SuperLink did not answer.
        """
        with translated("list nodes"):
            response = self._client.ListNodes(ListNodesRequest())
        return tuple(
            Node(
                node=node.node_id,
                key=node.public_key.decode("ascii", "replace"),
                online=node.status == "online",
            )
            for node in response.nodes_info
            if not node.unregistered_at
        )

    def register(self, name: str, key: str) -> None:
        """Let the node with this key in; a key that is in already stays so.

        Args:
            name: The hospital's name.
            key: Its node's public key in PEM.

        Raises:
            LinkError: The SuperLink refused it or did not answer.
        """
        request = RegisterNodeRequest(public_key=key.encode(), name=name)
        with translated("register a node", allowed=_IN_USE):
            self._client.RegisterNode(request)

    def unregister(self, node: int) -> None:
        """Let a node in no longer.

        Raises:
            LinkError: The SuperLink did not answer.
        """
        with translated("unregister a node", allowed=_NOT_FOUND):
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node))

    def submit(self, signed: Signed) -> int:
        """Start a Flower run of a job or delivery; the bundle holds what was signed and no code.

        Returns:
            Flower's number of the run.

        Raises:
            LinkError: The SuperLink refused it or did not answer.
        """
        bundle = build_bundle(signed)
        fab = Fab(hash_str=hashlib.sha256(bundle).hexdigest(), content=bundle)
        with translated("start a run"):
            response = self._client.StartRun(StartRunRequest(fab=fab))
        if not response.HasField("run_id"):
            raise LinkError("the SuperLink started no run")
        return int(response.run_id)

    def run(self, run: int) -> Run:
        """How a run fares; one that the SuperLink does not know is over.

        Raises:
            LinkError: The SuperLink did not answer.
        """
        with translated("list runs", allowed=_NOT_FOUND):
            found = self._client.ListRuns(ListRunsRequest(run_id=run)).run_dict
            if run in found:
                status = found[run].status
                ending = ": ".join(part for part in (status.sub_status, status.details) if part)
                return Run(run=run, over=status.status == "finished", ending=ending)
        return Run(run=run, over=True, ending="unknown")

    def stop_run(self, run: int) -> None:
        """End a run's ServerApp; one that is over stays so.

        Raises:
            LinkError: The SuperLink did not answer.
        """
        with translated("stop a run", allowed=_NOT_FOUND):
            if not self.run(run).over:
                self._client.StopRun(StopRunRequest(run_id=run))


def build_bundle(signed: Signed) -> bytes:
    """The app bundle of a job or delivery, as Flower's own builder makes it."""
    with warnings.catch_warnings():
        # The builder uses a name of its file patterns that goes out of use.
        warnings.simplefilter("ignore", DeprecationWarning)
        return build_fab_from_files({"pyproject.toml": pyproject(signed).encode()})[0]


def local_address(bind: str) -> str:
    """Where this machine reaches what is bound there.

    >>> local_address("0.0.0.0:8000"), local_address("[::1]:8000")
    ('127.0.0.1:8000', '[::1]:8000')
    """
    host, port = split_address(bind)
    host = _EVERYWHERE.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Bearer:
    """Says the secret with every request."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        context.request.headers["Authorization"] = f"Bearer {self._secret}"
        return call_next(context)


@contextmanager
def translated(what: str, *, allowed: int = 0) -> Iterator[None]:
    """Failures of a request as one error; an answer with the status `allowed` is none.

    Args:
        what: What the SuperLink was asked to do.
        allowed: A status.

    Raises:
        LinkError: The SuperLink did not answer, or refused.
    """
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status != allowed:
            raise LinkError(
                f"the SuperLink refused to {what}",
                found=f"status {status}",
                remedy="superlink.log in the state folder says more",
            ) from None
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise LinkError(
            f"the SuperLink was asked to {what} and did not answer", found=type(error).__name__
        ) from None
