"""What a job's account is, and the rules by which it changes.

Each rule is a pure function. The ledger asks it before it writes a row, and asks it again of every
row that it reads, so a chain that breaks a rule is found like one that breaks a hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from privacy.charges import Caps, Charge, Partition
from protocol.errors import BudgetError, Code, InputError, IntegrityError, RefusalError

Status = Literal["reserved", "settled", "void", "refused"]


@dataclass(kw_only=True)
class Account:
    """One job: what was asked for, and what became of it.

    Args:
        row: Number of the row that asked for it.
        at: When it was asked for.
        charges: One per purpose.
        caps: The hospital's caps at that time.
        status: A refused request is kept for the record and counts as nothing.
        counted: The charges with the steps that count.
        releases: (epoch, attempt) of each release, in order, by purpose.
        finished: Whether the node's session of the job is over.
    """

    row: int
    at: datetime
    charges: dict[str, Charge]
    caps: Caps
    status: Status
    counted: tuple[Charge, ...]
    releases: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    finished: bool = False

    @property
    def budgets(self) -> list[tuple[str, Partition]]:
        """The populations and partitions that it touches."""
        return sorted({(charge.population, charge.partition) for charge in self.charges.values()})

    @property
    def over(self) -> bool:
        """Whether it releases nothing any more."""
        return self.finished or self.status == "settled"

    @property
    def used(self) -> dict[str, int]:
        """Steps that count, by purpose."""
        counted = {charge.purpose: charge.steps for charge in self.counted}
        return {purpose: counted.get(charge.purpose, 0) for purpose, charge in self.charges.items()}

    @property
    def least_used(self) -> dict[str, int]:
        """The steps of a settlement: those settled already, or else the releases, by purpose."""
        if self.status == "settled":
            return self.used
        return {purpose: len(self.releases.get(purpose, [])) for purpose in self.charges}

    @property
    def attempts(self) -> int:
        """The highest attempt that released anything, 0 when none did."""
        return max((attempt for done in self.releases.values() for _, attempt in done), default=0)


Accounts = Mapping[str, Account]


def find(accounts: Accounts, job: str) -> Account:
    """The account of a job that is reserved or settled.

    Raises:
        BudgetError: Nothing is reserved for it, so it may release nothing.
    """
    account = accounts.get(job)
    if account is None or account.status == "void":
        raise BudgetError(
            f"no privacy budget is reserved for job {job[:12]}", remedy="reserve it first"
        )
    return account


def check_reserve(accounts: Accounts, charges: Sequence[Charge]) -> Account | None:
    """The account if these very charges are reserved already.

    Raises:
        InputError: The charges are not those of one job, or two have one purpose.
        BudgetError: The job is reserved with other numbers.
        RefusalError: The job is over.
    """
    by_purpose = {charge.purpose: charge for charge in charges}
    jobs = {charge.job for charge in charges}
    if len(jobs) != 1 or len(by_purpose) != len(charges):
        raise InputError("charges", expected="those of one job, one for each purpose")
    job = jobs.pop()
    account = accounts.get(job)
    if account is None:
        return None
    if account.over:
        raise RefusalError(Code.REPLAYED, f"job {job[:12]} is over")
    if account.status == "void":
        return None
    if account.charges != by_purpose:
        raise BudgetError(
            f"job {job[:12]} is reserved with other numbers", remedy="launch it as a new job"
        )
    return account


def check_release(accounts: Accounts, job: str, epoch: int, attempt: int, purpose: str) -> None:
    """Refuse a release that is not the next one of a reserved purpose.

    Raises:
        BudgetError: Nothing is reserved for it.
        IntegrityError: This very release was made before.
        RefusalError: The job is over, epoch or attempt do not go forward, or all steps are used.
    """
    account = find(accounts, job)
    if purpose not in account.charges:
        raise BudgetError(f"no budget is reserved for {purpose!r} of job {job[:12]}")
    done = account.releases.get(purpose, [])
    if (epoch, attempt) in done:
        raise IntegrityError(
            f"{purpose} of job {job[:12]}, epoch {epoch}, attempt {attempt} was released before",
            remedy="resend the stored bytes or refuse",
        )
    if account.over:
        raise RefusalError(Code.REPLAYED, f"job {job[:12]} is over")
    last_epoch, last_attempt = done[-1] if done else (0, 0)
    if epoch < last_epoch or attempt <= last_attempt:
        raise RefusalError(
            Code.REPLAYED,
            f"{purpose} of job {job[:12]} does not go forward",
            expected=f"epoch >= {last_epoch} and attempt > {last_attempt}",
            found=f"epoch {epoch} and attempt {attempt}",
        )
    steps = account.charges[purpose].steps
    # Evaluation may skip attempts and come once more after the last update: its count is limited.
    if len(done) >= steps or (purpose == "update" and attempt > steps):
        raise RefusalError(
            Code.BUDGET,
            f"every reserved attempt of job {job[:12]} ({purpose}) is used",
            expected=f"at most {steps}",
            found=f"attempt {attempt} after {len(done)} releases",
        )


def check_settle(accounts: Accounts, job: str, used: Mapping[str, int]) -> bool:
    """Whether a settlement is new; the same one again changes nothing.

    Raises:
        BudgetError: Nothing is reserved.
        InputError: It does not name each purpose, says less than was released or more than was
            reserved, or differs from an earlier settlement.
    """
    account = find(accounts, job)
    if set(used) != set(account.charges):
        raise InputError(
            f"settlement of job {job[:12]}", expected=f"steps of {sorted(account.charges)}"
        )
    if account.status == "settled":
        if used != account.used:
            raise InputError(f"job {job[:12]} is settled already, with other numbers")
        return False
    for purpose, steps in used.items():
        released, reserved = len(account.releases.get(purpose, [])), account.charges[purpose].steps
        if not released <= steps <= reserved:
            raise InputError(
                f"settlement of job {job[:12]} ({purpose})",
                expected=f"{released} (released) to {reserved} (reserved)",
                found=str(steps),
            )
    return True


def check_void(accounts: Accounts, job: str) -> bool:
    """Whether a void is new; the same one again changes nothing.

    Raises:
        BudgetError: Nothing was ever reserved, something was released, or the job is settled.
    """
    if job in accounts and accounts[job].status == "void":
        return False
    account = find(accounts, job)
    if account.releases or account.status == "settled":
        raise BudgetError(
            f"job {job[:12]} cannot be void", found="a release", remedy="settle it instead"
        )
    return True


def check_finish(accounts: Accounts, job: str) -> bool:
    """Whether a job is still unfinished.

    Raises:
        BudgetError: Nothing was ever reserved for it.
    """
    if job not in accounts:
        raise BudgetError(f"no privacy budget was ever reserved for job {job[:12]}")
    return not accounts[job].finished
