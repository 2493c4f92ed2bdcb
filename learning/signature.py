"""The signature of a stored model: whose node finished it, and that it is still that model.

What is signed is the model's label and the digest of its checksum file, which covers card and
weights. Checksums alone tell damage; whoever may write to the store could make new ones, but no
signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from protocol.canonical import to_canonical
from protocol.errors import InputError, IntegrityError
from protocol.signing import SigningKey, signer_of, verify_attached

SIGNATURE = "signature.json"
CONTEXT = "model"


def sign_model(key: SigningKey, label: str, sums: bytes) -> bytes:
    """The signature file of a model.

    Args:
        key: The node's identity.
        label: Name and version.
        sums: The model's checksum file.
    """
    return key.sign_attached(CONTEXT, _statement(label, sums))


def check_signature(place: Path, label: str, sums: bytes, signers: Collection[str]) -> str:
    """Verify who signed the model in a folder.

    Args:
        place: The model's folder.
        label: Name and version.
        sums: The model's checksum file.
        signers: Fingerprints of the keys that may have signed.

    Returns:
        The signer's fingerprint.

    Raises:
        InputError: The model has no signature.
        IntegrityError: Another key signed it, or it signed another model.
    """
    try:
        blob = (place / SIGNATURE).read_bytes()
    except OSError:
        raise InputError(
            f"model {label} is not signed",
            expected=f"{SIGNATURE} beside its card",
            remedy="serve models that a node has finished itself",
        ) from None
    try:
        signer = signer_of(blob)
        stated = verify_attached(signer, CONTEXT, blob)
    except IntegrityError as error:
        raise error.at(f"model {label}: {SIGNATURE}") from None
    if signer not in signers:
        raise IntegrityError(
            f"model {label} is signed by another key",
            expected=" or ".join(sorted(signers)),
            found=signer,
        )
    if stated != _statement(label, sums):
        raise IntegrityError(f"model {label}: {SIGNATURE} belongs to another model")
    return signer


def _statement(label: str, sums: bytes) -> bytes:
    return to_canonical({"model": label, "sums": hashlib.sha256(sums).hexdigest()})
