"""Errors: one root, structured messages, and places that keep the class."""

import pytest

from protocol.errors import (
    BudgetError,
    BusyError,
    Code,
    FedwardError,
    InputError,
    IntegrityError,
    RefusalError,
)

PLAIN = (FedwardError, InputError, BudgetError, BusyError, IntegrityError)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_message_joins_the_parts_that_are_there(kind: type[FedwardError]) -> None:
    error = kind("problem", expected="this", found="that", remedy="do it")
    assert str(error) == "problem; expected this; found that; do it"
    assert str(kind("problem")) == "problem"
    assert str(kind("problem", found="")) == "problem; found "


@pytest.mark.parametrize("kind", PLAIN)
def test_a_place_comes_in_front_and_the_rest_stays(kind: type[FedwardError]) -> None:
    error = kind("problem", expected="this", remedy="do it").at("inner").at("outer")
    assert type(error) is kind
    assert str(error) == "outer: inner: problem; expected this; do it"


def test_a_refusal_keeps_its_code() -> None:
    error = RefusalError(Code.BUDGET, "problem", expected="this", found="that", remedy="do it")
    placed = error.at("job")
    assert (placed.code, error.code) == (Code.BUDGET, Code.BUDGET)
    assert str(placed) == "job: problem; expected this; found that; do it"


def test_only_a_persons_mistakes_exit_with_two() -> None:
    assert {kind: kind.exit_code for kind in (*PLAIN, RefusalError)} == {
        FedwardError: 1,
        InputError: 2,
        BudgetError: 2,
        BusyError: 1,
        IntegrityError: 1,
        RefusalError: 1,
    }


def test_codes_are_words_that_say_nothing_of_patients() -> None:
    assert all(code.isalpha() and code.islower() for code in Code)
    assert len(set(Code)) == len(Code.__members__)
