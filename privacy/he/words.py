"""Presence and tag words: what lets a hospital see that a decrypted sum is the cohort's sum.

BFV is malleable. Without any key a coordinator can add constants to chosen words, scale, permute
or swap ciphertexts, replay them, or pass off one site's as the sum. Site i therefore puts 1 into
slot i of the presence words, which no noisy digit shares, and two tags h(w) = sum_j r_j w_j mod t
over all other words behind them. Both are linear, so an honest sum carries the cohort's 0/1 vector
and the tags of its own words.

Guarantee: whoever does not know the key can add constants to words and apply any linear map to the
contributions; what is not their plain sum passes `check` with probability at most 2^-62. The r_j
are uniform on 32 bits, t is a prime above 2^32, and a forgery asks two independent polynomials in
the r_j, of degree at most 2 (a tag moved to a word), to vanish.
Source: Carter and Wegman, Universal classes of hash functions, JCSS 18 (1979); Schwartz, Fast
probabilistic algorithms for verification of polynomial identities, JACM 27 (1980), Corollary 1.
"""

from __future__ import annotations

import hmac

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.canonical import to_canonical
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Packing

Words = npt.NDArray[np.uint64]

TAGS = 2
_LIMB = 27
_ROWS = 32
"""Products of 32 and 27 bits whose sum stays below 2^64."""
_BLOCK = 1 << 15
"""Words hashed at a time: they stay in the processor's cache."""


def tag_key(data_key: bytes, *, job: str, epoch: int, attempt: int, purpose: str) -> bytes:
    """The key of one release's tags.

    Args:
        data_key: The epoch's data key, which the coordinator does not have.
        job: The job's digest.
        epoch: Number of the cohort's keys.
        attempt: Number of the release, never used twice.
        purpose: What is released, for example `update`.
    """
    context = to_canonical(["fedward tags", job, epoch, attempt, purpose])
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=context).derive(data_key)


def framed_size(count: int, sites: int) -> int:
    """Words of a contribution with `count` value words.

    >>> framed_size(250, 10)
    262
    """
    return count + sites + TAGS


def frame(words_W: Words, *, site: int, sites: int, key: bytes, packing: Packing) -> Words:
    """Value words, then presence words, then tags.

    Args:
        words_W: Value words below t.
        site: This site's index in the cohort.
        sites: K, members of the cohort.
        key: The release's key, see `tag_key`.
        packing: The sum's parameters.

    Raises:
        InputError: The cohort is larger than the parameters allow, or has no such site.
    """
    if not 0 <= site < sites <= packing.max_sites:
        raise InputError(
            "cohort",
            expected=f"site < sites <= {packing.max_sites}",
            found=f"site {site} of {sites}",
        )
    framed_W = np.zeros(framed_size(words_W.size, sites), dtype=np.uint64)
    framed_W[: words_W.size] = words_W
    framed_W[words_W.size + site] = 1
    framed_W[-TAGS:] = _tags(framed_W[:-TAGS], key, packing.plain_modulus)
    return framed_W


def check(
    words_W: Words, *, present: tuple[int, ...], sites: int, key: bytes, packing: Packing
) -> Words:
    """The value words of a decrypted sum, after presence and tags have been verified.

    Args:
        words_W: Decrypted words of the sum, masks cancelled.
        present: Indices of the sites whose contributions the sum must hold, once each.
        sites: K, members of the cohort.
        key: The release's key, see `tag_key`.
        packing: The sum's parameters.

    Raises:
        IntegrityError: The words are not that sum. The message is always the same.
    """
    body, tags = words_W[:-TAGS], words_W[-TAGS:]
    expected_K = np.isin(np.arange(sites), present).astype(np.uint64)
    count = max(words_W.size - framed_size(0, sites), 0)
    # Everything is computed and compared in every case: neither time nor message says what failed.
    tagged = _tags(body, key, packing.plain_modulus)
    whole = hmac.compare_digest(tagged.tobytes(), tags.tobytes())
    exact = hmac.compare_digest(body[count:].tobytes(), expected_K.tobytes())
    if not (whole and exact and int(expected_K.sum()) == len(present) > 0):
        raise IntegrityError("the decrypted sum is not the sum of the cohort's contributions")
    return words_W[:count]


def _tags(words_W: Words, key: bytes, t: int) -> Words:
    """Two independent universal hashes of words below t < 2^54."""
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    totals = [0] * TAGS
    for start in range(0, words_W.size, _BLOCK):
        block_RM = _rows(words_W[start : start + _BLOCK])
        limbs = (block_RM & np.uint64((1 << _LIMB) - 1), block_RM >> np.uint64(_LIMB))
        drawn = stream.update(bytes(4 * TAGS * block_RM.size))
        for tag, row in enumerate(np.frombuffer(drawn, dtype="<u4").reshape(TAGS, -1)):
            factors_RM = row.reshape(block_RM.shape).astype(np.uint64)
            low, high = (_exact_sum(np.einsum("rm,rm->m", factors_RM, limb)) for limb in limbs)
            totals[tag] += low + (high << _LIMB)
    return np.array([total % t for total in totals], dtype=np.uint64)


def _rows(words_W: Words) -> Words:
    """Words in rows, filled up with zeros: so many products add up below 2^64 in a column."""
    if words_W.size % _ROWS == 0:
        return words_W.reshape(_ROWS, -1)
    width = -(-words_W.size // _ROWS)
    rows = np.zeros((_ROWS, width), dtype=np.uint64)
    rows.reshape(-1)[: words_W.size] = words_W
    return rows


def _exact_sum(numbers: Words) -> int:
    """The sum of 64-bit numbers, which may be longer than 64 bits."""
    low = int((numbers & np.uint64(0xFFFFFFFF)).sum())
    return low + (int((numbers >> np.uint64(32)).sum()) << 32)
