"""The course of a job as a pure state machine: what happened in, what to do next out.

Phases: enrol, keys, rounds (one attempt each, repeated where one is void), evaluate, finish, stop.
The machine knows no network, clock, key or tensor; `server.course` carries out its commands and
reports what came back. See docs/adr/0004-masks-and-void-rounds.md for why a missing site voids an
attempt, and docs/adr/0008-recovery.md for how hospitals and the coordinator itself come back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from protocol.errors import Code
from server.regroup import absent, lose, next_attempt, regroup, returning, share, stop
from server.terms import Answer, Attempt, Done, Enrol, MakeKeys, Rules, Share, State, Stop


def start(rules: Rules) -> State:
    """The first state: every hospital is asked."""
    return State(command=Enrol(sites=rules.sites))


def resume(rules: Rules, state: State) -> State:
    """The state to go on from after the coordinator's process ended, whatever it was doing.

    Hospitals say where they stand before anything is repeated: what none of them has seen is as
    good as never sent, and everything else counts as lost.
    """
    match state.command:
        case Stop() | Done():
            return state
        case Enrol(again=False):
            return start(rules)
    if isinstance(state.command, Attempt) and state.command.releases:
        state = replace(state, interrupted=state.command.attempt)
    asked = rules.ordered({*state.members, *absent(rules, state)})
    command = Enrol(sites=asked, again=True, at_least=max(len(state.members), rules.needed))
    return replace(state, members=(), command=command)


def halt(rules: Rules, state: State, reason: str, *, status: str = "stopped") -> State:
    """The job ends here: somebody asked for it, or nobody can go on."""
    sites = rules.ordered({*state.fingerprints})
    return replace(state, command=Stop(sites=sites, reason=reason, status=status))


def advance(
    rules: Rules,
    state: State,
    answers: Mapping[str, Answer],
    *,
    summed: bool = True,
    back: tuple[str, ...] = (),
) -> State:
    """The next state, given what the hospitals answered to `state.command`.

    Args:
        rules: The job's numbers.
        state: The state whose command was carried out.
        answers: One answer for every hospital that was asked.
        summed: False where an attempt's sums were lost here, which voids it for everybody.
        back: Hospitals that are no members and whose nodes are connected.
    """
    match state.command:
        case Enrol():
            return _enrolled(rules, state, state.command, answers)
        case MakeKeys():
            return _keys_made(rules, state, answers[state.command.maker], state.command.maker)
        case Share():
            return _shared(rules, state, state.command, answers)
        case Attempt():
            return _attempted(rules, state, state.command, answers, summed=summed, back=back)
        case Stop(reason=reason, status=status):
            return replace(state, command=Done(status, reason))
    return state


# -- enrolment ----------------------------------------------------------------------------------


def _enrolled(rules: Rules, state: State, command: Enrol, answers: Mapping[str, Answer]) -> State:
    answers = {site: _believed(rules, state, answers[site]) for site in command.sites}
    state = lose(state, {site: answer.code for site, answer in answers.items()})
    came = {site: answer for site, answer in answers.items() if answer.code is None}
    state = _joined(rules, state, came)
    if not state.initial:
        odd = minority({site: came[site].initial_weights for site in came})
        if odd:
            reason = (
                f"initial weights differ at {', '.join(odd)}: install the same release everywhere"
            )
            return stop(rules, state, reason)
        if came:
            state = replace(state, initial=next(iter(came.values())).initial_weights)
    state = _judged(state, answers)
    if state.closing and not came:
        return _closed(rules, state)
    return regroup(rules, state, patient=not command.again)


def _believed(rules: Rules, state: State, answer: Answer) -> Answer:
    """The answer, or a refusal in its place where it cannot be about this job.

    Every hospital's ledger counts numbers, so one that could invent them would use up the others'
    attempts. None can be further than what was sent, which was kept before it was.
    """
    most = (state.round - 1, state.epoch, state.attempt)
    if state.epoch == 0:
        # Nothing is kept, perhaps because it was lost: as far as any job goes.
        most = (rules.rounds, rules.attempts, rules.attempts)
    told = (answer.step, answer.epoch, answer.attempt)
    possible = all(0 <= number <= limit for number, limit in zip(told, most, strict=True))
    strange = bool(state.initial) and answer.initial_weights != state.initial
    if answer.code is None and (strange or not possible):
        return Answer(code=Code.FAILED)
    return answer


def _joined(rules: Rules, state: State, came: Mapping[str, Answer]) -> State:
    """The state with these hospitals as members, each as it says that it stands."""
    keyed = {
        site
        for site, answer in came.items()
        if answer.known and 0 < answer.epoch == state.epoch and site in state.cohort
    }
    finished = {site for site, answer in came.items() if answer.finished}
    measured = {*state.measured} - ({*came} - keyed) | finished
    return replace(
        state,
        members=rules.ordered({*state.members, *came}),
        keyed=rules.ordered(({*state.keyed} - {*came}) | keyed),
        measured=rules.ordered(measured),
        fingerprints={**state.fingerprints, **{site: came[site].key for site in came}},
        steps={**state.steps, **{site: came[site].step for site in came}},
        used={**state.used, **{site: came[site].attempt for site in came}},
        lost={site: code for site, code in state.lost.items() if site not in came},
        epoch=max([state.epoch, *(answer.epoch for answer in came.values())]),
        attempt=max([state.attempt, *(answer.attempt for answer in came.values())]),
    )


def _judged(state: State, answers: Mapping[str, Answer]) -> State:
    """Whether the attempt that the coordinator's end interrupted is lost, or was never made."""
    number = state.interrupted
    if not number:
        return state
    unseen = all(
        site in answers and answers[site].code is None and answers[site].attempt < number
        for site in state.cohort
    )
    if unseen and state.attempt == number:
        return replace(state, interrupted=0, attempt=number - 1)
    return replace(state, interrupted=0, voids=state.voids + 1)


