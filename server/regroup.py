"""Whom a job goes on with, from which state, and in which epoch: pure decisions of recovery.

A job goes on in its epoch as long as every member of the cohort is there with its keys. Otherwise
whoever can still read the last sum gets it first, then a new epoch begins from the latest state
that enough members hold; the others take that state over from one of them.
See docs/adr/0008-recovery.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from protocol.errors import Code
from server.terms import Attempt, Enrol, MakeKeys, Rules, Share, State, Stop

LOST = (Code.DEADLINE, Code.SESSION, Code.COHORT, Code.BUSY)
"""Codes of a hospital that may come back: it was silent, restarted, or busy."""

MAX_LOSSES = 2
"""A hospital that was lost so often is asked again only where the job cannot go on without it."""


def lose(state: State, codes: Mapping[str, Code | None]) -> State:
    """The state without these hospitals; a code of None means that it is still there."""
    gone = {site: code for site, code in codes.items() if code is not None}
    return replace(
        state,
        members=tuple(site for site in state.members if site not in gone),
        keyed=tuple(site for site in state.keyed if site not in gone),
        measured=tuple(site for site in state.measured if site not in gone),
        lost={**state.lost, **{site: str(code) for site, code in gone.items()}},
        losses={**state.losses, **{site: state.losses.get(site, 0) + 1 for site in gone}},
    )


def absent(rules: Rules, state: State) -> tuple[str, ...]:
    """Hospitals that are lost and may come back; new ones never join a job that has begun."""
    return tuple(
        site
        for site in rules.sites
        if state.lost.get(site) in set(LOST)
        and rules.rejoin
        and (state.epoch == 0 or site in state.fingerprints)
    )


def returning(rules: Rules, state: State, back: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the hospitals whose nodes are connected again are asked, as nothing waits for them.

    One that is lost again costs an attempt, so it is risked only while a spare one is left.
    """
    spare = not rules.masked or state.voids < rules.spare_attempts
    return tuple(
        site
        for site in absent(rules, state)
        if site in back and state.losses[site] < MAX_LOSSES and spare
    )


def regroup(rules: Rules, state: State, *, renew: bool = False, patient: bool = True) -> State:
    """Go on with whoever is there.

    Args:
        rules: The job's numbers.
        state: Where the job stands.
        renew: A new epoch is needed whoever is there.
        patient: Whether hospitals that are lost are waited for where too few are left.
    """
    if state.voids > rules.spare_attempts:
        return stop(rules, state, f"more than {rules.spare_attempts} attempts failed")
    if not rules.enough(state.members):
        waiting = absent(rules, state)
        if patient and rules.enough(rules.ordered({*state.members, *waiting})):
            missing = rules.needed - len(state.members)
            return replace(state, command=Enrol(sites=waiting, again=True, at_least=missing))
        return stop(rules, state, _too_few(rules, state))
    if not renew and _goes_on(rules, state):
        return next_attempt(rules, state)
    behind = _behind(rules, state)
    if behind:
        return replace(state, command=_delivery(rules, state, behind))
    return _new_epoch(rules, state)


def next_attempt(
    rules: Rules, state: State, *, fresh_keys: bool = False, lacking: tuple[str, ...] = ()
) -> State:
    """The next attempt of all members: train, count, both, or finish."""
    training = state.round <= rules.rounds
    counting = rules.evaluated and _counts_due(rules, state)
    command = Attempt(
        epoch=state.epoch,
        attempt=state.attempt + 1,
        round=state.round,
        members=state.members,
        train=training,
        evaluate=counting,
        finish=not training and not counting,
        fresh_keys=fresh_keys,
        lacking=lacking,
        total_attempt=state.total_attempt,
        counts_attempt=state.counts_attempt,
    )
    return replace(state, command=command, attempt=command.attempt)


def share(rules: Rules, state: State) -> State:
    """After an epoch's keys were made: who lacks the state gets it before the first attempt."""
    holders = _holders(rules, state)
    lacking = tuple(site for site in state.members if site not in holders)
    if not lacking:
        return next_attempt(rules, state, fresh_keys=True)
    command = Share(
        epoch=state.epoch,
        attempt=state.attempt + 1,
        base=state.round - 1,
        members=holders,
        sender=holders[0],
        lacking=lacking,
    )
    return replace(state, command=command)


