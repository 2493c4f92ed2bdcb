"""An epoch's keys: one BFV secret key per purpose and the data key, made by one member for all.

What is computed here depends on nothing but these keys and bytes that every member gets, so it is
computed once for all virtual hospitals of one process. A node has a process of its own.
"""

from __future__ import annotations

import os
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from privacy.envelope import DATA_KEY_BYTES, EpochKeys
from privacy.he.secret import SecretKey
from protocol.canonical import from_canonical, to_canonical
from protocol.errors import IntegrityError
from protocol.jobs import Encryption, Packing

Words = npt.NDArray[np.uint64]
Purpose = str


class _Decrypted(NamedTuple):
    """A sum that was decrypted, and all that its words depend on."""

    secret: SecretKey
    residues: bytes
    num_words: int
    words: Words


_opened: WeakKeyDictionary[EpochKeys, dict[tuple[Purpose, Packing], SecretKey]] = (
    WeakKeyDictionary()
)
"""Secret keys that were read before; they go when the epoch's keys are dropped."""

_decrypted: WeakKeyDictionary[EpochKeys, _Decrypted] = WeakKeyDictionary()
"""The last sum of each epoch; it goes with the keys."""


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


def decrypt(secret: SecretKey, keys: EpochKeys, residues: bytes, num_words: int) -> Words:
    """`SecretKey.decrypt` with one of the epoch's keys, once for the same sum.

    Returns:
        (W,) words below t that cannot be written to.

    Raises:
        IntegrityError: As `SecretKey.decrypt`.
    """
    last = _decrypted.get(keys)
    if last is None or last[:3] != (secret, residues, num_words):
        words_W = secret.decrypt(residues, num_words)
        words_W.flags.writeable = False
        last = _decrypted[keys] = _Decrypted(secret, residues, num_words, words_W)
    return last.words


def _read(keys: EpochKeys, purpose: Purpose, packing: Packing) -> SecretKey:
    found = from_canonical(keys.bfv)
    if not isinstance(found, dict) or not isinstance(found.get(purpose), bytes):
        raise IntegrityError("the epoch has no key for this purpose", expected=purpose)
    return SecretKey.from_bytes(packing, found[purpose])
