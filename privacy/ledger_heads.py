"""A node's own word on how far its ledger goes, kept by the coordinator and shown to it again.

Only the node can sign such a statement, so an echo that holds is true: rows that it speaks of and
that are missing here were lost, for instance with a copy that is older. Anything else that comes
back as an echo says nothing about this ledger, and stops nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.errors import Code, FedwardError, RefusalError
from protocol.signing import SigningKey, fingerprint, verify_attached

CONTEXT = "ledger-head"
REMEDY = (
    "put the newest copy of the ledger back. If it is lost, what was spent is unknown: count it as"
    " spent, and begin again with new keys, a new ledger and caps that allow for it"
)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """How far a ledger went when this was signed.

    Args:
        rows: Rows in the chain.
        head: Hash of the last one, hexadecimal.
    """

    rows: int
    head: str


def sign_head(statement: Statement, key: SigningKey) -> bytes:
    """The statement with the node's signature, as it travels."""
    return key.sign_attached(CONTEXT, to_canonical(statement))


def open_head(echo: bytes, publics: Collection[bytes]) -> Statement | None:
    """The statement in an echo, None where it is not one that this node made.

    Args:
        echo: What the coordinator says that this node said.
        publics: Every key that signed this node's ledger so far.
    """
    for public in publics:
        try:
            data = verify_attached(fingerprint(public), CONTEXT, echo)
            return decode(Statement, data, "ledger head")
        except FedwardError:
            continue
    return None


def rows_missing(head: str) -> RefusalError:
    """The refusal of a ledger that lacks rows of which this node itself told the coordinator."""
    return RefusalError(
        Code.BUDGET,
        "the privacy ledger is an old copy: rows that this node wrote are missing, and nothing is"
        " released",
        expected=f"a row with hash {head[:12]}",
        remedy=REMEDY,
    )