def stop(rules: Rules, state: State, reason: str, status: str = "failed") -> State:
    """End the job; it is completed where enough hospitals have stored the same model."""
    if rules.enough(state.confirmed):
        reason, status = "", "completed"
    return replace(state, command=Stop(sites=state.members, reason=reason, status=status))


def _goes_on(rules: Rules, state: State) -> bool:
    """Whether the next attempt can be made in the present epoch."""
    present = set(state.members)
    whole = present == set(state.cohort) if rules.masked else present <= set(state.cohort)
    ready = set(state.keyed) | set(_behind(rules, state))
    current = all(
        state.steps[site] == state.round - 1 or site in _behind(rules, state)
        for site in state.members
    )
    return bool(state.cohort) and whole and present <= ready and current and _told(rules, state)


def _told(rules: Rules, state: State) -> bool:
    """Whether every member has the metrics that belong to the model, or can still get them."""
    missing = set(state.members) - set(state.measured)
    return not _measuring(rules, state) or missing <= set(_behind(rules, state))


def _behind(rules: Rules, state: State) -> tuple[str, ...]:
    """Members that can still read a sum that they may not have: it is of their last attempt."""

    def lacks(site: str) -> bool:
        used = state.used.get(site, 0)
        total = state.steps[site] == state.round - 2 and 0 < used == state.total_attempt
        counts = (
            _measuring(rules, state)
            and site not in state.measured
            and 0 < used == state.counts_attempt
        )
        return total or counts

    return tuple(site for site in state.members if site in state.keyed and lacks(site))


def _measuring(rules: Rules, state: State) -> bool:
    return rules.evaluated and state.counted


def _delivery(rules: Rules, state: State, behind: tuple[str, ...]) -> Attempt:
    """Sums alone, in the old epoch; nothing is released, so no number is used up.

    Counts of a model in between are not worth it; those of the finished one go into its card.
    """
    return Attempt(
        epoch=state.epoch,
        attempt=state.attempt,
        round=state.round,
        members=behind,
        total_attempt=state.total_attempt,
        counts_attempt=state.counts_attempt if _measuring(rules, state) else 0,
    )


def _new_epoch(rules: Rules, state: State) -> State:
    """A new cohort document for the present members, and keys where anything is encrypted."""
    base = _base(rules, state)
    if base is None:
        return stop(rules, state, "no two hospitals hold the same state to go on from")
    again = base < state.round - 1
    state = replace(state, round=base + 1, counted=state.counted and not again)
    if _measuring(rules, state) and not _holders(rules, state):
        again, state = True, replace(state, counted=False)
    if again:
        state = replace(state, voids=state.voids + 1)
        if state.voids > rules.spare_attempts:
            return stop(rules, state, f"more than {rules.spare_attempts} attempts failed")
    state = replace(
        state,
        epoch=state.epoch + 1,
        cohort=state.members,
        keyed=(),
        total_attempt=0,
        counts_attempt=0,
    )
    if not rules.encrypted:
        return share(rules, state)
    maker = min(state.members, key=lambda site: state.fingerprints[site])
    return replace(state, command=MakeKeys(maker=maker, epoch=state.epoch, members=state.members))


def _base(rules: Rules, state: State) -> int | None:
    """Rounds applied to the latest state that enough members hold, or all of them."""
    held = Counter(state.steps[site] for site in state.members)
    if len(held) == 1:
        return next(iter(held))
    return max((step for step, count in held.items() if count >= rules.quorum), default=None)


def _holders(rules: Rules, state: State) -> tuple[str, ...]:
    """Members that hold the state which the round starts from; none where too few of them do."""
    holders = tuple(
        site
        for site in state.members
        if state.steps[site] == state.round - 1
        and (site in state.measured or not _measuring(rules, state))
    )
    everybody = len(holders) == len(state.members)
    return holders if everybody or len(holders) >= rules.quorum else ()


def _counts_due(rules: Rules, state: State) -> bool:
    done = state.round - 1
    if done == rules.rounds:
        return not state.counted
    return rules.evaluate_every > 0 and done > 0 and done % rules.evaluate_every == 0


def _too_few(rules: Rules, state: State) -> str:
    if state.epoch:
        return f"{len(state.members)} hospitals are left, {rules.needed} are needed"
    refusals = [f"{site}: {state.lost[site]}" for site in rules.sites if site in state.lost]
    detail = f" ({', '.join(refusals)})" if refusals else ""
    return f"{len(state.members)} hospitals accepted, {rules.needed} needed{detail}"
