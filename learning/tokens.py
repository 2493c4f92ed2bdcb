"""Notes to numbers: words by a public hash, and n-grams by arithmetic on their numbers.

There is no vocabulary. One that is learnt would be a release of its own, since a rare name in it
gives a patient away; a hash is the same at every hospital without anybody having counted anything.

The hash has no key. All members of a consortium, and whoever serves the model later, must map a
word to the same number, so a key would be known to exactly those who are curious, and it would have
to be kept as long as the model. Nor does anything rest on it: words and their numbers stay in the
hospital, and what leaves it are sums of clipped gradients with noise.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from learning.task import FloatArray

PRIME = 2**31 - 1
"""Numbers of words and n-grams are below this; 0 stands for no word, so no n-gram goes over it."""

# Public and arbitrary; its product with a number below PRIME is an exact 64-bit integer.
_BASE = 5**13

_PERSON = b"fedward words"
_DIGIT = re.compile(r"\d")
# What stands between blanks and punctuation; marks of accents and vowels stay with their letters.
# An end of sentences or lines, the only thing that has no letter first, is a word without letters.
_WORD = re.compile(
    r"([^\s!-/:-@\[-`{-~\u00a1\u00a7\u00ab\u00b6\u00b7\u00bb\u00bf\u2000-\u206f\u3000-\u303f]+)"
    r"|[.:;!?\n\u0964\u3002][^\w]*(?=\w)"
)


def words(text: str) -> Iterator[str]:
    """The words of a text, in order, in one spelling (NFKC, case folded, every digit a 0).

    A number's digits are dropped: identifiers get no number of their own, and a laboratory value
    belongs in a column of numbers. Between two sentences stands a word without letters.

    >>> list(words("No fever. BP 120/80, Hb 7,5"))
    ['no', 'fever', '', 'bp', '000', '00', 'hb', '0', '0']
    """
    folded = normalize("NFKC", normalize("NFKC", text).casefold())
    return (match[1] or "" for match in _WORD.finditer(_DIGIT.sub("0", folded)))


def word_number(word: str) -> int:
    """The word's number, from 1 to PRIME - 1.

    Source: Saarinen, Aumasson 2015, The BLAKE2 Cryptographic Hash (RFC 7693), personalised.

    >>> word_number("fever")
    1664345707
    """
    digest = hashlib.blake2b(
        word.encode("utf-8", "surrogatepass"), digest_size=8, person=_PERSON
    ).digest()
    return 1 + int.from_bytes(digest, "big") % (PRIME - 1)


def hashed(texts: Sequence[str | None], length: int) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Numbers of the first L words of each text, N x L, zeros behind them, and which were cut.

    Args:
        texts: Notes; None for one that is missing.
        length: L.

    >>> hashed(["", "a b c"], 2)[1].tolist()
    [False, True]
    """
    number_NL = np.zeros((len(texts), length))
    cut_N = np.zeros(len(texts), dtype=np.bool_)
    known = {"": 0}
    for row, text in enumerate(texts):
        found = list(islice(words(text or ""), length + 1))
        cut_N[row] = len(found) > length
        for place, word in enumerate(found[:length]):
            if word not in known:
                known[word] = word_number(word)
            number_NL[row, place] = known[word]
    return number_NL, cut_N


def ngrams(word_NL: Any, order: int, start: int = 0) -> tuple[Any, Any]:
    """Numbers of all runs of `order` words, N x (L - order + 1), and which of them are runs.

    The number of a run is a polynomial in the numbers of its words, modulo a prime, so that the
    order of words counts.

    Source: Karp, Rabin 1987, Efficient Randomized Pattern-Matching Algorithms, section 3.

    Args:
        word_NL: Numbers of words as int64, a numpy array or a torch tensor; 0 for none.
        order: Words in a run, at most L.
        start: Another value gives other numbers to the same words, such as those of another column.

    >>> ngrams(np.array([[3, 4, 0]]), 2)[1].tolist()
    [[True, False]]
    """
    width = word_NL.shape[1] - order + 1
    number, known = start, True
    for place in range(order):
        word = word_NL[:, place : place + width]
        number = (number * _BASE + word) % PRIME
        known = known & (word > 0)
    return number, known
