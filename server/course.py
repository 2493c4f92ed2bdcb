"""One job from enrolment to its end: the shell around `server.rounds`.

After every command it keeps where the job stands, so that another process can go on from there. It
holds ciphertexts, public keys and signatures, and nothing that could open anything.
"""

from __future__ import annotations

import time

from privacy.he.sum import SumProcess
from server import rounds, terms
from server.attempts import Attempts
from server.correspondence import Correspondence
from server.enrolment import Enrolment
from server.exchange import Exchange, HaltedError
from server.holding import Holding
from server.keeper import Keeper, Nowhere
from server.launch import Event, Launch, Outcome
from server.regroup import absent
from server.sums import Sums
from server.terms import Answer, Rules, State

STOPPED = "stopped by the coordinator"


class Course:
    """One run of one job; where a keeper has a checkpoint of it, the run goes on from there.

    Args:
        launch: The job and its signer.
        exchange: The way to the hospitals.
        child: The keyless process that adds ciphertexts; None in clear runs.
        keeper: Where the job is kept.
    """

    def __init__(
        self,
        launch: Launch,
        exchange: Exchange,
        child: SumProcess | None,
        keeper: Keeper | None = None,
    ) -> None:
        self._launch = launch
        self._exchange = exchange
        self._keeper: Keeper = Nowhere() if keeper is None else keeper
        self._rules = Rules.of(launch.job)
        self._holding = Holding(launch.job)
        self._letters = Correspondence(launch.job, launch.key, exchange)
        self._sums = Sums(launch.job, child)
        self._enrolment = Enrolment(launch, self._letters, self._holding)
        self._attempts = Attempts(launch, self._letters, self._holding, self._sums)
        self._events = list(self._keeper.events())
        self._heads = dict(launch.heads)

    def run(self) -> Outcome:
        """Go from command to command until the job is over.

        Raises:
            FedwardError: What must be kept could not be; the job can be resumed.
        """
        self._exchange.halted = lambda: self._keeper.stop_requested
        state = self._begin()
        while not isinstance(state.command, terms.Done):
            state = self._advance(state)
        # Nobody waits long for those who were lost on the way.
        self._exchange.halted = lambda: False
        others = tuple(site for site in self._holding.sites if site not in state.members)
        reason = state.command.reason or "the job is over"
        self._attempts.stop(others, reason, wait_s=self._launch.patience.dismiss_s)
        self._save_heads()
        return Outcome(
            status=state.command.status,
            reason=state.command.reason,
            refusals=state.lost,
            events=tuple(self._events),
            metrics=self._holding.metrics,
            weights_tag=self._holding.weights_tag,
            model=self._holding.model if state.command.status == "completed" else None,
        )

    def _begin(self) -> State:
        checkpoint = self._keeper.checkpoint
        if checkpoint is None:
            return rounds.start(self._rules)
        self._holding.restore(checkpoint)
        state = rounds.resume(self._rules, checkpoint.state)
        if not self._sums.resumable:
            state = rounds.halt(
                self._rules,
                state,
                "a strategy of Flower keeps its state in the coordinator's process, which ended",
                status="failed",
            )
        self._note("resumed", f"goes on in round {state.round}", checkpoint.state, state, 0.0)
        self._keep(state)
        return state

    def _advance(self, state: State) -> State:
        """Carry one command out, note what happened and keep where the job stands."""
        begin = time.monotonic()
        self._letters.reset()
        if isinstance(state.command, terms.Stop):
            # Who asked for the end has it already.
            self._exchange.halted = lambda: False
        try:
            after = self._answered(state)
            kind, detail = _describe(state, after)
        except HaltedError:
            after = rounds.halt(self._rules, state, STOPPED)
            kind, detail = "stopping", STOPPED
        self._holding.prune(after)
        self._note(kind, detail, state, after, time.monotonic() - begin)
        self._keep(after)
        return after

    def _answered(self, state: State) -> State:
        self._exchange.check()
        answers = self._perform(state.command)
        return rounds.advance(
            self._rules,
            state,
            answers,
            summed=self._attempts.summed,
            back=self._enrolment.back(absent(self._rules, state)),
        )

    def _perform(self, command: terms.Command) -> dict[str, Answer]:
        match command:
            case terms.Enrol():
                return self._enrolment.ask(command)
            case terms.MakeKeys():
                return self._attempts.make_keys(command)
            case terms.Share():
                return self._attempts.share(command)
            case terms.Attempt():
                return self._attempts.attempt(command)
            case terms.Stop():
                self._attempts.stop(command.sites, command.reason)
        return {}

    def _keep(self, state: State) -> None:
        self._save_heads()
        self._keeper.save_checkpoint(self._holding.checkpoint(state))

    def _save_heads(self) -> None:
        heads = self._launch.heads
        newer = {one: head for one, head in heads.items() if self._heads.get(one) != head}
        self._keeper.save_heads(newer)
        self._heads.update(newer)

    def _note(self, kind: str, detail: str, before: State, after: State, seconds: float) -> None:
        event = Event(
            kind=kind,
            round=before.round,
            sites=after.members,
            at=time.time(),
            seconds=seconds,
            bytes_up=self._letters.bytes_up,
            bytes_down=self._letters.bytes_down,
            detail=detail,
            metrics=self._holding.metrics,
            epoch=after.epoch,
            attempt=after.attempt,
            voids=after.voids,
            arrivals=self._letters.arrivals,
            lost=after.lost,
        )
        self._events.append(event)
        self._keeper.append(event)
        self._launch.watch(event)


def _describe(before: State, after: State) -> tuple[str, str]:
    """The kind of an event and its line for people."""
    if after.voids > before.voids:
        return "void", "an attempt is lost; its privacy charge stays spent"
    match before.command:
        case terms.Enrol(sites=sites, again=again):
            count = sum(site in after.members for site in sites)
            return "enrolled", f"{count} of {len(sites)} hospitals{' again' if again else ''}"
        case terms.MakeKeys():
            return "keys", f"epoch {before.epoch}: keys made by one of {len(after.members)}"
        case terms.Share(lacking=lacking):
            return "shared", f"the state goes to {', '.join(lacking)}"
        case terms.Attempt():
            return _attempt(before.command, after)
    return "ended", _ending(after)


def _attempt(command: terms.Attempt, after: State) -> tuple[str, str]:
    if command.train:
        return "round", f"round {command.round}"
    if command.evaluate:
        return "evaluated", "held-out patients counted"
    if command.finish:
        return "finished", f"model stored by {len(after.confirmed)} hospitals"
    return "delivered", "the last sums, before a new epoch"


def _ending(state: State) -> str:
    if not isinstance(state.command, terms.Done):
        return ""
    return "; ".join(part for part in (state.command.reason, state.command.status) if part)
