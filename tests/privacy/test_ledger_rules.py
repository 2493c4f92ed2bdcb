from __future__ import annotations

from collections.abc import Sequence

import pytest

from privacy import ledger_rules as rules
from privacy.charges import Charge
from privacy.ledger_rules import Account, Status
from protocol.errors import BudgetError, Code, InputError, IntegrityError, RefusalError
from tests.privacy.ledgers import CAPS, NOW, charge, job

UPDATE = charge(1, 12)
EVALUATION = charge(1, 3, partition="test")


def account(
    charges: Sequence[Charge] = (UPDATE, EVALUATION),
    *,
    status: Status = "reserved",
    releases: dict[str, list[tuple[int, int]]] | None = None,
    finished: bool = False,
) -> dict[str, Account]:
    return {
        job(1): Account(
            row=2,
            at=NOW,
            charges={one.purpose: one for one in charges},
            caps=CAPS,
            status=status,
            counted=tuple(charges) if status == "reserved" else (),
            releases=releases or {},
            finished=finished,
        )
    }


def test_an_account_counts_uses_releases_and_attempts() -> None:
    one = account(releases={"update": [(1, 1), (2, 4)], "evaluation": [(2, 5)]})[job(1)]
    assert one.used == {"update": 12, "evaluation": 3}
    assert one.least_used == {"update": 2, "evaluation": 1}
    assert one.attempts == 5
    assert one.budgets == [("cardiology", "test"), ("cardiology", "train")]
    assert account()[job(1)].attempts == 0
    assert account(status="void")[job(1)].used == {"update": 0, "evaluation": 0}


def test_nothing_is_found_where_nothing_is_reserved() -> None:
    for accounts in ({}, account(status="void")):
        with pytest.raises(BudgetError, match="no privacy budget is reserved"):
            rules.find(accounts, job(1))


@pytest.mark.parametrize(
    "charges",
    [[], [UPDATE, charge(2, 12, partition="test")], [UPDATE, charge(1, 3, population="stroke")]],
)
def test_a_reservation_is_of_one_job_with_one_charge_for_each_purpose(
    charges: list[Charge],
) -> None:
    with pytest.raises(InputError, match="one job"):
        rules.check_reserve({}, charges)


def test_the_same_reservation_is_recognised_in_any_order() -> None:
    accounts = account()
    assert rules.check_reserve(accounts, [EVALUATION, UPDATE]) is accounts[job(1)]
    assert rules.check_reserve({}, [UPDATE]) is None


def test_another_reservation_of_a_job_is_refused() -> None:
    for charges in ([UPDATE], [charge(1, 13), EVALUATION], [charge(1, 12, sigma=31.0), EVALUATION]):
        with pytest.raises(BudgetError, match="reserved with other numbers"):
            rules.check_reserve(account(), charges)


@pytest.mark.parametrize(
    "accounts",
    [account(status="settled"), account(finished=True), account(status="void", finished=True)],
)
def test_a_job_that_is_over_is_not_reserved_again(accounts: dict[str, Account]) -> None:
    with pytest.raises(RefusalError) as refusal:
        rules.check_reserve(accounts, [UPDATE, EVALUATION])
    assert refusal.value.code is Code.REPLAYED


def test_a_void_job_may_be_reserved_again_with_any_numbers() -> None:
    assert rules.check_reserve(account(status="void"), [charge(1, 5)]) is None


@pytest.mark.parametrize(
    ("epoch", "attempt", "purpose"),
    [(1, 3, "update"), (2, 12, "update"), (1, 2, "evaluation"), (1, 99, "evaluation")],
)
def test_a_release_may_skip_attempts_and_begin_a_new_epoch(
    epoch: int, attempt: int, purpose: str
) -> None:
    rules.check_release(account(releases={"update": [(1, 2)]}), job(1), epoch, attempt, purpose)


@pytest.mark.parametrize(
    ("epoch", "attempt"), [(1, 1), (3, 2), (1, 3), (0, 3), (2, 0), (2, -1), (-1, 4)]
)
def test_a_release_must_go_forward(epoch: int, attempt: int) -> None:
    accounts = account(releases={"update": [(1, 1), (2, 2)]})
    expected = IntegrityError if (epoch, attempt) == (1, 1) else RefusalError
    with pytest.raises(expected):
        rules.check_release(accounts, job(1), epoch, attempt, "update")


def test_a_first_attempt_is_numbered_from_one() -> None:
    with pytest.raises(RefusalError, match="attempt > 0"):
        rules.check_release(account(), job(1), 1, 0, "update")


def test_a_repeated_release_is_an_integrity_error_even_when_the_job_is_over() -> None:
    for finished in (False, True):
        accounts = account(finished=finished, releases={"update": [(1, 1)]})
        with pytest.raises(IntegrityError, match="was released before"):
            rules.check_release(accounts, job(1), 1, 1, "update")


def test_a_release_beyond_the_reserved_attempts_is_refused() -> None:
    used = {"evaluation": [(1, 1), (1, 5), (1, 9)]}
    for purpose, attempt in (("update", 13), ("evaluation", 12)):
        with pytest.raises(RefusalError, match="every reserved attempt") as refusal:
            rules.check_release(account(releases=used), job(1), 1, attempt, purpose)
        assert refusal.value.code is Code.BUDGET


def test_a_release_needs_a_reserved_purpose() -> None:
    with pytest.raises(BudgetError, match="'evaluation'"):
        rules.check_release(account([UPDATE]), job(1), 1, 1, "evaluation")


@pytest.mark.parametrize("accounts", [account(status="settled"), account(finished=True)])
def test_a_job_that_is_over_releases_nothing(accounts: dict[str, Account]) -> None:
    with pytest.raises(RefusalError) as refusal:
        rules.check_release(accounts, job(1), 1, 1, "update")
    assert refusal.value.code is Code.REPLAYED


def test_a_settlement_lies_between_released_and_reserved() -> None:
    accounts = account(releases={"update": [(1, 1), (1, 2)]})
    assert rules.check_settle(accounts, job(1), {"update": 2, "evaluation": 0})
    assert rules.check_settle(accounts, job(1), {"update": 12, "evaluation": 3})
    for update, evaluation in ((1, 0), (13, 0), (2, 4), (2, -1)):
        with pytest.raises(InputError, match="settlement"):
            rules.check_settle(accounts, job(1), {"update": update, "evaluation": evaluation})
    with pytest.raises(InputError, match="steps of"):
        rules.check_settle(accounts, job(1), {"update": 2})


def test_a_settlement_is_final() -> None:
    accounts = account([UPDATE], status="settled")
    assert not rules.check_settle(accounts, job(1), {"update": 0})
    with pytest.raises(InputError, match="settled already"):
        rules.check_settle(accounts, job(1), {"update": 1})


def test_a_void_needs_that_nothing_was_released() -> None:
    assert rules.check_void(account(), job(1))
    assert not rules.check_void(account(status="void"), job(1))
    for accounts in (account(releases={"update": [(1, 1)]}), account(status="settled")):
        with pytest.raises(BudgetError, match="cannot be void"):
            rules.check_void(accounts, job(1))


def test_a_job_finishes_once() -> None:
    assert rules.check_finish(account(), job(1))
    assert not rules.check_finish(account(finished=True), job(1))
    with pytest.raises(BudgetError, match="ever reserved"):
        rules.check_finish({}, job(1))
