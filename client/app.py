"""The Flower ClientApp: packets in and out of Flower's records, and nothing else.

What answers is installed code alone; which hospital answers is decided by who builds the app.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.member import Member
from protocol.errors import FedwardError
from protocol.messages import Packet
from protocol.records import parts_of, to_record

_LOG = logging.getLogger(__name__)


def make_app(open_member: Callable[[Context], AbstractContextManager[Member]]) -> ClientApp:
    """A ClientApp whose one handler lets a member answer.

    Args:
        open_member: Opens the hospital that a context belongs to, with its sessions, for as long
            as one answer takes.
    """
    app = ClientApp()

    def _answer(message: Message, context: Context) -> Packet:
        packet = Packet.from_wire(parts_of(message.content))
        with open_member(context) as member:
            return member.answer(packet)

    @app.train()
    def answer(message: Message, context: Context) -> Message:
        try:
            reply = _answer(message, context)
        except Exception as error:
            # Flower sends the text of what is raised here to the coordinator.
            _LOG.exception("no answer")
            raise FedwardError("this node could not answer") from error
        return Message(to_record(reply.to_wire()), reply_to=message)

    return app
