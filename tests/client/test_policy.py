from __future__ import annotations

import math
from typing import Any, get_args

import pytest

from client.policy import Approval, Budget, Policy, Population
from protocol.config import parse
from protocol.errors import InputError
from protocol.jobs import Mode


class TestDefaults:
    def test_are_the_careful_choice(self) -> None:
        policy = Policy()
        assert "none" not in policy.modes
        assert set(policy.modes) < set(get_args(Mode))
        assert not any((policy.clear_runs, policy.publish_metrics, policy.publish_model))
        assert not any(name.startswith("flwr:") for name in policy.strategies)
        assert policy.min_cohort >= 3
        assert policy.min_colluding_sites >= 1
        assert not Population().public

    def test_an_empty_section_of_the_configuration_means_them(self) -> None:
        assert parse(Policy, {}, "policy") == Policy()
        assert parse(Population, {}, "populations.all") == Population(budget=Budget())

    def test_everything_can_be_forbidden(self) -> None:
        policy = Policy(tasks=(), strategies=(), modes=())
        assert (policy.tasks, policy.strategies, policy.modes) == ((), (), ())


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"min_cohort": 2}, "min_cohort; expected >= 3, since a sum of two tells"),
            ({"epsilon_per_job": 0.0}, "epsilon caps; expected 0 < epsilon_per_job <="),
            ({"epsilon_per_job": -1.0}, "epsilon caps"),
            ({"epsilon_per_job": math.nan}, "epsilon caps"),
            ({"epsilon_worst_per_job": math.nan}, "epsilon caps"),
            ({"epsilon_per_job": 5.0, "epsilon_worst_per_job": 4.9}, "found 5.0 and 4.9"),
            ({"delta": 0.0}, "delta; expected 0 < delta < 1; found 0.0"),
            ({"delta": 1.0}, "delta; expected 0 < delta < 1; found 1.0"),
            ({"delta": math.nan}, "delta"),
            ({"min_colluding_sites": -1}, "min_colluding_sites; expected >= 0; found -1"),
            ({"coordinators": ("me",)}, "coordinators; expected fingerprints of 64 hex"),
            ({"max_rounds": 0}, "max_rounds; expected >= 1; found 0"),
            ({"max_parameters": 0}, "max_parameters; expected >= 1; found 0"),
            ({"min_cell": 0}, "min_cell; expected >= 1; found 0"),
        ],
    )
    def test_of_a_policy(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            Policy(**changes)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"coordinators": ("A" * 64,)}, "coordinators; expected fingerprints"),
            ({"epsilon_per_job": 0.0}, "epsilon_per_job; expected > 0; found 0.0"),
            ({"epsilon_worst_per_job": math.nan}, "epsilon_worst_per_job; expected > 0"),
        ],
    )
    def test_of_an_approval(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            Approval(**changes)

    @pytest.mark.parametrize(
        "changes",
        [
            {"epsilon": 0.0},
            {"epsilon": math.nan},
            {"epsilon": 5.0, "epsilon_worst": 4.0},
            {"epsilon_worst": math.nan},
            {"delta": 0.0},
            {"delta": 1.0},
            {"delta": math.nan},
        ],
    )
    def test_of_a_budget(self, changes: dict[str, float]) -> None:
        with pytest.raises(InputError, match="budget; expected 0 < epsilon <= epsilon_worst"):
            Budget(**changes)

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ({"modes": ["central"]}, r"policy\.modes\[0\]: no such choice; expected one of dist"),
            ({"modes": "local"}, "policy.modes: wrong type; expected a list"),
            ({"min_cohrt": 4}, "policy.min_cohrt: unknown key.*did you mean 'min_cohort'"),
            ({"min_cohort": 1}, "policy: min_cohort; expected >= 3"),
            ({"clear_runs": "yes"}, "policy.clear_runs: wrong type; expected true or false"),
        ],
    )
    def test_of_the_file_are_named_with_their_place(
        self, document: dict[str, object], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            parse(Policy, document, "policy")
