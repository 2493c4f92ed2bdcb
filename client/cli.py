"""`fedward client`: what a hospital's administrator types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import typer

from fedward import LazyGroup, Mount

_TRUST = "Keys and trust"


class _Client(LazyGroup):
    mounts: ClassVar[Mapping[str, Mount]] = {
        "up": Mount("client.up_command:up", "Run the node until it is told to end.", "Node"),
        "status": Mount("client.status_command:status", "Show how the node stands.", "Node"),
        "pause": Mount("client.node_commands:pause", "Take no new jobs.", "Node"),
        "resume": Mount("client.node_commands:resume", "Take new jobs again.", "Node"),
        "jobs": Mount("client.jobs_command:app", "Decide on jobs that asked.", "Node"),
        "leave": Mount("client.node_commands:leave", "Stop a job here, or all, for good.", "Node"),
        "init": Mount("client.init_command:init", "Make keys, a configuration, the card.", _TRUST),
        "trust": Mount("client.trust_command:trust", "Compare fingerprints, pin a roster.", _TRUST),
        "check": Mount("client.check_command:check", "Try everything that a node needs.", _TRUST),
        "consider": Mount(
            "client.consider_command:consider", "What the node would answer to a job.", _TRUST
        ),
        "rotate": Mount("client.trust_command:rotate", "Make new keys for this hospital.", _TRUST),
        "data-check": Mount(
            "client.data_check:data_check", "Read the records as a job's schema would."
        ),
        "models": Mount("client.models_command:app", "Verify models, and choose which is in use."),
        "ledger": Mount("client.ledger_view:ledger", "Show what has been spent of the budget."),
    }


app = typer.Typer(cls=_Client, add_completion=False, no_args_is_help=True)


@app.callback()
def _client() -> None:
    """Run a hospital's node: keys, trust, records, budget."""
