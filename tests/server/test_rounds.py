from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.errors import Code
from server.requests import EncryptionRequest
from server.rounds import advance, resume, start
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
    Stop,
)
from tests.consortium import make_job, make_request

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


class TestWithoutIncident:
    def test_the_whole_course_of_an_encrypted_job(self) -> None:
        everybody: dict[str, Any] = {"epoch": 1, "members": SITES}
        assert commands(make_rules()) == [
            Enrol(sites=SITES),
            MakeKeys(maker="cedar", epoch=1, members=SITES),
            Attempt(**everybody, attempt=1, round=1, train=True, fresh_keys=True),
            Attempt(**everybody, attempt=2, round=2, train=True, total_attempt=1),
            Attempt(**everybody, attempt=3, round=3, finish=True, total_attempt=2),
            Stop(sites=SITES, reason="", status="completed"),
            Done("completed", ""),
        ]

    def test_the_finished_model_is_counted_before_it_is_stored(self) -> None:
        *_, train, count, finish, _, done = commands(make_rules(evaluated=True))
        everybody: dict[str, Any] = {"epoch": 1, "members": SITES}
        assert train == Attempt(**everybody, attempt=2, round=2, train=True, total_attempt=1)
        assert count == Attempt(**everybody, attempt=3, round=3, evaluate=True, total_attempt=2)
        assert finish == Attempt(
            **everybody, attempt=4, round=3, finish=True, total_attempt=0, counts_attempt=3
        )
        assert done == Done("completed", "")

    def test_without_encryption_the_first_attempt_brings_the_cohort(self) -> None:
        run = commands(make_rules(encrypted=False, masked=False))
        assert run[1] == Attempt(
            epoch=1, attempt=1, round=1, members=SITES, train=True, fresh_keys=True
        )
        assert not any(isinstance(command, MakeKeys) for command in run)

    @pytest.mark.parametrize(
        ("rounds", "every", "expected"),
        [
            (4, 0, ["t1", "t2", "t3", "t4", "e5"]),
            (4, 1, ["t1", "te2", "te3", "te4", "e5"]),
            (4, 2, ["t1", "t2", "te3", "t4", "e5"]),
            (4, 3, ["t1", "t2", "t3", "te4", "e5"]),
            (4, 4, ["t1", "t2", "t3", "t4", "e5"]),
            (4, 9, ["t1", "t2", "t3", "t4", "e5"]),
            (1, 1, ["t1", "e2"]),
        ],
    )
    def test_intermediate_models_are_counted_every_so_often(
        self, rounds: int, every: int, expected: list[str]
    ) -> None:
        rules = make_rules(rounds=rounds, evaluated=True, evaluate_every=every)
        *released, finish = attempts(commands(rules))
        assert [
            "t" * command.train + "e" * command.evaluate + str(command.round)
            for command in released
        ] == expected
        assert (finish.finish, finish.train, finish.evaluate) == (True, False, False)

    def test_counts_go_back_with_the_next_message(self) -> None:
        rules = make_rules(rounds=3, evaluated=True, evaluate_every=1)
        run = attempts(commands(rules))
        for before, after in pairwise(run):
            assert after.total_attempt == (before.attempt if before.train else 0)
            assert after.counts_attempt == (before.attempt if before.evaluate else 0)

    def test_every_state_can_be_written_down_and_read_again(self) -> None:
        for state in play(make_rules(evaluated=True), {}, {"cedar": SILENT}, {"elm": SILENT}):
            assert decode(State, to_canonical(state), "state") == state

    def test_what_is_over_stays_over(self) -> None:
        done = play(make_rules())[-1]
        assert advance(make_rules(), done, {}) is done


