"""A coordinator without a key changes what it relays: every hospital sees it, and learns only that.

BFV lets it: each attack below decrypts to well-formed words. The last test shows what would happen
without presence and tags.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.he.bits import Words
from privacy.he.codec import unpack
from privacy.he.parameters import num_words
from privacy.he.words import framed_size
from protocol.errors import IntegrityError
from tests.privacy.he.cohort import Hospitals, Opened, Values, summed

SITES = 3
COUNT = 40_000
HOSPITALS = Hospitals.of(radix=2541, sites=SITES, count=COUNT, max_sites=10)
Q, T = HOSPITALS.packing.modulus, HOSPITALS.packing.plain_modulus
VALUE_WORDS = num_words(COUNT, HOSPITALS.packing)


def updates(seed: int) -> Values:
    return np.random.Generator(np.random.PCG64(seed)).integers(-127, 128, (SITES, COUNT))


VALUES = updates(1)
PAYLOADS = HOSPITALS.contributions(VALUES)
RESIDUES = summed(HOSPITALS.new_sum(), PAYLOADS)


def changed(change: Callable[[Opened], None]) -> bytes:
    opened = Opened.of(HOSPITALS, RESIDUES)
    change(opened)
    return opened.closed()


def plus_constant(word: int, constant: int) -> Callable[[Opened], None]:
    """Add a constant to one word: round(q c / t) added to one residue of c0, no key needed."""

    def change(opened: Opened) -> None:
        opened.first[word] += np.uint64((Q * constant + T // 2) // T)

    return change


def times(factor: int) -> Callable[[Opened], None]:
    def change(opened: Opened) -> None:
        opened.first *= np.uint64(factor)
        opened.second *= np.uint64(factor)

    return change


def swap_chunks(opened: Opened) -> None:
    """Exchange the first two whole ciphertexts of the stream."""
    opened.second[[0, 1]] = opened.second[[1, 0]]
    opened.first[:8192] = np.roll(opened.first[:8192], 4096)


def rotate(opened: Opened) -> None:
    """Multiply the first ciphertext by x: every word moves one place, the last changes its sign."""
    for polynomial in (opened.first[:4096], opened.second[0]):
        polynomial[:] = np.roll(polynomial, 1)
        polynomial[0] = Q - polynomial[0]


def negate(opened: Opened) -> None:
    opened.first[:] = Q - opened.first
    opened.second[:] = Q - opened.second


def drop_values(opened: Opened) -> None:
    opened.first[:VALUE_WORDS] = 0


ATTACKS: dict[str, Callable[[Opened], None]] = {
    "a constant in the first word": plus_constant(0, 1),
    "a constant in the last value": plus_constant(VALUE_WORDS - 1, T - 1),
    "a constant in a presence word": plus_constant(VALUE_WORDS, 1),
    "a constant in a tag": plus_constant(VALUE_WORDS + SITES, 12345),
    "twice the sum": times(2),
    "minus the sum": negate,
    "swapped ciphertexts": swap_chunks,
    "rotated words": rotate,
    "no values": drop_values,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_changed_sum_is_detected(attack: str) -> None:
    with pytest.raises(IntegrityError):
        HOSPITALS.read(changed(ATTACKS[attack]))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, framed_size(VALUE_WORDS, SITES) - 1), st.integers(1, T - 1)),
        min_size=1,
        max_size=4,
        unique_by=lambda pair: pair[0],
    )
)
def test_constants_added_anywhere_are_detected(constants: list[tuple[int, int]]) -> None:
    def change(opened: Opened) -> None:
        for word, constant in constants:
            plus_constant(word, constant)(opened)

    with pytest.raises(IntegrityError):
        HOSPITALS.read(changed(change))


def test_the_honest_sum_is_read() -> None:
    assert np.array_equal(HOSPITALS.read(RESIDUES), VALUES.sum(axis=0))
    assert np.array_equal(HOSPITALS.read(changed(lambda _: None)), VALUES.sum(axis=0))


@pytest.mark.parametrize(
    "chosen",
    [(0,), (1,), (0, 1), (0, 1, 2, 2), (0, 0, 1), (2, 2, 2)],
    ids=["one alone", "another alone", "one missing", "one twice", "one for another", "one only"],
)
def test_anything_but_the_cohorts_sum_is_detected(chosen: tuple[int, ...]) -> None:
    residues = summed(HOSPITALS.new_sum(), [PAYLOADS[site] for site in chosen])
    with pytest.raises(IntegrityError):
        HOSPITALS.read(residues)


def test_contributions_of_another_attempt_are_detected() -> None:
    again = HOSPITALS.contributions(VALUES, attempt=2)
    assert np.array_equal(
        HOSPITALS.read(summed(HOSPITALS.new_sum(), again), attempt=2), VALUES.sum(axis=0)
    )
    with pytest.raises(IntegrityError):
        HOSPITALS.read(RESIDUES, attempt=2)
    mixed = summed(HOSPITALS.new_sum(), [PAYLOADS[0], *again[1:]])
    for attempt in (1, 2):
        with pytest.raises(IntegrityError):
            HOSPITALS.read(mixed, attempt=attempt)


def test_a_linear_combination_with_the_right_presence_is_detected() -> None:
    # 2 * sum - sum' of two attempts holds every site once and is no sum of either.
    again = summed(HOSPITALS.new_sum(), HOSPITALS.contributions(updates(2), attempt=2))
    other = Opened.of(HOSPITALS, again)

    def change(opened: Opened) -> None:
        opened.first = (2 * opened.first + Q - other.first) % Q
        opened.second = (2 * opened.second + Q - other.second) % Q

    for attempt in (1, 2):
        with pytest.raises(IntegrityError):
            HOSPITALS.read(changed(change), attempt=attempt)


def test_a_sum_under_another_cohorts_key_is_detected() -> None:
    strangers = Hospitals.of(radix=2541, sites=SITES, count=COUNT, max_sites=10)
    foreign = summed(strangers.new_sum(), strangers.contributions(VALUES))
    with pytest.raises(IntegrityError):
        HOSPITALS.read(foreign)


def test_every_failure_says_the_same() -> None:
    messages = set()
    for change in ATTACKS.values():
        with pytest.raises(IntegrityError) as refused:
            HOSPITALS.read(changed(change))
        messages.add(str(refused.value))
    assert len(messages) == 1


def test_without_tags_the_attacks_would_go_unseen() -> None:
    def values_in(words_W: Words) -> Values:
        return unpack(words_W[:VALUE_WORDS], COUNT, HOSPITALS.packing)

    planted = HOSPITALS.key.decrypt(changed(plus_constant(5, 100)), HOSPITALS.num_words)
    difference = values_in(planted) - VALUES.sum(axis=0)
    assert difference[5] == 100
    assert np.count_nonzero(difference) == 1
    alone = summed(HOSPITALS.new_sum(), PAYLOADS[:1])
    bare = values_in(HOSPITALS.key.decrypt(alone, HOSPITALS.num_words))
    assert np.array_equal(bare, VALUES[0])
