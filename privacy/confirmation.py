"""Confirmations: which hospitals finished a job with the very same model, shown to whoever has it.

Every member signs a keyed tag of the finished weights. The tag's key follows from the epoch's data
key, which the coordinator lacks, so what it relays tells it nothing. The key is kept with the
model, where it opens nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from privacy.envelope import DATA_KEY_BYTES, FloatVector, derived_key, place_of, weights_tag
from protocol.cohort import Cohort
from protocol.errors import InputError, IntegrityError, RefusalError
from protocol.signing import SigningKey, verify

_CONTEXT = "confirmation"


@dataclass(frozen=True, kw_only=True)
class Confirmations:
    """Signatures of the members that hold the model, and what it takes to verify them.

    Args:
        cohort: Canonical bytes of the cohort document, which has the members' keys.
        attempt: The attempt that finished.
        key: Of the tag, 32 bytes.
        signatures: Ed25519 by name of the member, 64 bytes each.
    """

    cohort: bytes
    attempt: int
    key: bytes
    signatures: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if len(self.key) != DATA_KEY_BYTES:
            raise InputError("a key of confirmations", expected=f"{DATA_KEY_BYTES} bytes")

    def verify(self, weights_P: FloatVector, job: str) -> Mapping[str, str]:
        """Fingerprints of the members that signed for these weights, by name.

        Guarantee: whoever held each of these keys finished this job, in this cohort, with weights
        that are equal to the last bit. Whose the keys are, their fingerprints tell.

        Args:
            weights_P: The model's weights.
            job: Digest of the job that made it.

        Raises:
            IntegrityError: A signature does not hold, or they are of another job or other weights.
        """
        cohort = Cohort.from_bytes(self.cohort)
        if cohort.job != job:
            raise IntegrityError("confirmations of another job")
        tag = weights_tag(self.key, weights_P)
        for name, signature in self.signatures.items():
            _verify(cohort, name, _statement(cohort, self.attempt, tag), signature)
        return {name: cohort.member(name).fingerprint for name in self.signatures}


def confirm(
    weights_P: FloatVector, cohort: Cohort, *, attempt: int, data_key: bytes, key: SigningKey
) -> bytes:
    """Sign that these are the finished weights here, 64 bytes.

    Args:
        weights_P: The finished weights.
        cohort: The verified cohort document.
        attempt: The attempt that finishes.
        data_key: The epoch's data key.
        key: This hospital's identity.
    """
    tag = weights_tag(derived_key(data_key, _CONTEXT), weights_P)
    return key.sign(_CONTEXT, _statement(cohort, attempt, tag))


def gather(
    weights_P: FloatVector,
    cohort: Cohort,
    *,
    attempt: int,
    data_key: bytes,
    signatures: Mapping[str, bytes],
) -> Confirmations:
    """The confirmations that hold, of those that the coordinator relayed.

    One that does not hold is left out: it is no reason to doubt the model, which was compared
    before, and the coordinator could leave it out as well.

    Args:
        weights_P: The finished weights.
        cohort: The verified cohort document.
        attempt: The attempt that finished.
        data_key: The epoch's data key.
        signatures: By name of the member.
    """
    tag_key = derived_key(data_key, _CONTEXT)
    statement = _statement(cohort, attempt, weights_tag(tag_key, weights_P))
    good = {}
    for name, signature in signatures.items():
        try:
            _verify(cohort, name, statement, signature)
        except IntegrityError:
            continue
        good[name] = signature
    return Confirmations(cohort=cohort.to_bytes(), attempt=attempt, key=tag_key, signatures=good)


def _verify(cohort: Cohort, name: str, statement: bytes, signature: bytes) -> None:
    try:
        member = cohort.member(name)
    except RefusalError:
        raise IntegrityError("a confirmation by a hospital outside of the cohort") from None
    verify(member.signing, _CONTEXT, statement, signature)


def _statement(cohort: Cohort, attempt: int, tag: bytes) -> bytes:
    """What a member signs, canonical bytes."""
    return place_of(_CONTEXT, cohort, attempt=attempt, tag=tag.hex())