class TestEnrolment:
    def test_who_refuses_is_left_out(self) -> None:
        refusal = {"elm": Answer(code=Code.POLICY), "birch": SILENT}
        states = play(make_rules(), refusal)
        assert states[1].members == ("ash", "cedar", "date")
        assert states[1].fingerprints == {"ash": "9", "cedar": "1", "date": "7"}
        assert states[-1].command == Done("completed", "")

    def test_too_few_are_told_to_stop_and_the_reasons_are_listed(self) -> None:
        refusals = {
            "elm": Answer(code=Code.POLICY),
            "birch": SILENT,
            "cedar": Answer(code=Code.BUDGET),
        }
        stop, done = commands(make_rules(), refusals)[1:]
        reason = "2 hospitals accepted, 3 needed (birch: deadline, cedar: budget, elm: policy)"
        assert stop == Stop(sites=("ash", "date"), reason=reason)
        assert done == Done("failed", reason)

    def test_nobody_refused_and_still_too_few(self) -> None:
        run = commands(make_rules(min_sites=6))
        assert run[-1] == Done("failed", "5 hospitals accepted, 6 needed")

    def test_enough_honest_hospitals_are_needed_beyond_the_colluding_ones(self) -> None:
        rules = make_rules(colluding_sites=3)
        assert commands(rules)[-1] == Done("completed", "")
        assert isinstance(commands(rules, {"elm": SILENT})[-2], Stop)

    def test_another_initial_model_stops_the_job_and_names_the_hospital(self) -> None:
        odd = Answer(key=FINGERPRINTS["date"], initial_weights="another digest")
        stop, done = commands(make_rules(), {"date": odd})[1:]
        assert isinstance(stop, Stop)
        assert stop.sites == SITES
        assert done == Done(
            "failed", "initial weights differ at date: install the same release everywhere"
        )

    def test_the_more_frequent_initial_model_counts(self) -> None:
        strange = {
            site: Answer(key=FINGERPRINTS[site], initial_weights="another digest")
            for site in ("ash", "birch", "cedar")
        }
        (_, stop, _) = commands(make_rules(), strange)
        assert isinstance(stop, Stop)
        assert "differ at date, elm:" in stop.reason


class TestWhereAHospitalSaysThatItStands:
    """Its numbers move everybody's, and every ledger counts them."""

    def test_at_most_where_the_job_is(self) -> None:
        state = play(make_rules())[4]
        numbers = {"step": state.round - 1, "epoch": state.epoch, "attempt": state.attempt}
        assert min(numbers.values()) > 0
        assert self.asked_again(state, numbers) is None
        for name, most in numbers.items():
            for number in (most + 1, -1):
                assert self.asked_again(state, numbers | {name: number}) == Code.FAILED, name

    def test_at_most_as_far_as_any_job_goes_where_nothing_is_kept(self) -> None:
        rules = make_rules()
        far = max(state.attempt for state in play(make_rules(evaluated=True)))
        told = Answer(key="2", initial_weights="digest", attempt=far, step=rules.rounds)
        first = play(rules, {"elm": told})[1]
        assert first.attempt == first.used["elm"] == far
        absurd = replace(told, attempt=rules.attempts + 1)
        first = play(rules, {"elm": absurd})[1]
        assert (first.attempt, first.lost) == (0, {"elm": "failed"})

    def asked_again(self, state: State, numbers: Mapping[str, Any]) -> str | None:
        """What becomes of a hospital that was lost and comes back with these numbers."""
        members = tuple(site for site in SITES if site != "elm")
        asking = replace(state, members=members, command=Enrol(sites=("elm",), again=True))
        answer = Answer(key="2", initial_weights="digest", **numbers)
        return advance(make_rules(), asking, {"elm": answer}).lost.get("elm")


