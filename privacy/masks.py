"""Pairwise masks: what makes one hospital's words uniform noise and leaves the cohort's sum exact.

Every pair of members shares a stream of words, uniform modulo t, for each release. The member with
the lower fingerprint adds it, the other subtracts it, so the masks cancel in the sum of the whole
cohort and in no other. Whoever lacks the keys of one honest pair sees words that are independent
of what they hide, even when it can decrypt them.

The stream of a pair is AES-256 in counter mode (NIST SP 800-38A, section 6.5), read as the low 60
bits of little-endian 64-bit words. A word at or above the largest multiple of t up to 2^60 is
replaced by the next word below it from a second stream, whose counter starts 2^127 blocks away;
what remains is exactly uniform modulo t, and every word keeps its place.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.envelope import commitment
from privacy.keys import Ephemeral
from protocol.canonical import to_canonical
from protocol.cohort import Cohort, Member
from protocol.errors import InputError

Words = npt.NDArray[np.uint64]

WORD_BITS = 60
"""Width of a stream's words: 4 bits of headroom let 14 of them be added before one reduction."""
MAX_MODULUS = 1 << WORD_BITS
KEY_LENGTH = 48
"""Bytes of a pair's key: 32 of the AES-256 key, then 16 of the first counter block."""
_GROUP = 14
_BLOCK = 1 << 14  # words; a block and its accumulator stay in the cache
_LOW_BITS = np.uint64(MAX_MODULUS - 1)


def mask(
    words_W: Words,
    *,
    modulus: int,
    me: str,
    cohort: Cohort,
    ephemeral: Ephemeral,
    attempt: int,
    purpose: str,
    data_key: bytes,
    weights_tag: bytes,
) -> Words:
    """Add this member's masks to the words of one release.

    Guarantee: to whoever lacks the ephemeral keys of this member and of one other, the result is
    uniform modulo t and independent of `words_W` (as far as AES-256, HKDF-SHA256 and X25519 hold).
    The sum over the cohort is the sum of the plain words only if every member used the same job,
    roster, cohort document, epoch, attempt, purpose, data key and weights; otherwise it is noise.
    No second plaintext is masked under one (job, epoch, attempt, purpose) with these keys; the
    ledger keeps the same rule across restarts.

    Args:
        words_W: Packed and framed words, uint64, each below `modulus`.
        modulus: t, from 2 to 2^60.
        me: This hospital's name in the cohort.
        cohort: The verified cohort document.
        ephemeral: This hospital's keys of that cohort.
        attempt: Number of the attempt within the job.
        purpose: What is released: `update`, `evaluation` or `statistics`.
        data_key: The epoch's data key.
        weights_tag: `privacy.envelope.weights_tag` of the current weights.

    Returns:
        Masked words, uint64 of shape W, each below `modulus`.

    Raises:
        InputError: The modulus or the words are not what they must be.
        IntegrityError: This tuple has been used, or a member's key is no valid point.
        RefusalError: This hospital is not in the cohort, or holds other keys than it names.

    Source: Bonawitz et al., Practical Secure Aggregation, CCS 2017, section 4.0.1 (pairwise masks).
    """
    _check(words_W, modulus)
    keys = pairwise_keys(
        me=me,
        cohort=cohort,
        ephemeral=ephemeral,
        attempt=attempt,
        purpose=purpose,
        data_key=data_key,
        weights_tag=weights_tag,
    )
    ephemeral.claim("mask", cohort.job, cohort.epoch, attempt, purpose)
    mine = cohort.member(me).fingerprint
    signed = [
        (Stream(key, modulus), mine < cohort.member(peer).fingerprint) for peer, key in keys.items()
    ]
    masked_W = words_W.copy()
    for start in range(0, len(signed), _GROUP):
        _add_streams(masked_W, signed[start : start + _GROUP], modulus)
    return masked_W


def pairwise_keys(
    *,
    me: str,
    cohort: Cohort,
    ephemeral: Ephemeral,
    attempt: int,
    purpose: str,
    data_key: bytes,
    weights_tag: bytes,
) -> dict[str, bytes]:
    """The stream keys that this member shares with each other member in one release.

    Args: as of `mask`.

    Returns:
        Name of the other member to `KEY_LENGTH` bytes, equal on both sides.

    Raises:
        IntegrityError: A member's key is no valid point.
        RefusalError: This hospital is not in the cohort, or holds other keys than it names.

    Source: RFC 7748, section 6.1; RFC 5869, section 2.
    """
    mine = cohort.member(me)
    ephemeral.check_holds(mine)
    release = to_canonical(
        {
            "job": cohort.job,
            "roster": cohort.roster,
            "cohort": cohort.digest,
            "epoch": cohort.epoch,
            "attempt": attempt,
            "purpose": purpose,
            "commitment": commitment(data_key),
            "weights": weights_tag,
        }
    )
    return {
        peer.name: _derive(ephemeral.agree(peer.exchange), mine, peer, release)
        for peer in cohort.members
        if peer is not mine
    }