# -- exchanges of a cohort ----------------------------------------------------------------------


def _keys_made(rules: Rules, state: State, answer: Answer, maker: str) -> State:
    if answer.code is None:
        return share(rules, state)
    return _void(rules, lose(state, {maker: answer.code}))


def _shared(rules: Rules, state: State, command: Share, answers: Mapping[str, Answer]) -> State:
    came = tuple(site for site in command.members if answers[site].code is None)
    if came != command.members:
        return _void(rules, lose(state, {site: answers[site].code for site in command.members}))
    return next_attempt(rules, replace(state, keyed=came), fresh_keys=True, lacking=command.lacking)


def _attempted(
    rules: Rules,
    state: State,
    command: Attempt,
    answers: Mapping[str, Answer],
    *,
    summed: bool,
    back: tuple[str, ...],
) -> State:
    came = tuple(site for site in command.members if answers[site].code is None)
    odd = minority({site: answers[site].key for site in came})
    came = tuple(site for site in came if site not in odd)
    state = lose(state, {site: answers[site].code for site in command.members})
    state = _applied(rules, lose(state, dict.fromkeys(odd, Code.INTEGRITY)), command, came)
    if command.finish:
        return _finished(rules, state, command, odd)
    # A hospital with other weights is in the sum already, masked or not: nobody may use it.
    complete = summed and not odd and (came == command.members or not rules.masked)
    if not complete or not rules.enough(state.members):
        return _void(rules, state)
    if not command.releases:
        return regroup(rules, state)
    state = replace(
        state,
        total_attempt=command.attempt if command.train else 0,
        counts_attempt=command.attempt if command.evaluate else 0,
        counted=state.counted or not command.train,
        round=state.round + (1 if command.train else 0),
    )
    asked = returning(rules, state, back)
    if asked:
        return replace(state, command=Enrol(sites=asked, again=True))
    return regroup(rules, state)


def _applied(rules: Rules, state: State, command: Attempt, came: tuple[str, ...]) -> State:
    """Whoever answered has applied the sums, or the state, that the message carried."""
    now = dict.fromkeys(came, command.round - 1)
    told = bool(command.counts_attempt or command.lacking) and state.counted
    return replace(
        state,
        steps={**state.steps, **now},
        used={**state.used, **dict.fromkeys(came, command.attempt)},
        keyed=rules.ordered({*state.keyed, *came}),
        measured=rules.ordered({*state.measured, *(came if told else ())}),
    )


def _void(rules: Rules, state: State) -> State:
    """An attempt is lost: the charge stays spent; whoever is left tries again in a new epoch."""
    return regroup(rules, replace(state, voids=state.voids + 1), renew=True)


# -- the end ------------------------------------------------------------------------------------


def _finished(rules: Rules, state: State, command: Attempt, odd: tuple[str, ...]) -> State:
    if odd:
        state = replace(state, confirmed=())
        return stop(rules, state, f"models differ at {', '.join(odd)}; none is released")
    state = replace(state, confirmed=rules.ordered({*state.confirmed, *state.members}))
    missing = tuple(site for site in absent(rules, state) if site in command.members)
    if missing and not state.closing:
        again = Enrol(sites=missing, again=True, at_least=len(missing))
        return replace(state, command=again, closing=True)
    return _closed(rules, state)


def _closed(rules: Rules, state: State) -> State:
    missing = [site for site in state.cohort if site not in state.confirmed]
    return stop(rules, state, f"no confirmation of the model from {', '.join(missing)}")


def minority(values: Mapping[str, str]) -> tuple[str, ...]:
    """Names whose value is not the most frequent one (first by name where two are as frequent)."""
    counts: dict[str, int] = {}
    for name in sorted(values):
        counts[values[name]] = counts.get(values[name], 0) + 1
    if len(counts) <= 1:
        return ()
    common = max(counts, key=lambda value: counts[value])
    return tuple(name for name, value in values.items() if value != common)
