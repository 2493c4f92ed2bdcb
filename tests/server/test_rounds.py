from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.errors import Code
from server.requests import EncryptionRequest
from server.rounds import advance
from server.terms import (
    Answer,
    Attempt,
    Done,
    Enrol,
    MakeKeys,
    Rules,
    State,
    Stop,
)
from tests.consortium import make_job, make_request
from tests.server.rounds_world import (
    FINGERPRINTS,
    ODD,
    SILENT,
    SITES,
    attempts,
    commands,
    make_rules,
    play,
)


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
