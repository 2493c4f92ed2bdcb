"""Packets to and from hospitals over Flower's Grid: all that is known here of its records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from protocol.errors import IntegrityError
from protocol.messages import Packet

RECORD = "packet"
NODE_POLL_S = 0.5


@dataclass(frozen=True)
class Arrival:
    """One node's answer: a packet, or None when it failed, sent garbage or stayed silent."""

    node: int
    packet: Packet | None


class Exchange:
    """Sends packets and yields answers as they arrive.

    Args:
        grid: Flower's view of the connected nodes.
        poll_s: Pause between two looks for answers; 0 where the grid answers at once.
    """

    def __init__(self, grid: Grid, *, poll_s: float) -> None:
        self._grid = grid
        self._poll_s = poll_s

    def nodes(
        self, *, at_least: int, wait_s: float, clock: Callable[[], float] = time.monotonic
    ) -> tuple[int, ...]:
        """Identifiers of the connected nodes, once there are enough or the wait is over."""
        end = clock() + wait_s
        while True:
            found = tuple(sorted(self._grid.get_node_ids()))
            if len(found) >= at_least or clock() >= end:
                return found
            time.sleep(min(NODE_POLL_S, wait_s))

    def ask(self, packets: Mapping[int, Packet], *, timeout_s: float) -> Iterator[Arrival]:
        """Send one packet to each node and yield each answer when it comes.

        Args:
            packets: Packet by node.
            timeout_s: Nodes that have not answered by then are yielded without a packet.
        """
        sent = self._push(packets, timeout_s)
        yield from (Arrival(node, None) for node in set(packets) - set(sent.values()))
        end = time.monotonic() + timeout_s
        while sent and time.monotonic() < end:
            for reply in self._grid.pull_messages(list(sent)):
                node = sent.pop(reply.metadata.reply_to_message_id, None)
                if node is not None:
                    yield Arrival(node, _packet(reply))
            if sent and self._poll_s:
                time.sleep(self._poll_s)
        for node in sent.values():
            yield Arrival(node, None)

    def _push(self, packets: Mapping[int, Packet], timeout_s: float) -> dict[str, int]:
        """Node by message; of a node that has gone Flower takes none, and names it or leaves it."""
        messages = [
            self._grid.create_message(
                content=_content(packet),
                message_type=MessageType.TRAIN,
                dst_node_id=node,
                group_id="",
                ttl=timeout_s,
            )
            for node, packet in packets.items()
        ]
        taken = set(self._grid.push_messages(messages))
        # A message has its identifier since it was pushed.
        return {
            message.metadata.message_id: node
            for node, message in zip(packets, messages, strict=True)
            if message.metadata.message_id in taken
        }


def _content(packet: Packet) -> RecordDict:
    arrays = {
        name: Array(dtype="uint8", shape=(len(data),), stype="bytes", data=data)
        for name, data in packet.to_wire().items()
    }
    return RecordDict({RECORD: ArrayRecord(arrays)})


def _packet(reply: Message) -> Packet | None:
    if reply.has_error():
        return None
    try:
        arrays = reply.content.array_records[RECORD]
        return Packet.from_wire({name: array.data for name, array in arrays.items()})
    except (KeyError, IntegrityError):
        return None
