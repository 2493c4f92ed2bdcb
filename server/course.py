"""One job from enrolment to its end: the shell around `server.rounds`.

It verifies every answer, adds contributions as they arrive, and keeps what the next message needs.
It holds ciphertexts, public keys and signatures, and nothing that could open anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from privacy.he.sum import SumProcess
from protocol.canonical import from_canonical
from protocol.card import Card
from protocol.cohort import Cohort
from protocol.cohort import Member as CohortMember
from protocol.errors import Code, FedwardError, IntegrityError
from protocol.jobs import Job
from protocol.messages import (
    EVERYBODY,
    Body,
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
    open_header,
    pack,
    read_body,
)
from protocol.roster import Roster
from protocol.signing import SigningKey
from server import rounds
from server.exchange import Arrival, Exchange
from server.rounds import Answer, Rules, State
from server.sums import Collector, Sums

B = TypeVar("B", bound=Body)
Metrics = Mapping[str, tuple[float, float, float]]
JOIN_WAIT_S = 120.0
DISMISS_WAIT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that a coordinator may watch: declared, pooled or public, never one hospital's.

    Args:
        kind: `enrolled`, `round`, `evaluated`, `void`, `ended`.
        round: Round that the event belongs to.
        sites: Hospitals still in the job.
        seconds: How long the exchange took.
        bytes_up: Bytes of all answers.
        bytes_down: Bytes of all messages.
        detail: One line for people.
        metrics: Pooled metrics, where they are published.
    """

    kind: str
    round: int
    sites: tuple[str, ...]
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    detail: str = ""
    metrics: Metrics = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    Args:
        status: `completed` or `failed`.
        reason: Why it failed, for people.
        refusals: Code by hospital that did not take part to the end.
        events: What happened, in order.
        metrics: Pooled metrics of the finished model, where they are published.
        weights_tag: What all hospitals reported of the finished model.
        model: The finished weights (float64 bytes), where job and policies hand them over.
    """

    status: str
    reason: str
    refusals: Mapping[str, str]
    events: tuple[Event, ...]
    metrics: Metrics
    weights_tag: str
    model: bytes | None


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a coordinator starts a job with.

    Args:
        job: The resolved job.
        signature: Ed25519 over its bytes, context `job`.
        key: The coordinator's key.
        roster: The roster that the job names.
        heads: Last ledger head seen of each hospital, by fingerprint; updated in place.
        watch: Called with every event.
    """

    job: Job
    signature: bytes
    key: SigningKey
    roster: Roster
    heads: dict[str, str]
    watch: Callable[[Event], None] = lambda _: None


