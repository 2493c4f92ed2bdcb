"""Envelopes: what hospitals send each other through a coordinator that must not read it.

Sealing is HPKE in base mode (RFC 9180): whoever has the public key can seal, so it authenticates
nobody. A signature by the sender's Ed25519 key over the place in the job, the recipient and the
sealed bytes does, and is verified before anything is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PublicKey, Suite

from privacy.keys import Ephemeral, UnsealingKey
from protocol.canonical import to_canonical
from protocol.cohort import Cohort
from protocol.config import decode
from protocol.errors import Code, InputError, IntegrityError, RefusalError
from protocol.signing import SIGNATURE_BYTES, SigningKey, verify

FloatVector = npt.NDArray[np.float64]

DATA_KEY_BYTES = 32
_MLKEM_BYTES = 1184
_HYBRID = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_CLASSIC = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class Holder(Protocol):
    """Keys that something can be sealed to: `privacy.keys.Ephemeral` or `Identity`."""

    @property
    def unsealing_key(self) -> UnsealingKey:
        """The secret key."""
        ...


@dataclass(frozen=True, repr=False)
class EpochKeys:
    """What the members of one epoch share and the coordinator never has; memory only.

    Args:
        bfv: The BFV secret key, as `privacy.he.secret` spells it.
        data: The data key, 32 bytes: tags, commitments and mask derivation.
    """

    bfv: bytes
    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != DATA_KEY_BYTES:
            raise InputError("a data key", expected=f"{DATA_KEY_BYTES} bytes")


def seal(public_kem: bytes, context: bytes, plaintext: bytes) -> bytes:
    """Seal bytes to the holder of a key: HPKE, HKDF-SHA256, AES-256-GCM.

    Guarantee: only the holder of the secret key reads or can change the plaintext unnoticed, and
    only under the same context. Who sealed it stays open: sign the result.

    Args:
        public_kem: 32 bytes of X25519, or 1,216 of ML-KEM-768 and X25519.
        context: HPKE's `info`: what the bytes are, and where they belong.
        plaintext: What to seal.

    Returns:
        Encapsulated key and ciphertext: 48 or 1,136 bytes longer than the plaintext.

    Raises:
        IntegrityError: The key is none.
        RefusalError: The key needs ML-KEM and this cryptography library has none.

    Source: RFC 9180, section 6.1 (single-shot, base mode); draft-ietf-hpke-pq (hybrid KEM).
    """
    classic, post_quantum = public_kem[-32:], public_kem[:-32]
    try:
        x25519 = X25519PublicKey.from_public_bytes(classic)
        if not post_quantum:
            return _CLASSIC.encrypt(plaintext, x25519, context)
        mlkem = MLKEM768PublicKey.from_public_bytes(post_quantum)
        return _HYBRID.encrypt(plaintext, MLKEM768X25519PublicKey(mlkem, x25519), context)
    except ValueError:
        raise IntegrityError("a key that is to be sealed to is none") from None
    except UnsupportedAlgorithm:
        raise RefusalError(
            Code.VERSION,
            "this node's cryptography library lacks ML-KEM-768, which another hospital uses",
            remedy="install the published wheel of cryptography, or OpenSSL 3.5 or later",
        ) from None


def open_sealed(holder: Holder, context: bytes, sealed: bytes) -> bytes:
    """Open what `seal` made for this holder under this context.

    Raises:
        IntegrityError: It was made for another key or context, or changed.

    Source: RFC 9180, section 6.1.
    """
    key = holder.unsealing_key
    suite = _CLASSIC if isinstance(key, X25519PrivateKey) else _HYBRID
    try:
        return suite.decrypt(sealed, key, context)
    except (InvalidTag, ValueError):
        raise IntegrityError("sealed bytes do not open") from None


def make_bundles(cohort: Cohort, keys: EpochKeys, signing_key: SigningKey) -> dict[str, bytes]:
    """Seal an epoch's keys to every member, the maker included, and sign each bundle.

    Returns:
        Name to signature (64 bytes) and sealed keys.

    Raises:
        RefusalError: This hospital is not the cohort's maker, or lacks ML-KEM.
        IntegrityError: A member's key is none.
    """
    if signing_key.public != cohort.maker.signing:
        raise RefusalError(Code.COHORT, "only the cohort's maker makes the epoch's keys")
    plaintext = to_canonical(keys)
    bundles = {}
    for member in cohort.members:
        place = place_of("bundle", cohort, recipient=member.name)
        sealed = seal(member.kem, place, plaintext)
        bundles[member.name] = sign_sealed("bundle", place, sealed, signing_key)
    return bundles


def open_bundle(cohort: Cohort, name: str, ephemeral: Ephemeral, bundle: bytes) -> EpochKeys:
    """Take the epoch's keys out of this member's bundle, once per epoch.

    Guarantee: the keys come from the maker of this very cohort document and were meant for this
    member in this epoch, so the coordinator cannot hand out keys of its own or of another epoch.

    Args:
        cohort: The verified cohort document.
        name: This hospital's name in it.
        ephemeral: This hospital's keys of that cohort.
        bundle: What the coordinator relayed.

    Raises:
        IntegrityError: Signature, place or content is wrong, or the epoch has its keys already.
        RefusalError: This hospital is not in the cohort, or holds other keys than it names.
    """
    ephemeral.check_holds(cohort.member(name))
    place = place_of("bundle", cohort, recipient=name)
    sealed = verify_sealed("bundle", place, bundle, cohort.maker.signing)
    ephemeral.claim("bundle", cohort.job, cohort.epoch)
    plaintext = open_sealed(ephemeral, place, sealed)
    try:
        return decode(EpochKeys, plaintext, "bundle")
    except InputError:
        raise IntegrityError("a bundle holds something else than keys") from None


def commitment(data_key: bytes) -> bytes:
    """HMAC(data key, "key-commit"), 32 bytes: members with split data keys get noise, not a sum.

    Source: RFC 2104; Albertini et al., USENIX Security 2022 (why a key must be committed to).
    """
    return _mac(data_key, b"key-commit")


def derived_key(data_key: bytes, purpose: str) -> bytes:
    """HMAC(data key, "derived" and a purpose), 32 bytes: a key that tells nothing of the data key.

    Source: Krawczyk 2010, Cryptographic Extraction and Key Derivation, section 3 (HMAC as the
    pseudorandom function; the data key is uniform, so nothing needs to be extracted).
    """
    return _mac(data_key, b"derived ", purpose.encode())


def weights_tag(data_key: bytes, *vectors_P: FloatVector) -> bytes:
    """HMAC of the current weights: equal at all members whose weights agree to the last bit.

    Guarantee: to whoever lacks the data key it tells nothing of the weights, not even whether a
    guess is right.

    Args:
        data_key: The epoch's data key.
        vectors_P: The weights, and further state that must agree; finite float64.

    Returns:
        32 bytes.

    Raises:
        InputError: A vector is not finite or not one-dimensional float64.
    """
    parts: list[bytes | memoryview] = [b"weights"]
    for vector_P in vectors_P:
        if vector_P.dtype != np.float64 or vector_P.ndim != 1 or not np.isfinite(vector_P).all():
            raise InputError("a vector to be tagged", expected="one dimension of finite float64")
        little_P = np.ascontiguousarray(vector_P, dtype="<f8")
        parts += [vector_P.size.to_bytes(8, "little"), little_P.view(np.uint8).data]
    return _mac(data_key, *parts)


def place_of(kind: str, cohort: Cohort, **more: str | int) -> bytes:
    """Where in a job something belongs: HPKE's `info`, and part of what is signed."""
    return to_canonical(
        {
            "kind": f"fedward/1 {kind}",
            "job": cohort.job,
            "roster": cohort.roster,
            "cohort": cohort.digest,
            "epoch": cohort.epoch,
            **more,
        }
    )


def sign_sealed(context: str, place: bytes, sealed: bytes, key: SigningKey) -> bytes:
    """Signature (64 bytes) over place and sealed bytes, and the sealed bytes behind it."""
    return key.sign(context, _framed(place) + sealed) + sealed


def verify_sealed(context: str, place: bytes, signed: bytes, public: bytes) -> bytes:
    """The sealed bytes behind a signature that holds for this place.

    Raises:
        IntegrityError: It does not hold.
    """
    signature, sealed = signed[:SIGNATURE_BYTES], signed[SIGNATURE_BYTES:]
    verify(public, context, _framed(place) + sealed, signature)
    return sealed


def _framed(place: bytes) -> bytes:
    """A place behind its length, so that it ends where the sealed bytes begin."""
    return len(place).to_bytes(4, "little") + place


def _mac(key: bytes, *parts: bytes | memoryview) -> bytes:
    """HMAC-SHA256, 32 bytes."""
    mac = HMAC(key, SHA256())
    for part in parts:
        mac.update(part)
    return mac.finalize()
