"""Five hospitals as far as the state machine of a job sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from protocol.errors import Code
from server.rounds import advance, start
from server.terms import (
    Answer,
    Attempt,
    Command,
    Done,
    Enrol,
    MakeKeys,
    Rules,
    Share,
    State,
)

SITES = ("ash", "birch", "cedar", "date", "elm")
# Not in the order of the names, so that the maker is chosen by fingerprint.
FINGERPRINTS = {"ash": "9", "birch": "4", "cedar": "1", "date": "7", "elm": "2"}
SILENT = Answer(code=Code.DEADLINE)
ODD = Answer(key="another tag", initial_weights="another digest")


def make_rules(**changes: Any) -> Rules:
    usual = Rules(
        rounds=2,
        spare_attempts=2,
        sites=SITES,
        min_sites=3,
        min_honest=2,
        colluding_sites=1,
        encrypted=True,
        masked=True,
        evaluate_every=0,
        evaluated=False,
        rejoin=False,
    )
    return replace(usual, **changes)


def asked(command: Command) -> tuple[str, ...]:
    """Hospitals whose answers a command waits for."""
    match command:
        case Enrol(sites=sites):
            return sites
        case MakeKeys(maker=maker):
            return (maker,)
        case Share(members=members) | Attempt(members=members):
            return members
        case _:
            return ()


@dataclass
class Node:
    """What one hospital holds, kept without the machine.

    A restart loses its keys: it must enrol again, with another statement of new ones.
    """

    step: int = 0
    attempt: int = 0
    epoch: int = 0
    statement: int = 0
    live: bool = False
    keyed: bool = False
    finished: bool = False
    metrics: int = 0

    def restart(self) -> None:
        self.statement += self.live
        self.live = self.keyed = False


class World:
    """Hospitals that do what they are asked, and hold every command against what they hold."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.nodes = {site: Node() for site in SITES}
        self.seats: dict[str, int] = {}
        self.summed: dict[int, int] = {}
        self.counts_of_the_model = {0} if not rules.evaluated else set()
        self.shared = 0
        self.released: set[tuple[str, str, int]] = set()

    def answer(self, command: Command, strange: Mapping[str, Answer]) -> dict[str, Answer]:
        """Everybody's right answer but for the strange ones, who have done nothing."""
        answers = {
            site: strange[site] if site in strange else self._answer(site, command)
            for site in asked(command)
        }
        if isinstance(command, Attempt):
            self._add(command, answers)
        return answers

    def heard(self, command: Command, answers: Mapping[str, Answer]) -> None:
        """The coordinator knows the keys of whoever enrolled and was heard."""
        for site in asked(command) if isinstance(command, Enrol) else ():
            if answers[site].code is None:
                self.seats[site] = self.nodes[site].statement

    def _answer(self, site: str, command: Command) -> Answer:
        node = self.nodes[site]
        if isinstance(command, Enrol):
            node.live = True
            return Answer(
                key=FINGERPRINTS[site],
                initial_weights="digest",
                known=self.seats.get(site) == node.statement,
                step=node.step,
                epoch=node.epoch,
                attempt=node.attempt,
                finished=node.finished,
            )
        if not node.live:
            return Answer(code=Code.SESSION)
        if isinstance(command, Share | Attempt) and not self._enter(site, node, command):
            return Answer(code=Code.COHORT)
        if isinstance(command, Share):
            assert node.step == command.base
            assert command.attempt > node.attempt
            # They sign weights and metrics together, so they must hold the same.
            self.shared = self.nodes[command.sender].metrics
            assert node.metrics == self.shared
        if isinstance(command, Attempt):
            self._step(site, node, command)
        return Answer(key="tag")

    def _enter(self, site: str, node: Node, command: Share | Attempt) -> bool:
        """Whether the node is in the command's epoch, which may begin with it."""
        begins = isinstance(command, Share) or (
            command.fresh_keys and (site in command.lacking or not command.lacking)
        )
        if begins and self.seats[site] == node.statement:
            assert command.epoch > node.epoch
            node.epoch, node.keyed = command.epoch, True
        return node.keyed and node.epoch == command.epoch

    def _step(self, site: str, node: Node, command: Attempt) -> None:
        newer = command.attempt > node.attempt
        assert newer or (command.attempt == node.attempt and not command.releases)
        if site in command.lacking:
            node.step, node.metrics = command.round - 1, self.shared
        if command.total_attempt and node.step == command.round - 2:
            assert command.total_attempt == node.attempt
            assert self.summed[command.total_attempt] == node.step + 1
            node.step += 1
        assert node.step == command.round - 1
        final = command.round > self.rules.rounds
        if command.counts_attempt and final and not command.evaluate and not node.metrics:
            assert command.counts_attempt == node.attempt
            node.metrics = command.counts_attempt
        if command.evaluate and final:
            self.counts_of_the_model.add(command.attempt)
        if command.finish:
            assert node.metrics in self.counts_of_the_model
            node.finished = True
        for purpose, wanted in (("update", command.train), ("counts", command.evaluate)):
            if wanted:
                assert (site, purpose, command.attempt) not in self.released
                self.released.add((site, purpose, command.attempt))
        node.attempt = command.attempt

    def _add(self, command: Attempt, answers: Mapping[str, Answer]) -> None:
        """A sum is usable if it has everybody's part, or is not masked."""
        came = [site for site in command.members if answers[site].code is None]
        agree = len({answers[site].key for site in came}) == 1
        whole = len(came) == len(command.members) and agree
        if command.train and (whole or not self.rules.masked):
            self.summed[command.attempt] = command.round


def play(rules: Rules, *strange: Mapping[str, Answer]) -> list[State]:
    """Every state of a run whose n-th command is answered with the n-th strange answers."""
    states, world = [start(rules)], World(rules)
    while not isinstance(states[-1].command, Done):
        turn = len(states) - 1
        odd = strange[turn] if turn < len(strange) else {}
        answers = world.answer(states[-1].command, odd)
        world.heard(states[-1].command, answers)
        states.append(advance(rules, states[-1], answers))
    return states


def commands(rules: Rules, *strange: Mapping[str, Answer]) -> list[Command]:
    return [state.command for state in play(rules, *strange)]


def attempts(run: Sequence[Command]) -> list[Attempt]:
    return [command for command in run if isinstance(command, Attempt)]
