"""What a job's folder says in one line: for status, history, the webhook and estimates."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from protocol.jobs import Job
from server.job_folder import JobFolder
from server.launch import Event, Metrics
from server.run_folder import OUTCOME

# One exchange without an earlier job to go by: a node looks for messages every 3 s, and a small
# model takes about as long again.
EXCHANGE_S = 6.0
# Enrolment, keys, the evaluation of the last model and the end.
FURTHER_EXCHANGES = 4
LINE_BYTES_S = 5e6


@dataclass(frozen=True, kw_only=True)
class Record:
    """One job in figures; all of them are declared, pooled or public.

    Args:
        name: The job's name.
        digest: SHA-256 of the job.
        status: `waiting`, `running`, `completed`, `failed` or `stopped`.
        reason: Why it failed.
        created: When it was signed.
        ended: When it ended, empty before.
        seconds: How long it took, or has taken.
        round: The round that it has reached.
        rounds: Rounds of the whole job.
        sites: Hospitals still in it.
        refusals: Code by hospital that did not take part to the end.
        bytes_up: Bytes of all answers.
        bytes_down: Bytes of all messages.
        epsilon: Under the stated trust; None in mode `none`.
        epsilon_worst: If all others collude; None in mode `none`.
        delta: Delta; None in mode `none`.
        metrics: Pooled metrics, where they are published.
    """

    name: str
    digest: str
    status: str
    reason: str
    created: str
    ended: str
    seconds: float
    round: int
    rounds: int
    sites: tuple[str, ...]
    refusals: Mapping[str, str]
    bytes_up: int
    bytes_down: int
    epsilon: float | None
    epsilon_worst: float | None
    delta: float | None
    metrics: Metrics

    @classmethod
    def of(cls, folder: JobFolder, now: datetime | None = None) -> Record:
        """The figures of a job, under way or ended."""
        job, events, outcome = folder.job, folder.events(), folder.outcome
        begun = datetime.fromisoformat(job.created)
        ended = None if outcome is None else _ended(folder)
        private = job.privacy.mode != "none"
        last = events[-1] if events else None
        return cls(
            name=job.name,
            digest=folder.digest,
            status=outcome.status if outcome else "running" if events else "waiting",
            reason=outcome.reason if outcome else "",
            created=job.created,
            ended=ended.isoformat(timespec="seconds") if ended else "",
            seconds=round(max(0.0, ((ended or now or datetime.now(UTC)) - begun).total_seconds())),
            round=min(max((event.round for event in events), default=0), job.training.rounds),
            rounds=job.training.rounds,
            sites=last.sites if last else (),
            refusals=dict(outcome.refusals) if outcome else {},
            bytes_up=sum(event.bytes_up for event in events),
            bytes_down=sum(event.bytes_down for event in events),
            epsilon=job.privacy.epsilon if private else None,
            epsilon_worst=job.privacy.epsilon_worst if private else None,
            delta=job.privacy.delta if private else None,
            metrics=_metrics(events, outcome.metrics if outcome else {}),
        )

    def to_json(self) -> dict[str, object]:
        """One flat object."""
        return asdict(self)


def expected_seconds(job: Job, upload_bytes: int, ended: Iterable[JobFolder]) -> tuple[float, str]:
    """How long a job will take, and what that is taken from.

    Args:
        job: The job.
        upload_bytes: Ciphertext of one update.
        ended: Earlier jobs of this coordinator.

    Returns:
        Seconds and one clause for people.
    """
    exchanges = job.training.rounds + FURTHER_EXCHANGES
    seen = [
        event.seconds
        for folder in ended
        if folder.job.task == job.task
        for event in folder.events()
        if event.kind == "round"
    ]
    if seen:
        per_round = statistics.median(seen)
        return per_round * exchanges, f"{len(seen)} rounds of earlier jobs with this task"
    moved = 2 * upload_bytes * len(job.sites) / LINE_BYTES_S
    return (
        exchanges * (EXCHANGE_S + moved),
        f"no earlier job with this task; {EXCHANGE_S:.0f} s for one exchange of a small model",
    )


def _ended(folder: JobFolder) -> datetime:
    return datetime.fromtimestamp((folder.path / OUTCOME).stat().st_mtime, UTC)


def _metrics(events: tuple[Event, ...], final: Metrics) -> Metrics:
    """The finished model's, or the last that were released."""
    return final or next((event.metrics for event in reversed(events) if event.metrics), {})
