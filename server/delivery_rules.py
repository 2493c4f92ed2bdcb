"""What a delivery needs next, and how it ends: pure functions of what hospitals answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from protocol.deliveries import Delivery, quorum_of
from protocol.errors import Code
from protocol.jobs import Job

PASSING = frozenset({Code.WAITING, Code.BUSY, Code.DEADLINE})
"""Refusals that may be another answer later."""
_RETRIED = frozenset({Code.INTEGRITY, Code.SIGNATURE, Code.FAILED})
"""What a recipient may say of one holder's letters and not of another's."""
_ANEW = PASSING | {Code.SESSION, Code.REPLAYED}
"""What a recipient may say of letters that came too late for its keys."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a delivery is held against.

    Args:
        holders: Hospitals that are asked to hand the model on, in the delivery's order.
        recipients: Hospitals that are to get it.
        quorum: How many holders must vouch for it by the job; a recipient may want more.
    """

    holders: tuple[str, ...]
    recipients: tuple[str, ...]
    quorum: int

    @classmethod
    def of(cls, delivery: Delivery, job: Job) -> Rules:
        """The rules of a delivery of this job's model."""
        return cls(holders=delivery.holders, recipients=delivery.recipients, quorum=quorum_of(job))


@dataclass(frozen=True, kw_only=True)
class Want:
    """What a recipient believes by, as it said when it was ready.

    Args:
        needed: How many holders must say the same.
        vouchers: Holders whose word counts there.
    """

    needed: int
    vouchers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What hospitals answered so far.

    Args:
        ready: Signed ephemeral keys of recipients, of the present attempt.
        wants: What each recipient that was ready once believes by.
        received: Recipients that have the model.
        willing: Holders that will hand it on.
        refused: The last refusal of each other hospital.
        out: Those of them that are not asked again.
        tried: How often each recipient could not use its letters.
    """

    ready: Mapping[str, bytes] = field(default_factory=dict)
    wants: Mapping[str, Want] = field(default_factory=dict)
    received: frozenset[str] = frozenset()
    willing: frozenset[str] = frozenset()
    refused: Mapping[str, Code] = field(default_factory=dict)
    out: frozenset[str] = frozenset()
    tried: Mapping[str, int] = field(default_factory=dict)

    def unanswered(self, rules: Rules) -> tuple[str, ...]:
        """Hospitals that are to be asked: neither done, nor ready, nor out for good."""
        done = {*self.ready, *self.received, *self.willing, *self.out}
        return tuple(name for name in (*rules.recipients, *rules.holders) if name not in done)

    def left(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of them that have not refused for good."""
        return tuple(name for name in names if name not in self.out)

    def refuse(self, name: str, code: Code) -> Standing:
        """The same after a refusal; whoever does not wait for something is not asked again."""
        return replace(
            self,
            willing=self.willing - {name},
            refused={**self.refused, name: code},
            out=self.out if code in PASSING else self.out | {name},
        )

    def accept(
        self,
        rules: Rules,
        name: str,
        *,
        holds: bool,
        member: bytes | None,
        want: Want | None = None,
    ) -> Standing:
        """The same after a yes."""
        refused = {one: code for one, code in self.refused.items() if one != name}
        after = replace(self, refused=refused)
        if name in rules.holders:
            return replace(after, willing=self.willing | {name})
        if holds:
            return replace(after, received=self.received | {name})
        wants = self.wants if want is None else {**self.wants, name: want}
        return replace(after, ready={**self.ready, name: member or b""}, wants=wants)

    def disbelieve(self, rules: Rules, name: str, code: Code) -> Standing:
        """The same after a recipient could not use its letters: others may write better ones."""
        count = self.tried.get(name, 0) + (code in _RETRIED)
        again = code in _ANEW or (code in _RETRIED and count < len(rules.holders))
        return replace(
            self,
            refused={**self.refused, name: code},
            out=self.out if again else self.out | {name},
            tried={**self.tried, name: count},
        )


def can_go(rules: Rules, standing: Standing) -> bool:
    """Whether somebody waits for letters and enough will write them."""
    return bool(served(rules, standing, standing.willing))


def served(rules: Rules, standing: Standing, holders: Iterable[str]) -> tuple[str, ...]:
    """Recipients that wait for letters and could believe what these holders write."""
    holders = tuple(holders)
    return tuple(name for name in standing.ready if not _lacks(rules, standing, name, holders))


def sender(rules: Rules, standing: Standing, attempt: int) -> str:
    """Whose letters have the model: another holder's in each attempt.

    It is one whose word counts wherever letters go, if there is such a holder.
    """
    willing = [name for name in rules.holders if name in standing.willing]
    wants = [
        standing.wants[name] for name in served(rules, standing, willing) if name in standing.wants
    ]
    trusted = [name for name in willing if all(name in want.vouchers for want in wants)]
    chosen = trusted or willing
    return chosen[(attempt - 1) % len(chosen)]


def ending(rules: Rules, standing: Standing) -> tuple[str, str] | None:
    """Status and reason of a delivery that is over; None while something can still come.

    >>> rules = Rules(holders=("north", "south"), recipients=("west",), quorum=2)
    >>> ending(rules, Standing(received=frozenset({"west"})))
    ('completed', '')
    >>> ending(rules, Standing().refuse("south", Code.POLICY))[1]
    'too few hospitals can vouch for the model: 2 are needed and 1 is left; south: policy'
    """
    open_ = standing.left(one for one in rules.recipients if one not in standing.received)
    if not open_:
        missing = [one for one in rules.recipients if one not in standing.received]
        return ("failed", _told(standing, missing)) if missing else ("completed", "")
    left = standing.left(rules.holders)
    problems = [_lacks(rules, standing, name, left) for name in open_]
    if all(problems):
        told = _told(standing, rules.holders)
        return "failed", "; ".join(part for part in (*dict.fromkeys(problems), told) if part)
    return None


def waits_for(rules: Rules, standing: Standing) -> str:
    """Whom a delivery waits for, for people."""
    names = standing.unanswered(rules)
    told = (f"{name} ({standing.refused.get(name, 'not connected')})" for name in names)
    return ", ".join(told)


def _lacks(rules: Rules, standing: Standing, recipient: str, holders: Iterable[str]) -> str:
    """Why a recipient could not believe these holders; empty where it could, as far as is known."""
    want = standing.wants.get(recipient, Want(needed=0, vouchers=rules.holders))
    needed = max(rules.quorum, want.needed)
    count = sum(name in want.vouchers for name in holders)
    if count >= needed:
        return ""
    return (
        f"too few hospitals can vouch for the model: {needed} are needed and "
        f"{count} {'is' if count == 1 else 'are'} left"
    )


def _told(standing: Standing, names: Iterable[str]) -> str:
    refused = standing.refused
    return ", ".join(f"{name}: {refused[name]}" for name in names if name in refused)
