"""What the ledger's rows add up to: a fold from the chain to accounts.

Every number that the ledger gives is computed from the rows; none is stored beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from privacy import ledger_rules as rules
from privacy.charges import Caps, Charge
from privacy.ledger_rules import Account, Status
from privacy.ledger_store import Row
from protocol import signing
from protocol.canonical import from_canonical, to_canonical
from protocol.config import parse
from protocol.errors import FedwardError, IntegrityError

CONTEXT = "ledger"
RELATION = "add-remove"
START = "0" * 64


class State:
    """The sum of the rows so far.

    Attributes:
        number: Rows so far.
        head: Hash of the last one.
        public: The node's present key.
        keys: Every key that the node had, the present one last.
        accounts: By job.
        refused: Requests that were refused, in order.
        heads: Each head that the chain ever had, with its row's number.
        splits: SHA-256 of each population's split key.
        blocked: Row at which a row was found missing, and the statement's mark, hexadecimal; None
            while all is well.
    """

    def __init__(self) -> None:
        self.number = 0
        self.head = START
        self.public = b""
        self.keys: list[bytes] = []
        self.accounts: dict[str, Account] = {}
        self.refused: list[Account] = []
        self.heads: dict[str, int] = {}
        self.splits: dict[str, str] = {}
        self.blocked: tuple[int, str] | None = None

    def counted(self) -> list[Charge]:
        """Every charge that counts: a reserved one in full, a settled one as it was used."""
        return [charge for account in self.accounts.values() for charge in account.counted]

    def next_body(self, kind: str, at: datetime, fields: Mapping[str, object]) -> bytes:
        """The body of the row that would follow."""
        time = at.astimezone(UTC).isoformat(timespec="microseconds")
        link = {"number": self.number + 1, "previous": self.head, "time": time, "kind": kind}
        return to_canonical({**fields, **link})

    def follow(self, row: Row, *, check_signature: bool) -> dict[str, Any]:
        """Apply the next row.

        Args:
            row: The row.
            check_signature: Whether to verify it; a later row's signature covers this one too, but
                a change of key is always verified.

        Returns:
            The row's fields.

        Raises:
            IntegrityError: The row does not follow the one before, is not signed by the node, or
                breaks a rule. The state is then of no use.
        """
        try:
            fields: dict[str, Any] = from_canonical(row.body)
            link = (row.number, fields["number"], fields["previous"])
            if link != (self.number + 1, self.number + 1, self.head):
                raise IntegrityError("it does not follow the row before")
            signer = self.public
            self.number = row.number
            _APPLY[fields["kind"]](self, fields)
            if check_signature or signer != self.public:
                verify_signature(signer or self.public, row)
        except (FedwardError, KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"row {row.number} of the privacy ledger does not hold",
                found=str(error) if isinstance(error, FedwardError) else "a malformed row",
                remedy="put back the newest copy; the node blocks if that copy lacks rows",
            ) from error
        self.head = row.hash
        self.heads[row.hash] = row.number
        return fields


def verify_signature(public: bytes, row: Row) -> None:
    """Check that a row was signed by a key.

    Raises:
        IntegrityError: It was not.
    """
    signing.verify(public, CONTEXT, bytes.fromhex(row.hash), row.signature)


def to_request(charges: Sequence[Charge], caps: Caps) -> dict[str, object]:
    """The fields of a row that asks for budget; a cap that allows everything is null."""
    return {
        "job": charges[0].job,
        "charges": charges,
        "caps": {
            name: None if value == float("inf") else value for name, value in vars(caps).items()
        },
    }


def from_request(fields: Mapping[str, Any], number: int, status: Status) -> Account:
    """The account that a row asks for."""
    charges = [parse(Charge, charge, "charge") for charge in fields["charges"]]
    caps = {
        name: float("inf") if value is None else value for name, value in fields["caps"].items()
    }
    return Account(
        row=number,
        at=datetime.fromisoformat(fields["time"]),
        charges={charge.purpose: charge for charge in charges},
        caps=Caps(**caps),
        status=status,
        counted=tuple(charges) if status == "reserved" else (),
    )


def _genesis(state: State, fields: Mapping[str, Any]) -> None:
    if state.number != 1 or fields["relation"] != RELATION:
        raise IntegrityError("a second beginning, or another neighbouring relation")
    _key(state, fields)


def _key(state: State, fields: Mapping[str, Any]) -> None:
    signing.check_public(fields["public"])
    state.public = fields["public"]
    state.keys.append(state.public)


def _reserve(state: State, fields: Mapping[str, Any]) -> None:
    account = from_request(fields, state.number, "reserved")
    charges = list(account.charges.values())
    if rules.check_reserve(state.accounts, charges) is not None:
        raise IntegrityError("a job is reserved twice")
    state.accounts[charges[0].job] = account


def _refused(state: State, fields: Mapping[str, Any]) -> None:
    state.refused.append(from_request(fields, state.number, "refused"))


def _release(state: State, fields: Mapping[str, Any]) -> None:
    job, purpose = fields["job"], fields["purpose"]
    epoch, attempt = fields["epoch"], fields["attempt"]
    rules.check_release(state.accounts, job, epoch, attempt, purpose)
    state.accounts[job].releases.setdefault(purpose, []).append((epoch, attempt))


def _settle(state: State, fields: Mapping[str, Any]) -> None:
    if rules.check_settle(state.accounts, fields["job"], fields["used"]):
        account = state.accounts[fields["job"]]
        account.status = "settled"
        account.counted = tuple(
            replace(charge, steps=steps)
            for purpose, charge in account.charges.items()
            if (steps := fields["used"][purpose])
        )


def _void(state: State, fields: Mapping[str, Any]) -> None:
    if rules.check_void(state.accounts, fields["job"]):
        account = state.accounts[fields["job"]]
        account.status, account.counted = "void", ()


def _finish(state: State, fields: Mapping[str, Any]) -> None:
    if rules.check_finish(state.accounts, fields["job"]):
        state.accounts[fields["job"]].finished = True


def _split(state: State, fields: Mapping[str, Any]) -> None:
    if fields["population"] in state.splits:
        raise IntegrityError("a population has two split keys")
    state.splits[fields["population"]] = fields["commitment"]


def _block(state: State, fields: Mapping[str, Any]) -> None:
    state.blocked = (state.number, fields["missing"])


_APPLY: dict[str, Callable[[State, Mapping[str, Any]], None]] = {
    "genesis": _genesis,
    "key": _key,
    "reserve": _reserve,
    "refused": _refused,
    "release": _release,
    "settle": _settle,
    "void": _void,
    "finish": _finish,
    "split": _split,
    "block": _block,
}
