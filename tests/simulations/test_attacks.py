"""The attacks as regressions: they work where nothing defends, and end at the defaults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from learning.task import IntVector
from privacy import channel, grid
from privacy.he.bits import Words
from privacy.noise import Entropy
from simulations import attack_views
from simulations.attack_config import AttackConfig, Inversion, Matching, read_attacks
from simulations.attack_guesses import bound_auroc
from simulations.attack_jobs import Defence
from simulations.attack_results import SEEDED_NOTE, Attacks, Line
from simulations.attacks import attack
from tests.simulations.attacked import ENCRYPTION, NONE, SMALL

SHIPPED = Path(__file__).parents[2] / "configs" / "simulations" / "attacks.yaml"
ALONE = replace(SMALL, matching=None, imprint=None, membership=None)


@pytest.fixture(scope="module")
def heard() -> list[str]:
    return []


@pytest.fixture(scope="module")
def attacks(heard: list[str]) -> Attacks:
    return attack(SMALL, watch=heard.append)


def line(attacks: Attacks, name: str, *, summed: int = 1, colluders: int = 0) -> Line:
    (found,) = (
        one
        for one in attacks.lines
        if (one.attack, one.summed, one.colluders) == (name, summed, colluders)
    )
    return found


def shares(of: Line, chosen: Callable[[Defence], bool]) -> list[float]:
    found = [score.share for defence, score in of.scores.items() if chosen(defence)]
    assert found
    return found


def every_line(attacks: Attacks) -> list[tuple[Line, Defence]]:
    return [(one, defence) for one in attacks.lines for defence in one.scores]


class TestWithoutDefences:
    @pytest.mark.parametrize("name", ["inversion", "matching"])
    def test_an_update_of_one_record_is_that_record(self, attacks: Attacks, name: str) -> None:
        assert line(attacks, name).scores[NONE].share >= 0.95

    def test_the_sum_of_four_hospitals_gives_most_of_128_records(self, attacks: Attacks) -> None:
        found = line(attacks, "imprint", summed=4)
        assert len(found.truth_NF) == 128
        assert found.scores[NONE].share > 0.5
        assert found.scores[NONE].errors_N.shape == (128,)

    def test_so_does_one_update(self, attacks: Attacks) -> None:
        assert line(attacks, "imprint").scores[NONE].share > 0.8

    def test_members_are_told_from_others(self, attacks: Attacks) -> None:
        coordinator, hospital = (told.guesses[NONE] for told in attacks.told)
        assert coordinator.auroc == pytest.approx(hospital.auroc, abs=1e-6)
        assert hospital.auroc > 0.6 + 3 * hospital.auroc_error


class TestDefaults:
    """Noise and encryption together, at epsilon 3 and at epsilon 1."""

    def test_not_one_record_comes_back(self, attacks: Attacks) -> None:
        behind = [(one, defence) for one, defence in every_line(attacks) if defence.kind == "both"]
        assert {defence.epsilon for _, defence in behind} == {1.0, 3.0}
        assert len(behind) == 2 * len(attacks.lines)
        assert [one.scores[defence].hits for one, defence in behind] == [0] * len(behind)

    def test_neither_does_any_with_noise_alone(self, attacks: Attacks) -> None:
        """An observation of these attacks; what noise guarantees is epsilon."""
        behind = [(one, defence) for one, defence in every_line(attacks) if defence.kind == "noise"]
        assert [one.scores[defence].hits for one, defence in behind] == [0] * len(behind)

    def test_guesses_stay_within_the_bound(self, attacks: Attacks) -> None:
        for told in attacks.told:
            for defence, guesses in told.guesses.items():
                if defence.epsilon is not None:
                    limit = bound_auroc(defence.epsilon, SMALL.delta)
                    assert guesses.auroc < limit + 3 * guesses.auroc_error

    def test_the_verdict_is_that_of_the_numbers(self, attacks: Attacks) -> None:
        assert attacks.passed
        assert attacks.verdict.startswith("PASS")


class TestEncryptionAlone:
    """What it stops, and what it does not: why there is noise as well."""

    @pytest.mark.parametrize(
        ("name", "summed"), [("inversion", 1), ("matching", 1), ("imprint", 1), ("imprint", 4)]
    )
    def test_the_coordinator_alone_gets_nothing(
        self, attacks: Attacks, name: str, summed: int
    ) -> None:
        assert line(attacks, name, summed=summed).scores[ENCRYPTION].hits == 0
        assert abs(attacks.told[0].guesses[ENCRYPTION].auroc - 0.5) < 0.15

    def test_masks_stop_one_hospital_with_the_coordinator(self, attacks: Attacks) -> None:
        assert line(attacks, "inversion", colluders=1).scores[ENCRYPTION].hits == 0

    def test_nothing_stops_all_other_hospitals(self, attacks: Attacks) -> None:
        assert line(attacks, "inversion", colluders=3).scores[ENCRYPTION].share >= 0.95

    def test_a_sum_shows_a_hospital_the_records_of_a_planted_layer(self, attacks: Attacks) -> None:
        assert line(attacks, "imprint", summed=4, colluders=1).scores[ENCRYPTION].share > 0.5

    def test_the_model_tells_a_hospital_who_was_in(self, attacks: Attacks) -> None:
        clear, encrypted = (attacks.told[1].guesses[one].auroc for one in (NONE, ENCRYPTION))
        assert encrypted == pytest.approx(clear, abs=0.02)


class TestControls:
    def test_candidates_hit_no_record_that_was_never_used(self, attacks: Attacks) -> None:
        for one in attacks.lines:
            assert [score.control for score in one.scores.values()] == [0.0] * len(one.scores)

    def test_every_defence_meets_the_same_records(self, attacks: Attacks) -> None:
        inverted = line(attacks, "inversion")
        back = inverted.scores[NONE].nearest_NF
        assert back == pytest.approx(inverted.truth_NF, abs=1e-6)
        collusion = line(attacks, "inversion", colluders=3)
        assert collusion.scores[ENCRYPTION].nearest_NF == pytest.approx(inverted.truth_NF, abs=0.2)

    def test_nodes_refuse_planted_weights(self, attacks: Attacks) -> None:
        assert set(attacks.refused) == {"encryption", "both, epsilon 3", "both, epsilon 1"}
        for answers in attacks.refused.values():
            assert len(answers) == 2
            assert all(answers.values())

    def test_seeded_noise_is_said(self, attacks: Attacks) -> None:
        assert SEEDED_NOTE in attacks.notes

    def test_progress_names_every_attack_and_defence(
        self, attacks: Attacks, heard: list[str]
    ) -> None:
        assert len(heard) == 4 * len(attacks.lines[0].scores)
        assert "imprint: both, epsilon 1" in heard


class TestSensitivity:
    """A defence that is silently missing is seen: the zeros above are not the attacks' weakness."""

    CONFIG = replace(ALONE, inversion=Inversion(records=(1,), updates=2), epsilons=(1.0,))

    def test_missing_noise(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def silence(_: float, size: int, __: Entropy) -> IntVector:
            return np.zeros(size, dtype=np.int64)

        monkeypatch.setattr(grid, "discrete_gaussian", silence)
        found = attack(self.CONFIG)
        assert "recovers 100.0% of the records behind both, epsilon 1" in found.verdict

    def test_missing_masks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unmasked(words: Words, *_: object, **__: object) -> Words:
            return words

        monkeypatch.setattr(channel, "mask", unmasked)
        monkeypatch.setattr(attack_views, "_without_mask", lambda _, words, *__: words)
        found = attack(self.CONFIG)
        assert line(found, "inversion", colluders=1).scores[ENCRYPTION].share == 1.0
        assert line(found, "inversion").scores[ENCRYPTION].share == 0.0


class TestChoices:
    def test_only_what_is_asked_for_runs(self) -> None:
        heard: list[str] = []
        config = replace(ALONE, inversion=Inversion(records=(1,), updates=1), epsilons=(1.0,))
        found = attack(config, watch=heard.append)
        assert {text.partition(",")[0] for text in heard} == {"inversion"}
        assert len(found.lines) == 3
        assert not found.told
        assert not found.refused
        assert all(len(one.truth_NF) == 1 for one in found.lines)

    def test_seeded_attacks_can_be_repeated(self) -> None:
        config = replace(ALONE, inversion=Inversion(records=(2,), updates=3), epsilons=(3.0,))
        first, second = (attack(config) for _ in range(2))
        other = attack(replace(config, seed=1))
        for defence in (NONE, Defence(epsilon=3.0, encrypted=False)):
            scores = [found.lines[0].scores[defence].errors_N for found in (first, second, other)]
            assert np.array_equal(scores[0], scores[1])
            assert not np.array_equal(scores[0], scores[2])
        assert len(first.lines[0].truth_NF) == 6

    def test_noise_of_each_hospital_stops_the_same_attacks(self) -> None:
        """In mode `local` too, with three hospitals."""
        config = replace(
            ALONE,
            mode="local",
            hospitals=3,
            epsilons=(3.0,),
            matching=Matching(updates=1, iterations=30),
        )
        found = attack(config)
        assert found.passed
        assert [one.scores[NONE].share for one in found.lines] == [1.0] * 4


@pytest.mark.slow
def test_the_shipped_attacks_in_full() -> None:
    config = read_attacks(SHIPPED)
    assert config == AttackConfig(name="attacks")
    found = attack(config)
    assert found.passed
    json.dumps(found.to_json(), allow_nan=False)
    single, several, many = (
        one for one in found.lines if (one.attack, one.colluders) == ("inversion", 0)
    )
    assert single.scores[NONE].share >= 0.95
    assert several.scores[NONE].share >= 0.85
    assert many.scores[NONE].share < 0.1
    assert line(found, "imprint", summed=4).scores[NONE].share > 0.7
    assert found.told[1].guesses[NONE].auroc > 0.7
    assert all(
        score.hits == 0
        for one in found.lines
        for defence, score in one.scores.items()
        if defence.epsilon is not None
    )
