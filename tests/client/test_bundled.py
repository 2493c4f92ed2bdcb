"""The app that a bundle names refuses, whoever loads it."""

from __future__ import annotations

import importlib

import pytest
from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp

from client.bundled import refuse
from protocol.bundle import CLIENT_APP
from protocol.errors import InputError


def test_the_named_app_only_refuses() -> None:
    module, name = CLIENT_APP.split(":")
    assert isinstance(getattr(importlib.import_module(module), name), ClientApp)
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})

    with pytest.raises(InputError, match="fedward client up"):
        refuse(None, context)  # type: ignore[arg-type]
