"""The Flower ClientApp: packets in and out of Flower's records, and nothing else.

What answers is installed code alone; which hospital answers is decided by who builds the app.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.member import Member
from protocol.messages import Packet

RECORD = "packet"


def make_app(open_member: Callable[[Context], AbstractContextManager[Member]]) -> ClientApp:
    """A ClientApp whose one handler lets a member answer.

    Args:
        open_member: Opens the hospital that a context belongs to, with its sessions, for as long
            as one answer takes.
    """
    app = ClientApp()

    @app.train()
    def answer(message: Message, context: Context) -> Message:
        arrays = message.content.array_records[RECORD]
        packet = Packet.from_wire({name: array.data for name, array in arrays.items()})
        with open_member(context) as member:
            reply = member.answer(packet)
        content = {
            name: Array(dtype="uint8", shape=(len(data),), stype="bytes", data=data)
            for name, data in reply.to_wire().items()
        }
        return Message(RecordDict({RECORD: ArrayRecord(content)}), reply_to=message)

    return app
