"""Jobs and deliveries that asked to run here: what is remembered of them, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from protocol.deliveries import Delivery
from protocol.errors import Code, RefusalError
from protocol.jobs import Job

Decision = Literal["waiting", "approved", "denied", "left"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
GRACE = timedelta(days=7)
"""How long after its expiry a document is still shown, and a clock may be wrong."""
MOST_UNDECIDED = 1000
"""So many are remembered on which nobody decided."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A job as it came first.

    Args:
        digest: The job's identity.
        name: Its name.
        summary: What an administrator decides by.
        decision: What holds until somebody decides.
        seen: RFC 3339 time when it came first.
        expires: RFC 3339 time after which it cannot begin.
    """

    digest: str
    name: str
    summary: Mapping[str, Any]
    decision: Decision
    seen: str
    expires: str


@dataclass(frozen=True, kw_only=True)
class Known:
    """A job that asked to run here, and what became of it.

    Args:
        asked: The job as it came first.
        decision: `waiting` for the administrator, `approved`, `denied`, or `left`: stopped here by
            the hospital for good.
        begun: Whether this node enrolled, or was ready for the delivery.
        decided: Whether it was an administrator who decided.
    """

    asked: Asked
    decision: Decision
    begun: bool
    decided: bool = False

    @property
    def digest(self) -> str:
        """The job's identity."""
        return self.asked.digest

    @property
    def name(self) -> str:
        """The job's name."""
        return self.asked.name

    @property
    def held(self) -> bool:
        """Whether this hospital may hold something of it: budget, or a session; of a job alone."""
        return self.begun and "recipients" not in self.asked.summary


def forgettable(known: Iterable[Known], now: datetime) -> tuple[str, ...]:
    """Digests of what need not be remembered any longer.

    Guarantee: nothing is forgotten by which a document could do what it could not before.
    - A job that began stays: the ledger may hold budget for it, which `fedward client leave` gives
      back. There are as many as policy and budget allowed, and the ledger has a row for each.
    - What else has expired goes after `GRACE`, denied or not: `check_unknown` refuses it if it
      comes again, and it is not remembered then.
    - Of what nobody decided on, the `MOST_UNDECIDED` stay that came last. An older one that comes
      again is asked as when it came first; there is no answer that it could evade.
    What keeps a release from being made twice is in the ledger, and what a stored model is
    confirmed by lies beside it: neither is looked up here.

    Args:
        known: All that is remembered.
        now: Present time with a time zone.
    """
    spare = sorted((one for one in known if not one.held), key=lambda one: one.asked.seen)
    expired = {one.digest for one in spare if _over(one.asked.expires, now - GRACE)}
    undecided = [one.digest for one in spare if not one.decided and one.digest not in expired]
    return (*expired, *undecided[: max(0, len(undecided) - MOST_UNDECIDED)])


def check_unknown(about: Job | Delivery, now: datetime) -> None:
    """Whether a document that is not remembered may be.

    Raises:
        RefusalError: It has expired: it was decided on before, or comes too late.
    """
    if _over(about.expires, now):
        what = "delivery" if isinstance(about, Delivery) else "job"
        raise RefusalError(
            Code.EXPIRED, f"the {what} has expired, and is not known here", found=about.expires
        )


def _over(expires: str, now: datetime) -> bool:
    """Whether a time has passed, or is none."""
    try:
        end = datetime.fromisoformat(expires)
    except ValueError:
        return True
    return end.tzinfo is None or now >= end


def summarise(job: Job) -> dict[str, Any]:
    """What an administrator decides on a job by."""
    privacy = job.privacy
    private = privacy.mode != "none"
    return {
        "task": job.task.name,
        "strategy": job.strategy.name,
        "dataset": job.dataset,
        "hospitals": len(job.sites),
        "rounds": job.training.rounds,
        "mode": privacy.mode,
        "unit": privacy.unit,
        "epsilon": privacy.epsilon if private else None,
        "epsilon_worst": privacy.epsilon_worst if private else None,
        "delta": privacy.delta if private else None,
        "intended_use": job.intended_use,
    }


def summarise_delivery(delivery: Delivery) -> dict[str, Any]:
    """What an administrator decides on a delivery by; the same keys as a job's, and its own."""
    return {
        "task": "delivery",
        "strategy": "",
        "dataset": "",
        "hospitals": len(delivery.holders) + len(delivery.recipients),
        "rounds": 0,
        "mode": "",
        "unit": "",
        "epsilon": None,
        "epsilon_worst": None,
        "delta": None,
        "intended_use": "",
        "model": delivery.name,
        "job": delivery.job,
        "holders": list(delivery.holders),
        "recipients": list(delivery.recipients),
    }
