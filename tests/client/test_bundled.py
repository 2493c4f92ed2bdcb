"""The app that a bundle names refuses, whoever loads it."""

from __future__ import annotations

import importlib

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from protocol.bundle import CLIENT_APP
from protocol.errors import InputError


def test_the_named_app_only_refuses() -> None:
    module, name = CLIENT_APP.split(":")
    app = getattr(importlib.import_module(module), name)
    assert isinstance(app, ClientApp)
    message = Message(RecordDict(), dst_node_id=1, message_type="train")
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})

    with pytest.raises(InputError, match="fedward client up"):
        app(message, context)
