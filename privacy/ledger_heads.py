"""A node's own word on how far its ledger goes, kept by the coordinator and shown to it again.

Only the node can sign such a statement, so an echo that holds is true: a row that it speaks of and
that is missing here was lost, for instance with a copy that is older. Anything else that comes back
as an echo says nothing about this ledger, and stops nothing.

The coordinator shows its echoes to everybody whom it asks, so a statement is a commitment: the node
finds its own row again, and nobody else can tell two statements of one row from those of two.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.errors import Code, FedwardError, RefusalError
from protocol.signing import SigningKey, fingerprint, verify_attached

CONTEXT = "ledger-head"
NONCE_BYTES = 32
REMEDY = (
    "put the newest copy of the ledger back. If it is lost, what was spent is unknown: count it as"
    " spent, and begin again with new keys, a new ledger and caps that allow for it"
)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """How far a ledger went when this was signed, for those who have the ledger.

    Args:
        nonce: 32 random bytes, new in every statement.
        mark: HMAC-SHA256 of the head under the nonce, 32 bytes.
    """

    nonce: bytes
    mark: bytes

    def speaks_of(self, heads: Iterable[str]) -> bool:
        """Whether the row is one of these.

        Args:
            heads: Hashes of rows, hexadecimal.
        """
        return any(hmac.compare_digest(_mark(self.nonce, head), self.mark) for head in heads)


def sign_head(head: str, key: SigningKey) -> bytes:
    """A signed statement that the chain's last row is this one, as it travels.

    Guarantee: to whoever does not know the row's hash it tells nothing of the chain, neither how
    long it is nor whether it grew since another statement. Hashes are as hard to guess as the
    commitment to a random key that a ledger has before the first release (`Ledger.split_key`).

    Args:
        head: Hash of the row, hexadecimal.
        key: The node's.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    return key.sign_attached(CONTEXT, to_canonical(Statement(nonce=nonce, mark=_mark(nonce, head))))


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


def rows_missing(mark: str) -> RefusalError:
    """The refusal of a ledger that lacks a row of which this node itself told the coordinator.

    Args:
        mark: Of the statement, hexadecimal.
    """
    return RefusalError(
        Code.BUDGET,
        "the privacy ledger is an old copy: rows that this node wrote are missing, and nothing is"
        " released",
        expected=f"the row of statement {mark[:12]}",
        remedy=REMEDY,
    )


def _mark(nonce: bytes, head: str) -> bytes:
    return hmac.digest(nonce, head.encode(), "sha256")
