"""What a job's course consists of: its rules, what is asked, what is answered, where it stands.

Values only; `server.rounds` decides on them and `server.course` carries commands out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.errors import Code
from protocol.jobs import Job

MIN_QUORUM = 2


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
        rejoin: Whether a hospital that was lost may come back.
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
    rejoin: bool = True

    @classmethod
    def of(cls, job: Job) -> Rules:
        """The rules that a job's numbers state."""
        bare = job.privacy.mode == "none"
        return cls(
            rounds=job.training.rounds,
            # Without noise, two sums of the same weights would bare the hospital that is missing
            # from the second, so no attempt is repeated.
            spare_attempts=0 if bare else job.training.spare_attempts,
            sites=tuple(site.name for site in job.sites),
            min_sites=job.min_sites,
            min_honest=2 if job.masked else 1,
            colluding_sites=job.privacy.colluding_sites if job.masked else 0,
            encrypted=job.encryption.scheme == "bfv",
            masked=job.masked,
            evaluate_every=job.evaluation.every,
            evaluated=job.privacy.evaluation is not None,
            rejoin=not bare,
        )

    @property
    def attempts(self) -> int:
        """Most numbers of attempts: rounds, spare ones, a count of the last model, and its storing.

        A coordinator that is restarted while the model is stored may use more.
        """
        return self.rounds + self.spare_attempts + 2

    @property
    def needed(self) -> int:
        """Fewest hospitals in a cohort."""
        return max(self.min_sites, self.colluding_sites + self.min_honest)

    @property
    def quorum(self) -> int:
        """Members that must hold a state before another takes it over."""
        return max(MIN_QUORUM, self.colluding_sites + 1)

    def enough(self, members: tuple[str, ...]) -> bool:
        """Whether these hospitals may form a cohort."""
        return len(members) >= self.needed

    def ordered(self, names: frozenset[str] | set[str]) -> tuple[str, ...]:
        """Names in the order of the job."""
        return tuple(site for site in self.sites if site in names)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One hospital's answer to a command; `code` is set when it refused, failed or was silent.

    Args:
        code: Why there is no answer, None when there is one.
        key: What the machine compares among hospitals: fingerprint at enrolment (for the choice of
            the maker), the weights' tag after a step.
        initial_weights: Digest of the initial weights, at enrolment.
        known: At enrolment, whether its ephemeral keys are those that it had before.
        step: At enrolment, rounds applied to the state that it holds.
        epoch: At enrolment, the last epoch that it was in.
        attempt: At enrolment, the last attempt used there.
        finished: At enrolment, whether it has stored the model.
    """

    code: Code | None = None
    key: str = ""
    initial_weights: str = ""
    known: bool = False
    step: int = 0
    epoch: int = 0
    attempt: int = 0
    finished: bool = False


@dataclass(frozen=True, kw_only=True)
class Enrol:
    """Ask these hospitals to take part, or where they stand in what is under way.

    Args:
        sites: Whom to ask.
        again: They, or some of them, were in the job before.
        at_least: Wait until so many of them have accepted, as long as patience lasts; 0 for none.
    """

    sites: tuple[str, ...]
    again: bool = False
    at_least: int = 0


@dataclass(frozen=True, kw_only=True)
class MakeKeys:
    """Let the maker make this epoch's keys for the members."""

    maker: str
    epoch: int
    members: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Share:
    """Let members that hold the state vouch for it, and one seal it to those that lack it.

    Args:
        epoch: The new cohort's epoch.
        attempt: The attempt that will start from this state.
        base: Rounds applied to it.
        members: Who holds it.
        sender: Which of them seals it.
        lacking: Members of the cohort that do not hold it.
    """

    epoch: int
    attempt: int
    base: int
    members: tuple[str, ...]
    sender: str
    lacking: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One exchange with members of the cohort.

    Without `train`, `evaluate` and `finish` it delivers sums and nothing leaves a hospital.

    Args:
        epoch: The cohort's epoch.
        attempt: Number of the attempt; one that releases has a number that no other had.
        round: The round that it works on; T + 1 once training is over.
        members: Whom to ask.
        train: Members release updates.
        evaluate: Members release evaluation counts.
        finish: Members store the model.
        fresh_keys: The epoch begins: send cohort document and bundles to whoever lacks them.
        lacking: Members that get the state from another one.
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
    lacking: tuple[str, ...] = ()
    total_attempt: int = 0
    counts_attempt: int = 0

    @property
    def releases(self) -> bool:
        """Whether anything that is charged leaves a hospital."""
        return self.train or self.evaluate


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The job is over: let these hospitals settle and forget."""

    sites: tuple[str, ...]
    reason: str
    status: str = "failed"


@dataclass(frozen=True)
class Done:
    """The job is over: `completed`, or `failed` or `stopped` for a reason."""

    status: str
    reason: str


Command = Enrol | MakeKeys | Share | Attempt | Stop | Done


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a job stands; protocol.canonical spells it and protocol.config.decode reads it back.

    Args:
        command: What is being done now.
        members: Hospitals in the job now, in the job's order.
        fingerprints: Fingerprint of each hospital that ever enrolled.
        initial: Digest of the initial weights.
        cohort: Members of the present cohort document.
        keyed: Members that entered the present epoch and hold its keys.
        steps: Rounds applied to the state of each hospital.
        used: Last attempt that each hospital used.
        measured: Members that hold the pooled metrics of the finished model.
        confirmed: Hospitals that stored the finished model, all the same.
        lost: Code of each hospital that is no member.
        losses: How often each hospital was lost.
        epoch: Current epoch.
        attempt: Last attempt number given out.
        voids: Attempts lost so far.
        round: Round being worked on.
        total_attempt: Attempt whose updates' sum not all members are known to have.
        counts_attempt: Attempt whose counts' sum not all members are known to have.
        counted: The finished model's counts have been summed.
        interrupted: Attempt that was under way when the coordinator ended, 0 for none.
        closing: Hospitals that were lost while they finished have been waited for.
    """

    command: Command
    members: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    initial: str = ""
    cohort: tuple[str, ...] = ()
    keyed: tuple[str, ...] = ()
    steps: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)
    measured: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()
    lost: Mapping[str, str] = field(default_factory=dict)
    losses: Mapping[str, int] = field(default_factory=dict)
    epoch: int = 0
    attempt: int = 0
    voids: int = 0
    round: int = 1
    total_attempt: int = 0
    counts_attempt: int = 0
    counted: bool = False
    interrupted: int = 0
    closing: bool = False
