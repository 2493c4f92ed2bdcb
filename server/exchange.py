"""Packets to and from hospitals over Flower's Grid: all that is known here of its records.

Messages are pushed and answers pulled one by one, so that of all the updates of an attempt one is
in memory at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from protocol.errors import IntegrityError
from protocol.messages import Packet
from protocol.records import parts_of, to_record

NODE_POLL_S = 0.5


@dataclass(frozen=True)
class Arrival:
    """One node's answer: a packet, or None when it failed, sent garbage or stayed silent."""

    node: int
    packet: Packet | None


@dataclass
class Pending:
    """Packets that were sent and not answered yet.

    Args:
        sent: Node by message.
        end: When their nodes count as silent, by `time.monotonic`.
    """

    sent: dict[str, int]
    end: float

    @property
    def nodes(self) -> tuple[int, ...]:
        """Nodes that may still answer."""
        return tuple(self.sent.values())


class HaltedError(Exception):
    """Somebody asked for the job's end while answers were waited for; no fault of anybody."""


class Exchange:
    """Sends packets and hands over answers as they arrive.

    Args:
        grid: Flower's view of the connected nodes.
        poll_s: Pause between two looks for answers; 0 where the grid answers at once.
        halted: Whether to give up waiting.
    """

    def __init__(
        self, grid: Grid, *, poll_s: float, halted: Callable[[], bool] = lambda: False
    ) -> None:
        self._grid = grid
        self._poll_s = poll_s
        self.halted = halted

    def nodes(self) -> tuple[int, ...]:
        """Identifiers of the connected nodes."""
        return tuple(sorted(self._grid.get_node_ids()))

    def check(self) -> None:
        """Go on, unless somebody asked for the job's end.

        Raises:
            HaltedError: Somebody did.
        """
        if self.halted():
            raise HaltedError

    def pause(self, longest_s: float) -> None:
        """Wait before looking for nodes again.

        Raises:
            HaltedError: Somebody asked for the job's end.
        """
        self.check()
        time.sleep(max(0.0, min(NODE_POLL_S, longest_s)))

    def ask(
        self, packets: Mapping[int, Packet], take: Callable[[Arrival], None], *, timeout_s: float
    ) -> None:
        """Send one packet to each node and hand over each answer when it comes.

        Args:
            packets: Packet by node.
            take: Gets one arrival for each node; nothing keeps an answer that it does not keep.
            timeout_s: Nodes that have not answered by then are handed over without a packet.

        Raises:
            HaltedError: Somebody asked for the job's end.
        """
        pending = self.send(packets, take, timeout_s=timeout_s)
        while pending.nodes:
            self.look(pending, take)
            if pending.nodes and self._poll_s:
                time.sleep(self._poll_s)

    def send(
        self, packets: Mapping[int, Packet], take: Callable[[Arrival], None], *, timeout_s: float
    ) -> Pending:
        """Send one packet to each node and wait for none: `look` hands over what comes.

        Args:
            packets: Packet by node.
            take: Gets an arrival without a packet for each node that has gone.
            timeout_s: How long answers are taken.
        """
        sent = self._push(packets, timeout_s)
        for node in set(packets) - set(sent.values()):
            take(Arrival(node, None))
        return Pending(sent=sent, end=time.monotonic() + timeout_s)

    def look(self, pending: Pending, take: Callable[[Arrival], None]) -> None:
        """Hand over the answers that have come, and in the end who gave none.

        Raises:
            HaltedError: Somebody asked for the job's end.
        """
        for message, node in tuple(pending.sent.items()):
            self.check()
            if self._pull(message, node, take):
                del pending.sent[message]
        if time.monotonic() >= pending.end:
            for node in pending.nodes:
                take(Arrival(node, None))
            pending.sent.clear()

    def _push(self, packets: Mapping[int, Packet], timeout_s: float) -> dict[str, int]:
        """Node by message; of a node that has gone Flower takes none."""
        sent = {}
        for node, packet in packets.items():
            message = self._grid.create_message(
                content=to_record(packet.to_wire()),
                message_type=MessageType.TRAIN,
                dst_node_id=node,
                group_id="",
                ttl=timeout_s,
            )
            taken = set(self._grid.push_messages([message]))
            # A message has its identifier since it was pushed.
            if message.metadata.message_id in taken:
                sent[message.metadata.message_id] = node
        return sent

    def _pull(self, message: str, node: int, take: Callable[[Arrival], None]) -> bool:
        """Look for one answer; what came is in this frame alone and goes with it."""
        for reply in self._grid.pull_messages([message]):
            take(Arrival(node, _packet(reply)))
            return True
        return False


def _packet(reply: Message) -> Packet | None:
    if reply.has_error():
        return None
    try:
        return Packet.from_wire(parts_of(reply.content))
    except IntegrityError:
        return None
