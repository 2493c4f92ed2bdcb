"""The course of a job as a pure state machine: what happened in, what to do next out.

Phases: enrol, keys, rounds (one attempt each, repeated where one is void), evaluate, finish. The
machine knows no network, clock, key or tensor; `server.course` carries out its commands and reports
what came back. See docs/adr/0004-masks-and-void-rounds.md for why a missing site voids an attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from protocol.errors import Code
from protocol.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The numbers of a job that decide its course.

    Args:
        rounds: T, sums that become a model.
        spare_attempts: V, attempts that may be void.
        sites: Names of all hospitals asked.
        min_sites: Fewest contributors.
        min_honest: Fewest contributors beyond the colluding ones (K - t).
        colluding_sites: t.
        encrypted: Whether an epoch needs keys.
        masked: Whether a missing contributor voids the attempt.
        evaluate_every: Rounds between counts of the intermediate model; 0 for the last model only.
        evaluated: Whether held-out patients are counted at all.
    """

    rounds: int
    spare_attempts: int
    sites: tuple[str, ...]
    min_sites: int
    min_honest: int
    colluding_sites: int
    encrypted: bool
    masked: bool
    evaluate_every: int
    evaluated: bool

    @classmethod
    def of(cls, job: Job) -> Rules:
        """The rules that a job's numbers state."""
        return cls(
            rounds=job.training.rounds,
            # Without noise, two sums of the same weights would bare the hospital that is missing
            # from the second, so no attempt is repeated.
            spare_attempts=0 if job.privacy.mode == "none" else job.training.spare_attempts,
            sites=tuple(site.name for site in job.sites),
            min_sites=job.min_sites,
            min_honest=2 if job.masked else 1,
            colluding_sites=job.privacy.colluding_sites if job.masked else 0,
            encrypted=job.encryption.scheme == "bfv",
            masked=job.masked,
            evaluate_every=job.evaluation.every,
            evaluated=job.privacy.evaluation is not None,
        )

    def enough(self, members: tuple[str, ...]) -> bool:
        """Whether these hospitals may form a cohort."""
        honest = len(members) - self.colluding_sites
        return len(members) >= self.min_sites and honest >= self.min_honest


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One hospital's answer to a command; `code` is set when it refused, failed or was silent.

    Args:
        code: Why there is no answer, None when there is one.
        key: What the machine compares among hospitals: fingerprint at enrolment (for the choice of
            the maker), the weights' tag after a step.
        initial_weights: Digest of the initial weights, at enrolment.
    """

    code: Code | None = None
    key: str = ""
    initial_weights: str = ""


@dataclass(frozen=True)
class Enrol:
    """Ask these hospitals to take part."""

    sites: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MakeKeys:
    """Let the maker make this epoch's keys for the members."""

    maker: str
    epoch: int
    members: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One exchange with every member of the cohort.

    Args:
        epoch: The cohort's epoch.
        attempt: Number of the attempt, never used twice.
        round: The round that it works on; T + 1 once training is over.
        members: Whom to ask.
        train: Members release updates.
        evaluate: Members release evaluation counts.
        finish: Members store the model.
        fresh_keys: The epoch begins: send cohort document and bundles.
        total_attempt: Send the sum of this attempt's updates; 0 for none.
        counts_attempt: Send the sum of this attempt's counts; 0 for none.
    """

    epoch: int
    attempt: int
    round: int
    members: tuple[str, ...]
    train: bool = False
    evaluate: bool = False
    finish: bool = False
    fresh_keys: bool = False
    total_attempt: int = 0
    counts_attempt: int = 0


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Nothing more comes of it: tell these hospitals to settle."""

    sites: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Done:
    """The job is over: `completed`, or `failed` for a reason."""

    status: str
    reason: str


