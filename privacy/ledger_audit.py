"""What a ledger's rows prove, to a person: verification, balances, history and export."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from privacy.budget import decide
from privacy.charges import Caps, Charge, Partition, select
from privacy.composition import admission_epsilons, displayed_epsilons
from privacy.ledger_rules import Account
from privacy.ledger_state import State
from privacy.ledger_store import FORMAT, Row
from protocol.errors import IntegrityError
from protocol.signing import fingerprint

# Another machine's libm may differ in the last digits.
_TOLERANCE = 1 + 1e-9

Budget = tuple[str, Partition]


@dataclass(frozen=True, kw_only=True)
class Balance:
    """One population and partition now.

    Args:
        population: Whose patients.
        partition: Which of them.
        caps: The caps of the latest request.
        epsilon: Spent under the stated trust, by the tightest count.
        epsilon_worst: Spent if every other hospital colludes.
        admission: Both as the admission filter counts them; these are held against the caps.
        jobs: Number of jobs by status.
    """

    population: str
    partition: Partition
    caps: Caps
    epsilon: float
    epsilon_worst: float
    admission: tuple[float, float]
    jobs: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Both epsilons after a row, as the admission filter counts them, and the caps then."""

    at: datetime
    epsilon: float
    epsilon_worst: float
    caps: Caps


@dataclass(frozen=True, kw_only=True)
class Report:
    """A ledger in short.

    Args:
        rows: Rows in the chain.
        head: Hash of the last one.
        signer: Fingerprint of the node's key.
        blocked: Whether rows are missing of which this node told the coordinator.
        balances: One for each population and partition.
    """

    rows: int
    head: str
    signer: str
    blocked: bool
    balances: tuple[Balance, ...]


def audit(rows: Sequence[Row], split_keys: Mapping[str, bytes]) -> Report:
    """Check each link, signature and rule again, and that each grant was within its caps.

    Raises:
        IntegrityError: Names the first row that does not hold.
    """
    state = State()
    for row in rows:
        fields = state.follow(row, check_signature=True)
        if fields["kind"] == "reserve":
            _check_grant(state, fields["job"])
    for population, commitment in state.splits.items():
        checked_split_key(split_keys, population, commitment)
    return report(state)


def report(state: State) -> Report:
    """What a chain says that was checked when it was read."""
    return Report(
        rows=state.number,
        head=state.head,
        signer=fingerprint(state.public),
        blocked=state.blocked is not None,
        balances=_balances(state),
    )


def history(rows: Iterable[Row]) -> dict[Budget, list[Point]]:
    """Both epsilons after each row that changed them, by population and partition."""
    state = State()
    points: dict[Budget, list[Point]] = {}
    for row in rows:
        fields = state.follow(row, check_signature=False)
        if fields["kind"] not in {"reserve", "settle", "void"}:
            continue
        account = state.accounts[fields["job"]]
        for budget in account.budgets:
            charges = select(state.counted(), *budget)
            epsilon, epsilon_worst = admission_epsilons(charges, account.caps)
            points.setdefault(budget, []).append(
                Point(
                    at=datetime.fromisoformat(fields["time"]),
                    epsilon=epsilon,
                    epsilon_worst=epsilon_worst,
                    caps=account.caps,
                )
            )
    return points


def to_json(rows: Sequence[Row]) -> bytes:
    """The chain as a JSON document with everything that verifying it takes; no split key.

    Each row has the exact bytes of its body as a text, their SHA-256 and the signature over that.
    """
    chain = [
        {"body": row.body.decode(), "hash": row.hash, "signature": row.signature.hex()}
        for row in rows
    ]
    return json.dumps({"format": FORMAT, "rows": chain}, indent=2, ensure_ascii=False).encode()


def checked_split_key(keys: Mapping[str, bytes], population: str, commitment: str) -> bytes:
    """A population's split key, if it is the one that the chain commits to.

    Raises:
        IntegrityError: It is gone or changed.
    """
    key = keys.get(population, b"")
    if commit(key) != commitment:
        raise IntegrityError(
            f"the split key of population {population!r} is gone or changed",
            remedy="put back the newest copy of the privacy ledger",
        )
    return key


def commit(key: bytes) -> str:
    """What the chain holds of a split key: SHA-256, hexadecimal."""
    return hashlib.sha256(key).hexdigest()


def _balances(state: State) -> tuple[Balance, ...]:
    """What is spent of each budget that was ever asked for."""
    requests = sorted([*state.accounts.values(), *state.refused], key=lambda account: account.row)
    latest = {budget: account.caps for account in requests for budget in account.budgets}
    counted = state.counted()
    return tuple(
        _balance(budget, caps, counted, [entry for entry in requests if budget in entry.budgets])
        for budget, caps in sorted(latest.items())
    )


def _balance(
    budget: Budget, caps: Caps, counted: Sequence[Charge], requests: Sequence[Account]
) -> Balance:
    population, partition = budget
    charges = select(counted, population, partition)
    epsilon, epsilon_worst = displayed_epsilons(charges, caps.delta)
    return Balance(
        population=population,
        partition=partition,
        caps=caps,
        epsilon=epsilon,
        epsilon_worst=epsilon_worst,
        admission=admission_epsilons(charges, caps),
        jobs=Counter(account.status for account in requests),
    )


def _check_grant(state: State, job: str) -> None:
    """Decide again on the job that was reserved last."""
    account = state.accounts[job]
    decision = decide(
        rows=[charge for charge in state.counted() if charge.job != job],
        charges=account.counted,
        caps=account.caps,
        clock=account.at,
    )
    caps = (account.caps.epsilon, account.caps.epsilon_worst)
    # The tolerance is on the result alone: other caps would choose another order of the filter.
    if not all(
        total <= cap * _TOLERANCE
        for standing in decision.standings
        for total, cap in zip(standing.total, caps, strict=True)
    ):
        raise IntegrityError(
            f"row {account.row} of the privacy ledger grants job {job[:12]} more than its caps"
        )
