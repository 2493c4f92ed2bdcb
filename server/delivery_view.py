"""Deliveries as people and programs see them: records, a table, and a line for each event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from rich.table import Table

from server.delivery_folder import DeliveryFolder
from server.launch import Event
from server.run_folder import OUTCOME
from server.view import duration, painted, plain_table, size


@dataclass(frozen=True, kw_only=True)
class DeliveryRecord:
    """One delivery in figures.

    Args:
        name: The model's name.
        digest: SHA-256 of the delivery.
        job: SHA-256 of the job that made the model.
        status: `waiting`, `running`, `completed`, `failed` or `stopped`.
        reason: Why it was not completed; while it goes on, what it waits for.
        created: When it was signed.
        ended: When it ended, empty before.
        seconds: How long it took, or has taken.
        holders: Hospitals that are asked to hand the model on.
        recipients: Hospitals that are to get it.
        received: Those that have it.
        refusals: Code by hospital.
        bytes_up: Bytes of all answers.
        bytes_down: Bytes of all messages.
    """

    name: str
    digest: str
    job: str
    status: str
    reason: str
    created: str
    ended: str
    seconds: float
    holders: tuple[str, ...]
    recipients: tuple[str, ...]
    received: tuple[str, ...]
    refusals: Mapping[str, str]
    bytes_up: int
    bytes_down: int

    @classmethod
    def of(cls, folder: DeliveryFolder) -> DeliveryRecord:
        """The figures of a delivery, under way or ended."""
        delivery, events, outcome = folder.delivery, folder.events(), folder.outcome
        last = events[-1] if events else None
        ended = None
        if outcome is not None:
            ended = datetime.fromtimestamp((folder.path / OUTCOME).stat().st_mtime, UTC)
        spent = (ended or datetime.now(UTC)) - datetime.fromisoformat(delivery.created)
        return cls(
            name=delivery.name,
            digest=folder.digest,
            job=delivery.job,
            status=outcome.status if outcome else "running" if events else "waiting",
            reason=outcome.reason if outcome else last.detail if last else "",
            created=delivery.created,
            ended=ended.isoformat(timespec="seconds") if ended else "",
            seconds=round(max(0.0, spent.total_seconds())),
            holders=delivery.holders,
            recipients=delivery.recipients,
            received=outcome.received if outcome else last.sites if last else (),
            refusals=dict(outcome.refusals if outcome else last.lost if last else {}),
            bytes_up=sum(event.bytes_up for event in events),
            bytes_down=sum(event.bytes_down for event in events),
        )

    def said(self) -> dict[str, object]:
        """One flat object."""
        return asdict(self)

    def to_json(self) -> dict[str, object]:
        """The same, with a kind that tells it from a job."""
        return {"kind": "delivery", **self.said()}


def deliveries_table(records: Iterable[DeliveryRecord], title: str) -> Table:
    """One line for each delivery, and why it failed below them all; fits 80 columns."""
    records = tuple(records)
    reasons = [f"{one.name} {one.digest[:8]}: {one.reason}" for one in records if one.reason]
    table = plain_table(title, "\n".join(reasons))
    table.add_column("model", overflow="fold")
    table.add_column("digest", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("to", overflow="fold")
    for column in ("have it", "holders", "time", "moved"):
        table.add_column(column, justify="right", no_wrap=True)
    for record in records:
        table.add_row(
            record.name,
            record.digest[:8],
            painted(record.status),
            ", ".join(record.recipients),
            f"{len(record.received)}/{len(record.recipients)}",
            str(len(record.holders)),
            duration(record.seconds),
            size(record.bytes_up + record.bytes_down),
        )
    return table


def delivery_line(event: Event) -> str:
    """One event of a delivery for a log, a pipe or a terminal."""
    parts = [f"{event.kind:<11}", f"attempt {event.attempt:>2}", f"{event.seconds:6.1f} s"]
    parts += [f"up {size(event.bytes_up):>8}", f"down {size(event.bytes_down):>8}", event.detail]
    return "  ".join(parts).rstrip()
