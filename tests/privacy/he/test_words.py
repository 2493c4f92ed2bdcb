import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from privacy.he import words as module
from privacy.he.bits import Words
from privacy.he.parameters import parameters_for
from privacy.he.words import check, frame, framed_size, tag_key
from protocol.errors import InputError, IntegrityError

PACKING = parameters_for(radix=2541, max_sites=10)
T = PACKING.plain_modulus
KEY = bytes(range(32))


def some_words(count: int, seed: int = 0) -> Words:
    return np.random.Generator(np.random.PCG64(seed)).integers(0, T, count, dtype=np.uint64)


def cohort_sum(values_KW: list[Words], key: bytes = KEY) -> Words:
    sites = len(values_KW)
    total = np.zeros(framed_size(values_KW[0].size, sites), dtype=np.uint64)
    for site, words in enumerate(values_KW):
        total = (total + frame(words, site=site, sites=sites, key=key, packing=PACKING)) % T
    return total


def accepted(words: Words, sites: int, key: bytes = KEY) -> Words:
    return check(words, present=tuple(range(sites)), sites=sites, key=key, packing=PACKING)


@given(st.integers(0, 200), st.integers(1, 10), st.integers(0, 2**32))
def test_an_honest_sum_passes(count: int, sites: int, seed: int) -> None:
    contributions = [some_words(count, seed + site) for site in range(sites)]
    expected = np.array(contributions).sum(axis=0, dtype=np.uint64) % T
    assert np.array_equal(accepted(cohort_sum(contributions), sites), expected)


def test_tags_are_the_universal_hash_over_values_and_presence() -> None:
    # More than two blocks, so that the order of the stream is fixed too.
    words = some_words(2 * module._BLOCK + 77)
    framed = frame(words, site=1, sites=3, key=KEY, packing=PACKING)
    body = [int(word) for word in framed[: -module.TAGS]]
    assert body[-3:] == [0, 1, 0]
    stream = Cipher(algorithms.AES(KEY), modes.CTR(bytes(16))).encryptor()
    totals = [0, 0]
    for start in range(0, len(body), module._BLOCK):
        block = body[start : start + module._BLOCK]
        width = -(-len(block) // 32) * 32
        drawn = stream.update(bytes(8 * width))
        for tag in range(2):
            part = drawn[4 * tag * width : 4 * (tag + 1) * width]
            factors = [int.from_bytes(part[4 * j : 4 * j + 4], "little") for j in range(len(block))]
            totals[tag] += sum(r * w for r, w in zip(factors, block, strict=True))
    assert [int(tag) for tag in framed[-2:]] == [total % T for total in totals]


def test_the_largest_words_do_not_overflow_the_hash() -> None:
    widest = parameters_for(radix=2, max_sites=1)
    t = widest.plain_modulus
    words = np.full(100_000, t - 1, dtype=np.uint64)
    framed = frame(words, site=0, sites=1, key=KEY, packing=widest)
    negated = frame(np.ones(100_000, dtype=np.uint64), site=0, sites=1, key=KEY, packing=widest)
    presence_only = frame(np.zeros(100_000, np.uint64), site=0, sites=1, key=KEY, packing=widest)
    # h(-1) + h(1) = 2 h(0) where h(0) covers the presence word alone.
    assert np.array_equal((framed + negated)[-2:] % t, 2 * presence_only[-2:] % t)


@pytest.mark.parametrize("place", [0, 49, 50, 51, 52, 53, 54])
def test_one_changed_word_is_detected_wherever_it_is(place: int) -> None:
    total = cohort_sum([some_words(50, site) for site in range(3)])
    assert total.size == 55
    total[place] = (int(total[place]) + 1) % T
    with pytest.raises(IntegrityError):
        accepted(total, 3)


def test_missing_doubled_and_scaled_contributions_are_detected() -> None:
    contributions = [some_words(20, site) for site in range(3)]
    framed = [
        frame(words, site=site, sites=3, key=KEY, packing=PACKING)
        for site, words in enumerate(contributions)
    ]
    forgeries = {
        "one missing": framed[0] + framed[1],
        "one alone": framed[2],
        "one twice": framed[0] + framed[1] + 2 * framed[2],
        "one for another": framed[0] + 2 * framed[1],
        "scaled": 2 * (framed[0] + framed[1] + framed[2]),
        "nothing": np.zeros_like(framed[0]),
    }
    messages = set()
    for forged in forgeries.values():
        with pytest.raises(IntegrityError) as refused:
            accepted(forged % T, 3)
        messages.add(str(refused.value))
    assert len(messages) == 1


def test_a_sum_of_those_who_came_passes_only_for_exactly_them() -> None:
    framed = [
        frame(some_words(20, site), site=site, sites=4, key=KEY, packing=PACKING) for site in (0, 2)
    ]
    total = (framed[0] + framed[1]) % T
    check(total, present=(0, 2), sites=4, key=KEY, packing=PACKING)
    for wrong in ((0,), (0, 1), (0, 2, 2), (0, 2, 3), (0, -2), (0, 2, 7), ()):
        with pytest.raises(IntegrityError):
            check(total, present=wrong, sites=4, key=KEY, packing=PACKING)


def test_another_releases_sum_is_detected() -> None:
    keys = {
        tag_key(KEY, job=job, epoch=epoch, attempt=attempt, purpose=purpose)
        for job in ("a", "b")
        for epoch in (1, 11)
        for attempt in (1, 2)
        for purpose in ("update", "evaluation")
    }
    assert len(keys) == 16
    first, second, *_ = keys
    total = cohort_sum([some_words(20, site) for site in range(3)], first)
    accepted(total, 3, first)
    with pytest.raises(IntegrityError):
        accepted(total, 3, second)


@pytest.mark.parametrize("length", [0, 1, 2, 4])
def test_too_few_words_are_no_sum(length: int) -> None:
    with pytest.raises(IntegrityError):
        accepted(np.ones(length, dtype=np.uint64), 3)


def test_a_cohort_beyond_the_parameters_is_refused() -> None:
    for site, sites in ((0, 11), (3, 3), (-1, 3)):
        with pytest.raises(InputError, match="cohort"):
            frame(some_words(5), site=site, sites=sites, key=KEY, packing=PACKING)
