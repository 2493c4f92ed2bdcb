"""Flower's Grid in memory: messages go straight to the ClientApp of a virtual hospital.

The apps are the very ones that run over the network; only the way between them is short. Hospitals
answer one after another, in the order of the messages, in this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from flwr.app import DEFAULT_TTL, Context, Error, Message, RecordDict
from flwr.app.metadata import Metadata
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run

RUN_ID = 1
SERVER_NODE = 1
FAILED = 1


class InlineGrid(Grid):
    """A grid whose nodes are contexts of one ClientApp.

    Args:
        app: What answers.
        hospitals: Number of virtual hospitals; node i is hospital i - 1.
        drop: Decides whether a message to a hospital is lost: (hospital, how many it got before).
        keep: Whether every answer stays in `seen`, for tests that look at all of them.
    """

    def __init__(
        self,
        app: ClientApp,
        hospitals: int,
        *,
        drop: Callable[[int, int], bool] = lambda _, __: False,
        keep: bool = True,
    ) -> None:
        self._app = app
        self._drop = drop
        self._keep = keep
        self._contexts = {
            _node(index): Context(
                run_id=RUN_ID,
                node_id=_node(index),
                node_config={"partition-id": index, "num-partitions": hospitals},
                state=RecordDict(),
                run_config={},
            )
            for index in range(hospitals)
        }
        self._received = dict.fromkeys(self._contexts, 0)
        self._waiting: dict[str, Message] = {}
        self._sent = 0
        self.seen: list[Message] = []

    def set_run(self, run: Run) -> None:
        """There is one run only."""
        del run

    @property
    def run(self) -> Run:
        """There is no SuperLink that would know of a run."""
        raise NotImplementedError("the inline grid keeps no run")

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See Grid."""
        self._sent += 1
        metadata = Metadata(
            run_id=RUN_ID,
            message_id=str(self._sent),
            src_node_id=SERVER_NODE,
            dst_node_id=dst_node_id,
            reply_to_message_id="",
            group_id=group_id,
            created_at=time.time(),
            ttl=DEFAULT_TTL if ttl is None else ttl,
            message_type=message_type,
        )
        # Flower's typed constructors build a message only inside a run of its own.
        return cast("Message", cast("Any", Message)(content=content, metadata=metadata))

    def get_node_ids(self) -> Iterable[int]:
        """See Grid."""
        return tuple(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Grid; nothing runs before the answers are pulled."""
        pushed = {message.metadata.message_id: message for message in messages}
        self._waiting.update(pushed)
        return tuple(pushed)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See Grid; yields each answer as soon as its hospital has made it."""
        for identifier in list(message_ids):
            message = self._waiting.pop(identifier, None)
            if message is not None:
                yield self._answer(message)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See Grid."""
        del timeout
        return list(self.pull_messages(self.push_messages(messages)))

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        before = self._received[node]
        self._received[node] += 1
        if self._drop(node - _node(0), before):
            return Message(Error(FAILED, "the hospital did not answer"), reply_to=message)
        reply = self._app(message, self._contexts[node])
        if self._keep:
            self.seen.append(reply)
        return reply


def run_inline(server: ServerApp, grid: InlineGrid) -> None:
    """Run a ServerApp to its end over an inline grid."""
    context = Context(
        run_id=RUN_ID, node_id=SERVER_NODE, node_config={}, state=RecordDict(), run_config={}
    )
    server(grid, context)


def _node(index: int) -> int:
    return SERVER_NODE + 1 + index
