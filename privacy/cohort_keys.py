"""An epoch's keys: one BFV secret key per purpose and the data key, made by one member for all."""

from __future__ import annotations

import os
from weakref import WeakKeyDictionary

from privacy.envelope import DATA_KEY_BYTES, EpochKeys
from privacy.he.secret import SecretKey
from protocol.canonical import from_canonical, to_canonical
from protocol.errors import IntegrityError
from protocol.jobs import Encryption, Packing

Purpose = str

_opened: WeakKeyDictionary[EpochKeys, dict[tuple[Purpose, Packing], SecretKey]] = (
    WeakKeyDictionary()
)
"""Secret keys that were read before; they go when the epoch's keys are dropped."""


def make(encryption: Encryption) -> EpochKeys:
    """New keys for every purpose that the job encrypts, from the operating system's entropy."""
    packings = {"update": encryption.update, "evaluation": encryption.evaluation}
    keys = {
        purpose: SecretKey.generate(packing).to_bytes()
        for purpose, packing in packings.items()
        if packing is not None
    }
    return EpochKeys(bfv=to_canonical(keys), data=os.urandom(DATA_KEY_BYTES))


def secret_of(keys: EpochKeys, purpose: Purpose, packing: Packing) -> SecretKey:
    """The secret key of one purpose, read once for as long as the epoch's keys live.

    Raises:
        IntegrityError: The maker made none for it, or it is not one.
    """
    opened = _opened.setdefault(keys, {})
    if (purpose, packing) not in opened:
        opened[purpose, packing] = _read(keys, purpose, packing)
    return opened[purpose, packing]


def _read(keys: EpochKeys, purpose: Purpose, packing: Packing) -> SecretKey:
    found = from_canonical(keys.bfv)
    if not isinstance(found, dict) or not isinstance(found.get(purpose), bytes):
        raise IntegrityError("the epoch has no key for this purpose", expected=purpose)
    return SecretKey.from_bytes(packing, found[purpose])
