"""One job from enrolment to its end: the shell around `server.rounds`.

It adds contributions as they arrive and keeps what the next message needs. It holds ciphertexts,
public keys and signatures, and nothing that could open anything.
"""

from __future__ import annotations

import time

from privacy.he.sum import SumProcess
from protocol.canonical import from_canonical
from protocol.card import Card
from protocol.cohort import Cohort
from protocol.cohort import Member as CohortMember
from protocol.errors import Code, FedwardError, IntegrityError
from protocol.messages import (
    Enrol,
    Enrolled,
    Header,
    KeysMade,
    MakeKeys,
    Packet,
    Place,
    Refused,
    Step,
    Stepped,
    Stop,
    Stopped,
    read_body,
)
from server import rounds
from server.correspondence import Correspondence, Site
from server.exchange import Arrival, Exchange
from server.harvest import Harvest, Result
from server.launch import Event, Launch, Metrics, Outcome
from server.rounds import Answer, Rules, State
from server.sums import Collector, Sums

JOIN_WAIT_S = 120.0
DISMISS_WAIT_S = 5.0


class Course:
    """One run of one job.

    Args:
        launch: The job and its signer.
        exchange: The way to the hospitals.
        child: The keyless process that adds ciphertexts; None in clear runs.
    """

    def __init__(self, launch: Launch, exchange: Exchange, child: SumProcess | None) -> None:
        self._launch = launch
        self._job = launch.job
        self._letters = Correspondence(launch.job, launch.key, exchange)
        self._sums = Sums(launch.job, child)
        self._rules = Rules.of(launch.job)
        self._sites: dict[str, Site] = {}
        self._refusals: dict[str, str] = {}
        self._events: list[Event] = []
        self._cohort: Cohort | None = None
        self._bundles: dict[str, bytes] = {}
        self._results: dict[tuple[int, str], Result] = {}
        self._metrics: Metrics = {}
        self._weights_tag = ""
        self._model: bytes | None = None
        self._summed = True

    def run(self) -> Outcome:
        """Go from command to command until the job is over."""
        state = rounds.start(self._rules)
        while not isinstance(state.command, rounds.Done):
            begin = time.perf_counter()
            self._letters.reset()
            answers = self._perform(state.command)
            after = rounds.advance(self._rules, state, answers, summed=self._summed)
            self._note(state, after, time.perf_counter() - begin)
            state = after
        self._dismiss(state.members)
        return Outcome(
            status=state.command.status,
            reason=state.command.reason,
            refusals=self._refusals,
            events=tuple(self._events),
            metrics=self._metrics,
            weights_tag=self._weights_tag,
            model=self._model if state.command.status == "completed" else None,
        )

    def _perform(self, command: rounds.Command) -> dict[str, Answer]:
        match command:
            case rounds.Enrol():
                return self._enrol(command)
            case rounds.MakeKeys():
                return self._make_keys(command)
            case rounds.Attempt():
                return self._attempt(command)
            case rounds.Stop():
                return self._stop(command)
            case rounds.Done():
                return {}

    # -- enrolment ------------------------------------------------------------------------------

    def _enrol(self, command: rounds.Enrol) -> dict[str, Answer]:
        body = Enrol(
            signature=self._launch.signature,
            heads=dict(self._launch.heads),
            job=self._job.to_bytes(),
        )
        answers = {site: Answer(code=Code.DEADLINE) for site in command.sites}
        for arrival in self._letters.ask_everybody(
            body,
            Place(job=self._job.digest),
            at_least=len(command.sites),
            wait_s=min(JOIN_WAIT_S, self._job.timeout_s),
        ):
            answers.update(self._enrolled(arrival))
        return self._noted({site: answers[site] for site in command.sites})

    def _enrolled(self, arrival: Arrival) -> dict[str, Answer]:
        """Who answered is known only from the answer: its sender must be in the roster."""
        packet = arrival.packet
        cards = {card.fingerprint: card for card in self._launch.roster.members}
        card = None if packet is None else cards.get(packet.sender)
        if packet is None or card is None or card.name not in self._rules.sites:
            return {}
        try:
            header = self._letters.open(packet, card.signing)
        except IntegrityError:
            # Whoever names a hospital without its signature may not speak for it, not even a no.
            return {}
        except FedwardError:
            return {card.name: Answer(code=Code.VERSION)}
        try:
            return {card.name: self._enrol_site(card, arrival.node, packet, header)}
        except FedwardError:
            return {card.name: Answer(code=Code.FAILED)}

    def _enrol_site(self, card: Card, node: int, packet: Packet, header: Header) -> Answer:
        if packet.kind == Refused.KIND:
            return Answer(code=read_body(packet, header, Refused).code)
        body = read_body(packet, header, Enrolled)
        member = CohortMember.from_bytes(body.member)
        member.verify(job=self._job.digest, roster=self._job.roster)
        member.check_keys()
        if (member.name, member.signing) != (card.name, card.signing):
            return Answer(code=Code.SIGNATURE)
        for site in self._sites.values():
            other = CohortMember.from_bytes(site.member)
            if member.exchange == other.exchange or member.kem == other.kem:
                raise IntegrityError("ephemeral keys that another hospital has")
        self._launch.heads[card.fingerprint] = body.head
        self._sites[card.name] = Site(
            node=node, signing=card.signing, fingerprint=card.fingerprint, member=body.member
        )
        return Answer(key=card.fingerprint, initial_weights=body.initial_weights)

    # -- keys -----------------------------------------------------------------------------------

    def _make_keys(self, command: rounds.MakeKeys) -> dict[str, Answer]:
        self._begin_epoch(command.epoch, command.members)
        body = MakeKeys(cohort=self._document())
        letters = self._letters.ask(self._sites, {command.maker: body}, self._place(0), KeysMade)
        letter = letters[command.maker]
        if letter.body is None:
            return self._noted({command.maker: letter.answer})
        bundles = _bundles(letter.body.bundles)
        if set(bundles) != set(command.members):
            return self._noted({command.maker: Answer(code=Code.FAILED)})
        self._bundles = bundles
        return {command.maker: letter.answer}

    def _begin_epoch(self, epoch: int, members: tuple[str, ...]) -> None:
        self._cohort = Cohort.assemble(
            job=self._job.digest,
            roster=self._job.roster,
            epoch=epoch,
            members=[CohortMember.from_bytes(self._sites[site].member) for site in members],
        )
        self._bundles = {}
        self._results = {}

    # -- attempts -------------------------------------------------------------------------------

    def _attempt(self, command: rounds.Attempt) -> dict[str, Answer]:
        if command.fresh_keys and not self._rules.encrypted:
            self._begin_epoch(command.epoch, command.members)
        harvest = Harvest(self._collectors(command))
        bodies = {site: self._step_body(command, site) for site in command.members}

        def take(site: str, body: Stepped) -> Answer:
            answer = harvest.take(site, body)
            self._launch.heads[self._sites[site].fingerprint] = body.head
            self._weights_tag = body.weights_tag
            return answer

        place = self._place(command.attempt)
        letters = self._letters.ask(self._sites, bodies, place, Stepped, take)
        if command.counts_attempt:
            self._metrics = harvest.metrics
        if command.finish:
            self._model = harvest.model
        sums = harvest.results(command.members, masked=self._rules.masked)
        self._summed = sums is not None
        self._results = {(command.attempt, purpose): one for purpose, one in (sums or {}).items()}
        return self._noted({site: letter.answer for site, letter in letters.items()})

    def _collectors(self, command: rounds.Attempt) -> dict[str, Collector]:
        wanted = {"update": command.train, "evaluation": command.evaluate}
        size = self._require_cohort().size
        return {
            purpose: self._sums.collector(purpose, cohort_size=size)
            for purpose, asked in wanted.items()
            if asked
        }

    def _step_body(self, command: rounds.Attempt, site: str) -> Step:
        total = self._results.get((command.total_attempt, "update"))
        counts = self._results.get((command.counts_attempt, "evaluation"))
        return Step(
            round=command.round,
            train=command.train,
            evaluate=command.evaluate,
            finish=command.finish,
            total_attempt=command.total_attempt,
            contributors=total[0] if total else (),
            counts_attempt=command.counts_attempt,
            counts_contributors=counts[0] if counts else (),
            cohort=self._document() if command.fresh_keys else None,
            bundle=self._bundles.get(site) if command.fresh_keys else None,
            total=total[1] if total else None,
            counts=counts[1] if counts else None,
        )

    def _stop(self, command: rounds.Stop) -> dict[str, Answer]:
        bodies = {site: Stop(reason=command.reason) for site in command.sites}
        self._letters.ask(self._sites, bodies, self._place(0), Stopped)
        return {}

    def _dismiss(self, members: tuple[str, ...]) -> None:
        """Let those who were lost on the way settle, if they can be reached; nobody waits long."""
        lost = [site for site in self._sites if site not in members]
        body = Stop(reason="the job is over")
        self._letters.ask(
            self._sites,
            dict.fromkeys(lost, body),
            self._place(0),
            Stopped,
            wait_s=DISMISS_WAIT_S,
        )

    def _noted(self, answers: dict[str, Answer]) -> dict[str, Answer]:
        """The same answers, after the refusals among them were kept for the outcome."""
        self._refusals.update(
            {site: str(one.code) for site, one in answers.items() if one.code is not None}
        )
        return answers

    def _place(self, attempt: int) -> Place:
        cohort = self._cohort
        if cohort is None:
            return Place(job=self._job.digest)
        return Place(
            job=self._job.digest, epoch=cohort.epoch, attempt=attempt, cohort=cohort.digest
        )

    def _require_cohort(self) -> Cohort:
        if self._cohort is None:
            raise IntegrityError("an attempt without a cohort")
        return self._cohort

    def _document(self) -> bytes:
        return self._require_cohort().to_bytes()

    def _note(self, before: State, after: State, seconds: float) -> None:
        kind, detail = _describe(before, after)
        event = Event(
            kind=kind,
            round=before.round,
            sites=after.members,
            seconds=seconds,
            bytes_up=self._letters.bytes_up,
            bytes_down=self._letters.bytes_down,
            detail=detail,
            metrics=self._metrics,
        )
        self._events.append(event)
        self._launch.watch(event)


def _bundles(data: bytes) -> dict[str, bytes]:
    """Bundles by hospital; empty where the maker sent something else."""
    try:
        found = from_canonical(data)
    except FedwardError:
        return {}
    if not isinstance(found, dict) or not all(isinstance(one, bytes) for one in found.values()):
        return {}
    return found


def _describe(before: State, after: State) -> tuple[str, str]:
    """The kind of an event and its line for people."""
    ended = f"; {after.command.status}" if isinstance(after.command, rounds.Done) else ""
    if after.voids > before.voids:
        return "void", "an attempt is lost; its privacy charge stays spent"
    match before.command:
        case rounds.Enrol():
            return "enrolled", f"{len(after.members)} of {len(before.command.sites)} hospitals"
        case rounds.MakeKeys():
            return "keys", f"epoch {before.epoch}: keys made by one of {len(after.members)}"
        case rounds.Attempt(train=True):
            return "round", f"round {before.round}"
        case rounds.Attempt(evaluate=True):
            return "evaluated", "held-out patients counted"
        case _:
            return "ended", f"{_reason(after)}{ended}"


def _reason(state: State) -> str:
    return state.command.reason if isinstance(state.command, rounds.Done | rounds.Stop) else ""
