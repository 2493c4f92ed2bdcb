"""Snapshots: how a member that missed rounds gets the state of the others.

One member seals its weights and optimiser state to the returning member's new ephemeral key and
signs them. That shows who sent them, not that they are right: the returning member takes them only
if other members signed a keyed tag of the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from privacy.envelope import (
    FloatVector,
    open_sealed,
    place_of,
    seal,
    sign_sealed,
    verify_sealed,
    weights_tag,
)
from privacy.keys import Ephemeral
from protocol.cohort import Cohort
from protocol.errors import IntegrityError, RefusalError
from protocol.signing import SigningKey, verify

MIN_QUORUM = 2


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One snapshot's way from a member to one that missed rounds.

    Args:
        cohort: The verified cohort document that both are in.
        sender: Who has the state.
        recipient: Who lacks it.
        attempt: The attempt that starts from this state.
    """

    cohort: Cohort
    sender: str
    recipient: str
    attempt: int

    @property
    def place(self) -> bytes:
        """What signature and seal are bound to, canonical bytes."""
        return place_of(
            "snapshot",
            self.cohort,
            recipient=self.recipient,
            sender=self.sender,
            attempt=self.attempt,
        )


def seal_snapshot(state: bytes, transfer: Transfer, signing_key: SigningKey) -> bytes:
    """Seal weights and optimiser state to a returning member's new ephemeral key, and sign.

    Raises:
        RefusalError: One of the two is not in the cohort, or this node lacks ML-KEM.
        IntegrityError: The recipient's key is none.
    """
    sealed = seal(transfer.cohort.member(transfer.recipient).kem, transfer.place, state)
    return sign_sealed("snapshot", transfer.place, sealed, signing_key)


def attest(tag: bytes, cohort: Cohort, *, attempt: int, signing_key: SigningKey) -> bytes:
    """Sign the `weights_tag` of the state that an attempt starts from, 64 bytes."""
    return signing_key.sign("weights", _attested(tag, cohort, attempt))


def open_snapshot(
    snapshot: bytes,
    transfer: Transfer,
    ephemeral: Ephemeral,
    *,
    data_key: bytes,
    read: Callable[[bytes], tuple[FloatVector, ...]],
    attestations: Mapping[str, bytes],
    quorum: int = MIN_QUORUM,
) -> bytes:
    """Take a state over from another member, as far as others hold the same.

    Guarantee: at least `quorum` other members signed that their weights are these, so fewer
    colluding hospitals than that cannot plant any.

    Args:
        snapshot: What the coordinator relayed.
        transfer: Whose state, for whom and when.
        ephemeral: The recipient's keys of the cohort.
        data_key: The epoch's data key.
        read: The vectors of a state, in the order in which members tag them.
        attestations: Name of a member to what `attest` gave it; the sender's may be among them.
        quorum: How many members must agree, at least 2; t + 1 withstands t that collude.

    Returns:
        The state's bytes.

    Raises:
        IntegrityError: Signature, place or content is wrong, or too few members hold the same.
        RefusalError: One of the two is not in the cohort, or these are not the recipient's keys.
    """
    cohort = transfer.cohort
    ephemeral.check_holds(cohort.member(transfer.recipient))
    sender = cohort.member(transfer.sender)
    sealed = verify_sealed("snapshot", transfer.place, snapshot, sender.signing)
    state = open_sealed(ephemeral, transfer.place, sealed)
    statement = _attested(weights_tag(data_key, *read(state)), cohort, transfer.attempt)
    agreeing = sum(
        _attests(cohort, name, statement, signature)
        for name, signature in attestations.items()
        if name != transfer.recipient
    )
    needed = max(quorum, MIN_QUORUM)
    if agreeing < needed:
        raise IntegrityError(
            "too few members hold the state of this snapshot",
            expected=f"{needed} or more",
            found=str(agreeing),
        )
    return state


def _attests(cohort: Cohort, name: str, statement: bytes, signature: bytes) -> bool:
    """Whether a member of the cohort signed this statement."""
    try:
        verify(cohort.member(name).signing, "weights", statement, signature)
    except (IntegrityError, RefusalError):
        return False
    return True


def _attested(tag: bytes, cohort: Cohort, attempt: int) -> bytes:
    """What a member signs of the state that an attempt starts from, canonical bytes."""
    return place_of("weights", cohort, attempt=attempt, tag=tag.hex())
