"""`fedward client`: what a hospital's administrator types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import typer

from fedward import LazyGroup, Mount


class _Client(LazyGroup):
    mounts: ClassVar[Mapping[str, Mount]] = {
        "data-check": Mount(
            "client.data_check:data_check", "Read the records as a job's schema would."
        ),
        "ledger": Mount("client.ledger_view:ledger", "Show what has been spent of the budget."),
    }


app = typer.Typer(cls=_Client, add_completion=False, no_args_is_help=True)


@app.callback()
def _client() -> None:
    """Run a hospital's node: keys, trust, records, budget."""
