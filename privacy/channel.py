"""From a hospital's integers to ciphertext, and from the ciphertext of a sum back to integers.

On the way out: pack digits into words, append presence and tag words, mask, encrypt. On the way
back: decrypt, check presence and tags, unpack. Masks cancel in the sum of the whole cohort.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy.cohort_keys import decrypt, secret_of
from privacy.envelope import EpochKeys
from privacy.he.codec import pack, unpack
from privacy.he.parameters import num_words
from privacy.he.secret import SecretKey
from privacy.he.words import check, frame, framed_size, tag_key
from privacy.keys import Ephemeral
from privacy.masks import mask
from protocol.cohort import Cohort
from protocol.errors import FedwardError
from protocol.jobs import Packing

IntVector = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One purpose of one attempt, as one member of the cohort sees it.

    Args:
        packing: Encryption parameters of this purpose.
        cohort: The verified cohort.
        site: This hospital's name.
        ephemeral: This hospital's ephemeral keys.
        keys: The epoch's keys.
        masked: Whether pairwise masks are on.
        attempt: The attempt's number.
        purpose: `update` or `evaluation`.
        weights_tag: HMAC(data key, current weights): hospitals with different weights get noise.
            It enters masks alone, so a channel that only reads a sum may leave it empty.
    """

    packing: Packing
    cohort: Cohort
    site: str
    ephemeral: Ephemeral
    keys: EpochKeys
    masked: bool
    attempt: int
    purpose: str
    weights_tag: bytes

    def protect(self, values: IntVector) -> bytes:
        """Ciphertext of this hospital's integers.

        Guarantee: call it once per (job, epoch, attempt, purpose); the ledger's record of releases
        sees to it. Two plaintexts under one tuple would bare their difference.

        Raises:
            FedwardError: There is no tag of the weights to mask under.
        """
        if self.masked and not self.weights_tag:
            raise FedwardError("masks need the tag of the weights")
        words = frame(
            pack(values, self.packing),
            site=self.cohort.index(self.site),
            sites=self.cohort.size,
            key=self._tag_key(),
            packing=self.packing,
        )
        if self.masked:
            words = mask(
                words,
                modulus=self.packing.plain_modulus,
                me=self.site,
                cohort=self.cohort,
                ephemeral=self.ephemeral,
                attempt=self.attempt,
                purpose=self.purpose,
                data_key=self.keys.data,
                weights_tag=self.weights_tag,
            )
        return self._secret().encrypt(words)

    def reveal(self, residues: bytes, count: int, contributors: Collection[str]) -> IntVector:
        """The integers' sum over exactly these contributors.

        Args:
            residues: What the coordinator sent.
            count: Number of integers.
            contributors: Hospitals that must be in the sum, each once, and nobody else.

        Raises:
            IntegrityError: Presence, tags or form are wrong.
        """
        sites = self.cohort.size
        framed = framed_size(num_words(count, self.packing), sites)
        words = check(
            decrypt(self._secret(), self.keys, residues, framed),
            present=tuple(sorted(self.cohort.index(name) for name in contributors)),
            sites=sites,
            key=self._tag_key(),
            packing=self.packing,
        )
        return unpack(words, count, self.packing)

    def _secret(self) -> SecretKey:
        return secret_of(self.keys, self.purpose, self.packing)

    def _tag_key(self) -> bytes:
        return tag_key(
            self.keys.data,
            job=self.cohort.job,
            epoch=self.cohort.epoch,
            attempt=self.attempt,
            purpose=self.purpose,
        )