class TestKeys:
    def test_a_maker_that_fails_is_left_out_and_the_next_one_makes_them(self) -> None:
        run = commands(make_rules(), {}, {"cedar": SILENT})
        rest = ("ash", "birch", "date", "elm")
        assert run[1:4] == [
            MakeKeys(maker="cedar", epoch=1, members=SITES),
            MakeKeys(maker="elm", epoch=2, members=rest),
            Attempt(epoch=2, attempt=1, round=1, members=rest, train=True, fresh_keys=True),
        ]

    def test_a_maker_that_fails_uses_up_a_spare_attempt(self) -> None:
        rules = make_rules(spare_attempts=1, min_sites=3)
        run = commands(rules, {}, {"cedar": SILENT}, {"elm": SILENT})
        assert run[-2] == Stop(sites=("ash", "birch", "date"), reason="more than 1 attempts failed")

    def test_too_few_are_left_without_the_maker(self) -> None:
        run = commands(make_rules(min_sites=5), {}, {"cedar": SILENT})
        assert run[-2] == Stop(
            sites=("ash", "birch", "date", "elm"), reason="4 hospitals are left, 5 are needed"
        )


class TestVoidAttempts:
    def test_the_survivors_try_again_in_a_new_epoch(self) -> None:
        rest = ("ash", "birch", "date", "elm")
        run = commands(make_rules(), {}, {}, {"cedar": SILENT})
        assert run[2:5] == [
            Attempt(epoch=1, attempt=1, round=1, members=SITES, train=True, fresh_keys=True),
            MakeKeys(maker="elm", epoch=2, members=rest),
            Attempt(epoch=2, attempt=2, round=1, members=rest, train=True, fresh_keys=True),
        ]
        assert run[-1] == Done("completed", "")

    @pytest.mark.parametrize("code", list(Code))
    def test_every_kind_of_failure_is_a_void(self, code: Code) -> None:
        states = play(make_rules(), {}, {}, {}, {"ash": Answer(code=code)})
        assert (states[4].voids, states[4].members) == (1, SITES[1:])

    def test_survivors_of_a_void_have_applied_the_sum_that_it_carried(self) -> None:
        run = attempts(commands(make_rules(), {}, {}, {}, {"elm": SILENT}))
        second, again, finish = run[1:]
        assert (second.round, second.total_attempt) == (2, 1)
        assert (again.round, again.attempt, again.total_attempt) == (2, 3, 0)
        assert (finish.total_attempt, finish.attempt) == (3, 4)

    def test_a_void_count_of_the_finished_model_is_repeated(self) -> None:
        rules = make_rules(evaluated=True)
        run = attempts(commands(rules, {}, {}, {}, {}, {"elm": SILENT}))
        count, again, finish = run[2:]
        assert (count.evaluate, count.attempt, count.total_attempt) == (True, 3, 2)
        assert (again.evaluate, again.attempt, again.total_attempt) == (True, 4, 0)
        assert (again.fresh_keys, again.epoch) == (True, 2)
        assert (finish.finish, finish.attempt, finish.counts_attempt) == (True, 5, 4)

    def test_a_void_attempt_with_counts_repeats_both(self) -> None:
        rules = make_rules(evaluated=True, evaluate_every=1)
        run = attempts(commands(rules, {}, {}, {}, {"elm": SILENT}))
        for attempt in run[1:3]:
            assert (attempt.round, attempt.train, attempt.evaluate) == (2, True, True)

    def test_too_few_survivors_stop(self) -> None:
        silent = dict.fromkeys(("ash", "birch", "cedar"), SILENT)
        run = commands(make_rules(), {}, {}, silent)
        reason = "2 hospitals are left, 3 are needed"
        assert run[-2:] == [Stop(sites=("date", "elm"), reason=reason), Done("failed", reason)]

    @pytest.mark.parametrize("spare", [0, 1, 2])
    def test_spare_attempts_are_used_up(self, spare: int) -> None:
        rules = make_rules(spare_attempts=spare, min_sites=1, min_honest=1, colluding_sites=0)
        # One hospital after another fails in the first round's attempt.
        failures: list[dict[str, Answer]] = [{}]
        for site in SITES[: spare + 1]:
            failures += [{}, {site: SILENT}]
        run = commands(rules, *failures)
        assert run[-1] == Done("failed", f"more than {spare} attempts failed")
        assert len(attempts(run)) == spare + 1
        assert commands(rules, *failures[:-1])[-1] == Done("completed", "")

    def test_another_model_at_one_hospital_is_a_void_without_it(self) -> None:
        states = play(make_rules(), {}, {}, {}, {"date": ODD})
        assert (states[4].voids, states[4].members) == (1, ("ash", "birch", "cedar", "elm"))

    def test_no_two_agree(self) -> None:
        strange = {site: Answer(key=f"tag of {site}") for site in SITES}
        run = commands(make_rules(), {}, {}, strange)
        assert isinstance(run[-2], Stop)
        assert run[-2].sites == ("ash",)


