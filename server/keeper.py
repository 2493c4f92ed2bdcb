"""Where a running job is kept.

On a coordinator that is a `server.job_folder.JobFolder`; in a simulation it is nowhere, since a job
lives no longer than the process there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from server.checkpoint import Checkpoint
from server.launch import Event


class Keeper(Protocol):
    """What outlasts a coordinator's process; every method may raise FedwardError."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where the job stands, None where it has not begun."""

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep where the job stands."""

    def events(self) -> tuple[Event, ...]:
        """What happened so far."""

    def append(self, event: Event) -> None:
        """Keep an event."""

    def save_heads(self, heads: Mapping[str, bytes]) -> None:
        """Keep what hospitals said of their ledgers."""

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked for the job's end."""


class Nowhere:
    """A keeper of a job that nobody will resume."""

    checkpoint: Checkpoint | None = None
    stop_requested = False

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """See Keeper."""

    def events(self) -> tuple[Event, ...]:
        """See Keeper."""
        return ()

    def append(self, event: Event) -> None:
        """See Keeper."""

    def save_heads(self, heads: Mapping[str, bytes]) -> None:
        """See Keeper."""
