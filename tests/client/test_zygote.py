"""What a node imports before any job: all that is installed, whatever is broken among it."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from client import zygote


def test_what_cannot_be_imported_is_named_and_stops_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded: list[str] = []

    class Sound(EntryPoint):
        def load(self) -> None:
            loaded.append(self.name)

    installed = {
        "fedward.tasks": [
            EntryPoint("absent", "no_such_module_anywhere:Task", "fedward.tasks"),
            Sound("sound", "learning.diagnosis:Diagnosis", "fedward.tasks"),
        ],
        "fedward.strategies": [Sound("later", "strategies.fedavg:FedAvg", "fedward.strategies")],
    }
    monkeypatch.setattr(zygote, "entry_points", lambda group: installed[group])

    zygote.preload()

    assert loaded == ["sound", "later"]
    assert "fedward.tasks 'absent' cannot be imported: ModuleNotFoundError" in caplog.text