class TestUnmasked:
    RULES = make_rules(masked=False, min_honest=1, colluding_sites=0)

    def test_a_sum_of_whoever_came_goes_on_in_the_same_epoch(self) -> None:
        states = play(self.RULES, {}, {}, {"cedar": SILENT})
        after = states[3]
        assert after.command == Attempt(
            epoch=1,
            attempt=2,
            round=2,
            members=("ash", "birch", "date", "elm"),
            train=True,
            total_attempt=1,
        )
        assert (after.voids, states[-1].command) == (0, Done("completed", ""))

    def test_losing_hospitals_costs_no_spare_attempt(self) -> None:
        rules = replace(self.RULES, spare_attempts=0, rounds=3)
        run = commands(rules, {}, {}, {"cedar": SILENT}, {"elm": SILENT})
        assert run[-1] == Done("completed", "")
        assert [command.round for command in attempts(run)] == [1, 2, 3, 4]

    def test_with_too_few_the_attempt_is_void_and_nothing_is_left_to_do(self) -> None:
        silent = dict.fromkeys(("ash", "birch", "cedar"), SILENT)
        run = commands(self.RULES, {}, {}, silent)
        assert run[-1] == Done("failed", "2 hospitals are left, 3 are needed")


class TestFinish:
    TURNS: tuple[dict[str, Answer], ...] = ({}, {}, {}, {})

    def test_a_missing_confirmation_is_forgiven_while_enough_agree(self) -> None:
        run = commands(make_rules(), *self.TURNS, {"elm": SILENT, "ash": SILENT})
        assert run[-1] == Done("completed", "")

    def test_too_few_confirmations_fail_and_name_who_is_missing(self) -> None:
        silent = dict.fromkeys(("elm", "ash", "cedar"), SILENT)
        run = commands(make_rules(), *self.TURNS, silent)
        assert run[-1] == Done("failed", "no confirmation of the model from ash, cedar, elm")

    @pytest.mark.parametrize("masked", [True, False])
    def test_differing_models_fail_and_name_the_odd_ones(self, *, masked: bool) -> None:
        run = commands(make_rules(masked=masked), *self.TURNS, {"birch": ODD})
        assert run[-1] == Done("failed", "models differ at birch; none is released")


class TestRulesOfAJob:
    def test_masked(self) -> None:
        rules = Rules.of(make_job(request=make_request(hospitals=4)))
        assert rules == Rules(
            rounds=2,
            spare_attempts=2,
            sites=("north", "south", "east", "west"),
            min_sites=3,
            min_honest=2,
            colluding_sites=1,
            encrypted=True,
            masked=True,
            evaluate_every=0,
            evaluated=True,
        )

    def test_local_without_masks(self) -> None:
        request = make_request(mode="local", encryption=EncryptionRequest(masks=False))
        rules = Rules.of(make_job(request=request))
        assert (rules.encrypted, rules.masked) == (True, False)
        assert (rules.min_honest, rules.colluding_sites) == (1, 0)

    def test_clear(self) -> None:
        rules = Rules.of(make_job(request=make_request(mode="none", clear=True)))
        assert (rules.encrypted, rules.masked) == (False, False)