def uniform_words(key: bytes, size: int, modulus: int) -> Words:
    """The first words of a stream, reduced: uint64 of shape (size,), uniform modulo `modulus`.

    >>> bool((uniform_words(bytes(48), 1000, 97) < 97).all())
    True
    """
    stream = Stream(key, modulus)
    words_W = np.empty(size, "<u8")
    for start in range(0, size, _BLOCK):
        block = words_W[start : start + _BLOCK]
        stream.fill(block)
        block %= np.uint64(modulus)
    return words_W


class Stream:
    """Words of one pair and release, in order, each uniform on [0, `limit`).

    Args:
        key: `KEY_LENGTH` bytes; a key belongs to one stream.
        modulus: t, from 2 to 2^60; `limit` is its largest multiple up to 2^60.
    """

    def __init__(self, key: bytes, modulus: int) -> None:
        self.limit = MAX_MODULUS // modulus * modulus
        self._key = key
        self._main = self._cipher(0)

    def fill(self, words: Words) -> None:
        """Write the next words, at most one block of them."""
        _draw(self._main, words)
        if int(words.max(initial=0)) >= self.limit:
            refused = np.flatnonzero(words >= np.uint64(self.limit))
            words[refused] = self._spares(refused.size)

    def _cipher(self, offset: int) -> CipherContext:
        """The key stream from so many blocks behind (or, modulo 2^128, before) the first."""
        first = int.from_bytes(self._key[32:KEY_LENGTH]) ^ offset
        key = algorithms.AES256(self._key[:32])
        return Cipher(key, modes.CTR(first.to_bytes(16))).encryptor()

    @cached_property
    def _spare(self) -> CipherContext:
        """The second stream, which most streams never need."""
        return self._cipher(1 << 127)

    def _spares(self, count: int) -> Words:
        """The next `count` words of the second stream that are below the limit."""
        fresh = np.empty(count, "<u8")
        _draw(self._spare, fresh)
        kept = fresh[fresh < np.uint64(self.limit)]
        if kept.size == count:
            return kept
        return np.concatenate((kept, self._spares(count - kept.size)))


def _draw(cipher: CipherContext, words: Words) -> None:
    """Fill `words` with the low 60 bits of a cipher's next 64-bit words."""
    cipher.update_into(_ZEROS[: words.nbytes], words.data.cast("B"))
    np.bitwise_and(words, _LOW_BITS, out=words)


_ZEROS = memoryview(bytes(8 * _BLOCK))


def _add_streams(words_W: Words, streams: list[tuple[Stream, bool]], modulus: int) -> None:
    """Add or subtract up to `_GROUP` streams in place, with one reduction per word.

    The streams' words are below 2^60 and t is at most 2^60, so 14 of them and a reduced word stay
    below 2^64; those to be subtracted are first paid for with as many multiples of t.
    """
    limit = MAX_MODULUS // modulus * modulus
    owed = np.uint64(limit * sum(not added for _, added in streams))
    scratch = np.empty(_BLOCK, "<u8")  # one for all streams: it has to stay in the cache
    for start in range(0, words_W.size, _BLOCK):
        block = words_W[start : start + _BLOCK]
        fresh = scratch[: block.size]
        block += owed
        for stream, added in streams:
            stream.fill(fresh)
            combine = np.add if added else np.subtract
            combine(block, fresh, out=block)
        # x - (x // t) t: numpy vectorises the division by a scalar, not the remainder.
        quotient = np.floor_divide(block, np.uint64(modulus), out=fresh)
        quotient *= np.uint64(modulus)
        block -= quotient


def _derive(shared: bytes, mine: Member, peer: Member, release: bytes) -> bytes:
    """HKDF-SHA256 of one X25519 secret, bound to both identities and to the release.

    The release is spelt once for all peers, so the canonical bytes are put together here.
    """
    low, high = sorted((mine.fingerprint.encode(), peer.fingerprint.encode()))
    info = b'{"kind":"fedward/1 mask","pair":["%b","%b"],"release":%b}' % (low, high, release)
    return HKDF(SHA256(), KEY_LENGTH, salt=None, info=info).derive(shared)


def _check(words_W: Words, modulus: int) -> None:
    if not 2 <= modulus <= MAX_MODULUS:
        raise InputError("the modulus of a mask", expected=f"2 to 2^{WORD_BITS}")
    if words_W.dtype != np.uint64 or words_W.ndim != 1:
        raise InputError("words to be masked", expected="one vector of uint64")
    if int(words_W.max(initial=0)) >= modulus:
        raise InputError("words to be masked", expected="words below the modulus")