@dataclass
class _Site:
    """What the coordinator knows of a hospital that enrolled."""

    node: int
    signing: bytes
    fingerprint: str
    member: bytes


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
        self._exchange = exchange
        self._sums = Sums(launch.job, child)
        self._rules = Rules.of(launch.job)
        self._sites: dict[str, _Site] = {}
        self._refusals: dict[str, str] = {}
        self._events: list[Event] = []
        self._cohort: Cohort | None = None
        self._bundles: dict[str, bytes] = {}
        self._results: dict[tuple[int, str], tuple[tuple[str, ...], bytes]] = {}
        self._metrics: Metrics = {}
        self._weights_tag = ""
        self._model: bytes | None = None
        self._traffic = [0, 0]

    def run(self) -> Outcome:
        """Go from command to command until the job is over."""
        state = rounds.start(self._rules)
        while not isinstance(state.command, rounds.Done):
            begin = time.perf_counter()
            self._traffic = [0, 0]
            answers = self._perform(state.command)
            after = rounds.advance(self._rules, state, answers)
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
            model=self._model,
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
        nodes = self._exchange.nodes(
            at_least=len(command.sites), wait_s=min(JOIN_WAIT_S, self._job.timeout_s)
        )
        packet = self._pack(body, Place(job=self._job.digest), EVERYBODY)
        answers = {site: Answer(code=Code.DEADLINE) for site in command.sites}
        for arrival in self._ask(dict.fromkeys(nodes, packet)):
            answers.update(self._enrolled(arrival))
        return {site: answers[site] for site in command.sites}

    def _enrolled(self, arrival: Arrival) -> dict[str, Answer]:
        """Who answered is known only from the answer: its sender must be in the roster."""
        if arrival.packet is None:
            return {}
        for card in self._launch.roster.members:
            try:
                header = self._opened(arrival, card.signing)
            except IntegrityError:
                continue
            except FedwardError:
                return {card.name: Answer(code=Code.VERSION)}
            try:
                return {card.name: self._enrol_site(card, arrival.node, arrival.packet, header)}
            except FedwardError:
                return {card.name: Answer(code=Code.SIGNATURE)}
        return {}

    def _enrol_site(self, card: Card, node: int, packet: Packet, header: Header | None) -> Answer:
        if header is None:
            return Answer(code=Code.DEADLINE)
        if packet.kind == Refused.KIND:
            return Answer(code=read_body(packet, header, Refused).code)
        body = read_body(packet, header, Enrolled)
        member = CohortMember.from_bytes(body.member)
        member.verify(job=self._job.digest, roster=self._job.roster)
        if (member.name, member.signing) != (card.name, card.signing):
            return Answer(code=Code.SIGNATURE)
        self._launch.heads[card.fingerprint] = body.head
        self._sites[card.name] = _Site(node, card.signing, card.fingerprint, body.member)
        return Answer(key=card.fingerprint, initial_weights=body.initial_weights)

    # -- keys -----------------------------------------------------------------------------------

    def _make_keys(self, command: rounds.MakeKeys) -> dict[str, Answer]:
        self._begin_epoch(command.epoch, command.members)
        body = MakeKeys(cohort=self._document())
        answers = self._ask_sites({command.maker: body}, self._place(0), KeysMade)
        made, answer = answers[command.maker]
        if made is None:
            return {command.maker: answer}
        bundles = from_canonical(made.bundles)
        if not isinstance(bundles, dict) or set(bundles) != set(command.members):
            return {command.maker: Answer(code=Code.FAILED)}
        self._bundles = bundles
        return {command.maker: answer}

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
        collectors = self._collectors(command)
        bodies = {site: self._step_body(command, site) for site in command.members}
        contributors: list[str] = []
        metrics: list[Metrics] = []

        def take(site: str, body: Stepped) -> Answer:
            for purpose, collector in collectors.items():
                payload = body.update if purpose == "update" else body.counts
                if payload is None:
                    return Answer(code=Code.FAILED)
                collector.add(site, payload)
            contributors.append(site)
            self._launch.heads[self._sites[site].fingerprint] = body.head
            self._keep(body)
            metrics.append(body.metrics)
            return Answer(key=body.weights_tag)

        place = self._place(command.attempt)
        answers = {
            site: answer
            for site, (_, answer) in self._ask_sites(bodies, place, Stepped, take).items()
        }
        # Pooled metrics are computed by every hospital from the same sum, or something is wrong.
        if metrics and metrics[0] and all(one == metrics[0] for one in metrics):
            self._metrics = metrics[0]
        ordered = tuple(site for site in command.members if site in contributors)
        complete = ordered == command.members or not self._rules.masked
        self._results = {}
        for purpose, collector in collectors.items():
            if complete and ordered:
                self._results[command.attempt, purpose] = (ordered, collector.result())
        return answers

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

    def _keep(self, body: Stepped) -> None:
        self._weights_tag = body.weights_tag
        if body.model is not None:
            self._model = body.model

    def _stop(self, command: rounds.Stop) -> dict[str, Answer]:
        bodies = {site: Stop(reason=command.reason) for site in command.sites}
        self._ask_sites(bodies, self._place(0), Stopped)
        return {}

    def _dismiss(self, members: tuple[str, ...]) -> None:
        """Let those who were lost on the way settle, if they can be reached; nobody waits long."""
        lost = [site for site in self._sites if site not in members]
        body = Stop(reason="the job is over")
        self._ask_sites(dict.fromkeys(lost, body), self._place(0), Stopped, wait_s=DISMISS_WAIT_S)

    # -- talking to hospitals -------------------------------------------------------------------

    def _ask_sites(
        self,
        bodies: Mapping[str, Body],
        place: Place,
        cls: type[B],
        take: Callable[[str, B], Answer] = lambda _, __: Answer(),
        *,
        wait_s: float | None = None,
    ) -> dict[str, tuple[B | None, Answer]]:
        """Send each hospital its message and read the answers as they come."""
        names = {self._sites[site].node: site for site in bodies}
        packets = {
            self._sites[site].node: self._pack(body, place, self._sites[site].fingerprint)
            for site, body in bodies.items()
        }
        answers: dict[str, tuple[B | None, Answer]] = {}
        for arrival in self._ask(packets, wait_s):
            site = names[arrival.node]
            answers[site] = self._read(arrival, site, place, cls, take)
            code = answers[site][1].code
            if code is not None:
                self._refusals[site] = str(code)
        return answers

    def _read(
        self,
        arrival: Arrival,
        site: str,
        place: Place,
        cls: type[B],
        take: Callable[[str, B], Answer],
    ) -> tuple[B | None, Answer]:
        try:
            header = self._opened(arrival, self._sites[site].signing)
            if header is None or arrival.packet is None:
                return None, Answer(code=Code.DEADLINE)
            if arrival.packet.kind == Refused.KIND:
                return None, Answer(code=read_body(arrival.packet, header, Refused).code)
            if _place_of(header) != place:
                return None, Answer(code=Code.REPLAYED)
            body = read_body(arrival.packet, header, cls)
            return body, take(site, body)
        except IntegrityError:
            return None, Answer(code=Code.SIGNATURE)
        except FedwardError:
            return None, Answer(code=Code.FAILED)

    def _ask(self, packets: Mapping[int, Packet], wait_s: float | None = None) -> Iterator[Arrival]:
        self._traffic[1] += sum(packet.size for packet in packets.values())
        for arrival in self._exchange.ask(packets, timeout_s=wait_s or self._job.timeout_s):
            self._traffic[0] += 0 if arrival.packet is None else arrival.packet.size
            yield arrival

    def _opened(self, arrival: Arrival, signing: bytes) -> Header | None:
        if arrival.packet is None:
            return None
        header = open_header(arrival.packet, signing)
        if header.recipient != self._launch.key.fingerprint or header.job != self._job.digest:
            raise IntegrityError("an answer to somebody else or to another job")
        return header

    def _pack(self, body: Body, place: Place, recipient: str) -> Packet:
        return pack(
            body,
            place,
            self._launch.key,
            recipient=recipient,
            deadline=time.time() + self._job.timeout_s,
        )

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
        if kind == "enrolled":
            self._refusals.update(
                {s: "refused" for s in self._rules.sites if s not in after.members}
            )
        event = Event(
            kind=kind,
            round=before.round,
            sites=after.members,
            seconds=seconds,
            bytes_up=self._traffic[0],
            bytes_down=self._traffic[1],
            detail=detail,
            metrics=self._metrics,
        )
        self._events.append(event)
        self._launch.watch(event)


def _place_of(header: Header) -> Place:
    return Place(job=header.job, epoch=header.epoch, attempt=header.attempt, cohort=header.cohort)


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