@st.composite
def some_rules(draw: st.DrawFn) -> Rules:
    """Rules as `Rules.of` makes them: unmasked jobs count no colluding hospitals."""
    masked = draw(st.booleans())
    return Rules(
        rounds=draw(st.integers(1, 4)),
        spare_attempts=draw(st.integers(0, 3)),
        sites=SITES[: draw(st.integers(1, 5))],
        min_sites=draw(st.integers(1, 4)),
        min_honest=2 if masked else 1,
        colluding_sites=draw(st.integers(0, 2)) if masked else 0,
        encrypted=masked or draw(st.booleans()),
        masked=masked,
        evaluate_every=draw(st.integers(0, 3)),
        evaluated=draw(st.booleans()),
        rejoin=draw(st.booleans()),
    )


@dataclass(frozen=True)
class Incident:
    """What goes wrong at one command.

    Args:
        silent: Hospitals whose answers do not come, and whether they carried the command out.
        restarted: Hospitals that are restarted afterwards.
        odd: A hospital with other weights.
        crashed: The coordinator ends before it learns of any answer.
        summed: Whether the sums are there.
        back: Whether lost hospitals are connected again.
    """

    silent: Mapping[str, bool]
    restarted: frozenset[str]
    odd: str
    crashed: bool
    summed: bool
    back: bool


QUIET = Incident({}, frozenset(), "", crashed=False, summed=True, back=False)
mishaps = st.builds(
    Incident,
    silent=st.dictionaries(st.sampled_from(SITES), st.booleans(), max_size=1),
    restarted=st.frozensets(st.sampled_from(SITES), max_size=1),
    odd=st.sampled_from(["", "", "", "", *SITES[:1]]),
    crashed=st.booleans(),
    summed=st.sampled_from([True, True, True, False]),
    back=st.booleans(),
)


def suffer(rules: Rules, world: World, state: State, incident: Incident) -> State:
    """The state after a command during which something goes wrong."""
    lost = {s: SILENT for s, done in incident.silent.items() if not done}
    # Where one is enough it may be left alone, and there is nobody by whom its weights are odd.
    if incident.odd and isinstance(state.command, Attempt) and rules.needed > 1:
        lost[incident.odd] = ODD
    answers = world.answer(state.command, lost)
    answers.update({s: SILENT for s in incident.silent if s in answers})
    for site in incident.restarted:
        world.nodes[site].restart()
    if incident.crashed:
        again = decode(State, to_canonical(state), "state")
        return resume(rules, again)
    world.heard(state.command, answers)
    back = SITES if incident.back else ()
    return advance(rules, state, answers, summed=incident.summed, back=back)


@settings(max_examples=400, deadline=None)
@given(
    rules=some_rules(),
    incidents=st.lists(st.one_of(st.just(QUIET), st.just(QUIET), mishaps), max_size=40),
)
def test_whatever_happens(rules: Rules, incidents: list[Incident]) -> None:
    world, states = World(rules), [start(rules)]
    for turn in range(400):
        state = states[-1]
        if isinstance(state.command, Done):
            break
        if isinstance(state.command, Attempt) and state.command.releases:
            assert rules.enough(state.command.members)
        incident = incidents[turn] if turn < len(incidents) else QUIET
        states.append(suffer(rules, world, state, incident))
        assert states[-1].epoch >= state.epoch
        members = states[-1].members
        assert members == tuple(site for site in rules.sites if site in members)
    done = states[-1].command
    assert isinstance(done, Done)
    assert (done.status == "failed") == bool(done.reason)
    updates = {attempt for _, purpose, attempt in world.released if purpose == "update"}
    # The ledger of every hospital counts numbers, whether or not anything came of them.
    assert max(updates, default=0) <= rules.rounds + rules.spare_attempts
    if done.status == "completed":
        stored = [site for site in rules.sites if world.nodes[site].finished]
        assert rules.enough(tuple(stored))
        assert {world.nodes[site].step for site in states[-1].confirmed} == {rules.rounds}
