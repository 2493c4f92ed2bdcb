"""From integers to ciphertext and back: exact for the whole cohort, refused otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import cohort_keys
from privacy.channel import Channel
from privacy.envelope import EpochKeys
from privacy.he.parameters import num_words, parameters_for
from privacy.he.sum import CiphertextSum
from privacy.he.words import framed_size
from protocol.errors import FedwardError, IntegrityError
from protocol.jobs import Encryption
from tests.privacy.consortium import Hospital, cohort_of, hospitals

PACKING = parameters_for(radix=2**20 + 1, max_sites=4)
ENCRYPTION = Encryption(
    scheme="bfv",
    masks=True,
    digit_bits=16,
    digit_bound=1.0,
    update=PACKING,
    evaluation=parameters_for(radix=2**12 + 1, max_sites=4),
    library="",
)
KEYS = cohort_keys.make(ENCRYPTION)
LENGTH = 50


def channels(
    members: list[Hospital], *, keys: EpochKeys = KEYS, masked: bool = True
) -> list[Channel]:
    cohort = cohort_of(members)
    return [
        Channel(
            packing=PACKING,
            cohort=cohort,
            site=member.name,
            ephemeral=member.ephemeral,
            keys=keys,
            masked=masked,
            attempt=1,
            purpose="update",
            weights_tag=b"w" * 32,
        )
        for member in members
    ]


def added(payloads: list[bytes], sites: int) -> bytes:
    total = CiphertextSum(PACKING, framed_size(num_words(LENGTH, PACKING), sites))
    for payload in payloads:
        total.add(payload)
    return total.residues()


def values(sites: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.integers(-(2**17), 2**17, size=(sites, LENGTH))


def names(members: list[Hospital]) -> list[str]:
    return [member.name for member in members]


@settings(deadline=None)  # the first example makes and agrees on keys
@given(sites=st.integers(3, 4), seed=st.integers(0, 100), masked=st.booleans())
def test_the_sum_is_exact(sites: int, seed: int, *, masked: bool) -> None:
    members = [member.again() for member in hospitals(sites)]
    ways = channels(members, masked=masked)
    digits = values(sites, seed)
    payloads = [way.protect(row) for way, row in zip(ways, digits, strict=True)]
    for way in ways:
        revealed = way.reveal(added(payloads, sites), LENGTH, names(members))
        assert (revealed == digits.sum(axis=0)).all()


def test_a_part_of_the_cohort_is_noise_under_masks() -> None:
    members = [member.again() for member in hospitals(3)]
    ways = channels(members)
    payloads = [way.protect(row) for way, row in zip(ways, values(3), strict=True)]
    with pytest.raises(IntegrityError):
        ways[0].reveal(added(payloads[:2], 3), LENGTH, names(members)[:2])


def test_a_part_of_the_cohort_is_a_sum_without_masks() -> None:
    members = [member.again() for member in hospitals(3)]
    ways = channels(members, masked=False)
    digits = values(3)
    payloads = [way.protect(row) for way, row in zip(ways, digits, strict=True)]
    residues = added(payloads[:2], 3)
    revealed = ways[2].reveal(residues, LENGTH, names(members)[:2])
    assert (revealed == digits[:2].sum(axis=0)).all()
    with pytest.raises(IntegrityError):
        ways[2].reveal(residues, LENGTH, names(members))


@pytest.mark.parametrize(
    "change",
    [{"attempt": 2}, {"purpose": "evaluation"}, {"weights_tag": b"v" * 32}],
    ids=["attempt", "purpose", "weights"],
)
def test_another_place_gives_no_sum(change: dict[str, object]) -> None:
    members = [member.again() for member in hospitals(3)]
    ways = channels(members)
    ways[1] = replace(ways[1], **change)  # type: ignore[arg-type]
    if "purpose" in change:
        ways[1] = replace(ways[1], packing=ENCRYPTION.evaluation or PACKING)
        with pytest.raises(IntegrityError):
            added([way.protect(row % 9) for way, row in zip(ways, values(3), strict=True)], 3)
        return
    payloads = [way.protect(row) for way, row in zip(ways, values(3), strict=True)]
    with pytest.raises(IntegrityError):
        ways[0].reveal(added(payloads, 3), LENGTH, names(members))


def test_nothing_is_masked_without_the_tag_of_the_weights() -> None:
    channel = replace(channels(hospitals(2))[0], weights_tag=b"")
    with pytest.raises(FedwardError, match="tag of the weights"):
        channel.protect(values(2)[0])
    assert replace(channel, masked=False).protect(values(2)[0])


def test_split_keys_give_no_sum() -> None:
    members = [member.again() for member in hospitals(3)]
    ways = channels(members)
    other = EpochKeys(bfv=KEYS.bfv, data=bytes(32))
    ways[1] = replace(ways[1], keys=other)
    payloads = [way.protect(row) for way, row in zip(ways, values(3), strict=True)]
    for way in (ways[0], ways[1]):
        with pytest.raises(IntegrityError):
            way.reveal(added(payloads, 3), LENGTH, names(members))


def test_one_tuple_protects_one_plaintext() -> None:
    way = channels([member.again() for member in hospitals(3)])[0]
    way.protect(values(3)[0])
    with pytest.raises(IntegrityError):
        way.protect(values(3)[1])


def test_keys_are_made_for_what_is_encrypted() -> None:
    keys = cohort_keys.make(replace(ENCRYPTION, evaluation=None))
    assert cohort_keys.secret_of(keys, "update", PACKING)
    with pytest.raises(IntegrityError, match="no key for this purpose"):
        cohort_keys.secret_of(keys, "evaluation", PACKING)
    with pytest.raises(IntegrityError, match="no key for this purpose"):
        cohort_keys.secret_of(EpochKeys(bfv=b"[]", data=bytes(32)), "update", PACKING)