Command = Enrol | MakeKeys | Attempt | Stop | Done


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a job stands; JSON-able through protocol.canonical.

    Args:
        command: What is being done now.
        members: Hospitals still in the job, in the job's order.
        fingerprints: Fingerprint of each enrolled hospital.
        epoch: Current epoch.
        attempt: Last attempt number given out.
        voids: Attempts lost so far.
        round: Round being worked on.
        total_attempt: Attempt whose updates' sum the members do not have yet.
        counts_attempt: Attempt whose counts' sum the members do not have yet.
        counted: The finished model's counts have been summed.
    """

    command: Command
    members: tuple[str, ...] = ()
    fingerprints: Mapping[str, str]
    epoch: int = 0
    attempt: int = 0
    voids: int = 0
    round: int = 1
    total_attempt: int = 0
    counts_attempt: int = 0
    counted: bool = False


def start(rules: Rules) -> State:
    """The first state: every hospital is asked."""
    return State(command=Enrol(rules.sites), fingerprints={})


def advance(
    rules: Rules, state: State, answers: Mapping[str, Answer], *, summed: bool = True
) -> State:
    """The next state, given what the hospitals answered to `state.command`.

    Args:
        rules: The job's numbers.
        state: The state whose command was carried out.
        answers: One answer for every hospital that was asked.
        summed: False where an attempt's sums were lost here, which voids it for everybody.
    """
    match state.command:
        case Enrol():
            return _enrolled(rules, state, answers)
        case MakeKeys(maker=maker):
            return _keys_made(rules, state, made=answers[maker].code is None)
        case Attempt():
            return _attempted(rules, state, state.command, answers, summed=summed)
        case Stop(reason=reason):
            return replace(state, command=Done("failed", reason))
        case Done():
            return state


def _enrolled(rules: Rules, state: State, answers: Mapping[str, Answer]) -> State:
    members = tuple(s for s in rules.sites if answers[s].code is None)
    refusals = [f"{s}: {answers[s].code}" for s in rules.sites if answers[s].code is not None]
    odd = _minority({site: answers[site].initial_weights for site in members})
    if odd:
        reason = f"initial weights differ at {', '.join(odd)}: install the same release everywhere"
        return _stop(replace(state, members=members), reason)
    state = replace(state, members=members, fingerprints={s: answers[s].key for s in members})
    if not rules.enough(members):
        detail = f" ({', '.join(refusals)})" if refusals else ""
        return _stop(state, f"{len(members)} hospitals accepted, {rules.min_sites} needed{detail}")
    return _new_epoch(rules, state)


def _new_epoch(rules: Rules, state: State) -> State:
    """A new cohort document for the present members, and keys where anything is encrypted."""
    state = replace(state, epoch=state.epoch + 1)
    if not rules.encrypted:
        return _next_attempt(rules, state, fresh_keys=True)
    maker = min(state.members, key=lambda site: state.fingerprints[site])
    return replace(state, command=MakeKeys(maker=maker, epoch=state.epoch, members=state.members))


def _keys_made(rules: Rules, state: State, *, made: bool) -> State:
    if made:
        return _next_attempt(rules, state, fresh_keys=True)
    command = state.command
    lost = command.maker if isinstance(command, MakeKeys) else ""
    return _void(rules, replace(state, members=tuple(s for s in state.members if s != lost)))


def _next_attempt(rules: Rules, state: State, *, fresh_keys: bool = False) -> State:
    training = state.round <= rules.rounds
    counting = rules.evaluated and _counts_due(rules, state)
    finishing = not training and not counting
    number = state.attempt + (0 if finishing else 1)
    command = Attempt(
        epoch=state.epoch,
        attempt=number,
        round=state.round,
        members=state.members,
        train=training,
        evaluate=counting,
        finish=finishing,
        fresh_keys=fresh_keys,
        total_attempt=state.total_attempt,
        counts_attempt=state.counts_attempt,
    )
    return replace(state, command=command, attempt=number)


def _counts_due(rules: Rules, state: State) -> bool:
    done = state.round - 1
    if done == rules.rounds:
        return not state.counted
    return rules.evaluate_every > 0 and done > 0 and done % rules.evaluate_every == 0


def _attempted(
    rules: Rules, state: State, command: Attempt, answers: Mapping[str, Answer], *, summed: bool
) -> State:
    came = tuple(s for s in command.members if answers[s].code is None)
    odd = _minority({site: answers[site].key for site in came})
    came = tuple(s for s in came if s not in odd)
    # A hospital with other weights is in the sum already, masked or not: nobody may use it.
    complete = summed and not odd and (came == command.members or not rules.masked)
    # Whoever answered has applied the sums that this attempt carried.
    state = replace(state, members=came, total_attempt=0, counts_attempt=0)
    if command.finish:
        return _finished(rules, state, command, odd)
    if not complete or not rules.enough(came):
        return _void(rules, state)
    state = replace(
        state,
        total_attempt=command.attempt if command.train else 0,
        counts_attempt=command.attempt if command.evaluate else 0,
        counted=state.counted or not command.train,
        round=state.round + (1 if command.train else 0),
    )
    return _next_attempt(rules, state)


def _finished(rules: Rules, state: State, command: Attempt, odd: tuple[str, ...]) -> State:
    if odd:
        return replace(
            state, command=Done("failed", f"models differ at {', '.join(odd)}; none is released")
        )
    if not rules.enough(state.members):
        missing = [site for site in command.members if site not in state.members]
        return replace(
            state, command=Done("failed", f"no confirmation of the model from {', '.join(missing)}")
        )
    return replace(state, command=Done("completed", ""))


def _void(rules: Rules, state: State) -> State:
    """An attempt is lost: the charge stays spent; the survivors try again in a new epoch."""
    state = replace(state, voids=state.voids + 1)
    if not rules.enough(state.members):
        return _stop(
            state, f"{len(state.members)} hospitals are left, {rules.min_sites} are needed"
        )
    if state.voids > rules.spare_attempts:
        return _stop(state, f"more than {rules.spare_attempts} attempts failed")
    return _new_epoch(rules, state)


def _stop(state: State, reason: str) -> State:
    return replace(state, command=Stop(sites=state.members, reason=reason))


def _minority(values: Mapping[str, str]) -> tuple[str, ...]:
    """Names whose value is not the most frequent one (first by name where two are as frequent)."""
    counts: dict[str, int] = {}
    for name in sorted(values):
        counts[values[name]] = counts.get(values[name], 0) + 1
    if len(counts) <= 1:
        return ()
    common = max(counts, key=lambda value: counts[value])
    return tuple(name for name, value in values.items() if value != common)
