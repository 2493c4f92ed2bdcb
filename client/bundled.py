"""The ClientApp that a bundle names, and that no node runs.

Flower wants a bundle to name one. A hospital's node polls for messages itself and reads only the
signed job out of the bundle (`client.supervisor`), so this answers only where somebody started
Flower's own SuperNode in its place.
"""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from protocol.errors import InputError

app = ClientApp()


@app.train()
def refuse(message: Message, context: Context) -> Message:
    """Say what should have been started.

    Raises:
        InputError: Always.
    """
    del message, context
    raise InputError(
        "this app answers nothing", remedy="start the hospital's node: fedward client up CONFIG"
    )
