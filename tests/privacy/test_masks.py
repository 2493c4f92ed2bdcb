from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy import masks
from privacy.envelope import commitment
from privacy.masks import KEY_LENGTH, MAX_MODULUS, Words, mask, pairwise_keys, uniform_words
from protocol.canonical import to_canonical
from protocol.cohort import Cohort
from protocol.errors import InputError, IntegrityError, RefusalError
from tests.privacy.consortium import Hospital, cohort_of, ephemeral, hospitals, secret
from tests.vectors.published import load

DATA_KEY = secret("data")
TAG = secret("weights")
PRIME = (1 << 46) - 21
MIN_P = 1e-6  # data are fixed: this bounds what a wrong distribution may look like


def masked(one: Hospital, cohort: Cohort, words_W: Words, modulus: int, **other: Any) -> Words:
    arguments: dict[str, Any] = {
        "cohort": cohort,
        "ephemeral": one.ephemeral,
        "attempt": 3,
        "purpose": "update",
        "data_key": DATA_KEY,
        "weights_tag": TAG,
    }
    return mask(words_W, modulus=modulus, me=one.name, **(arguments | other))


def plain(count: int, size: int, modulus: int, seed: int = 0) -> Words:
    return np.random.default_rng(seed).integers(0, modulus, (count, size), dtype=np.uint64)


def total(words_KW: list[Words] | Words, modulus: int) -> list[int]:
    """The exact sum in Python's integers."""
    return [sum(column) % modulus for column in zip(*(w.tolist() for w in words_KW), strict=True)]


def key_of(one: Hospital, other: Hospital, cohort: Cohort) -> bytes:
    return pairwise_keys(
        me=one.name,
        cohort=cohort,
        ephemeral=one.ephemeral,
        attempt=3,
        purpose="update",
        data_key=DATA_KEY,
        weights_tag=TAG,
    )[other.name]


# -- cancellation ---------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(2, 6),
    modulus=st.integers(2, MAX_MODULUS),
    size=st.integers(0, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_masks_cancel_over_the_cohort(count: int, modulus: int, size: int, seed: int) -> None:
    members = hospitals(count)
    cohort = cohort_of(members)
    words_KW = plain(count, size, modulus, seed)
    masked_KW = [masked(m, cohort, w, modulus) for m, w in zip(members, words_KW, strict=True)]
    assert total(masked_KW, modulus) == total(words_KW, modulus)
    assert all(w.dtype == np.uint64 and bool((w < modulus).all()) for w in masked_KW)


@pytest.mark.parametrize("modulus", [2, 3, PRIME, (1 << 59) + 1, MAX_MODULUS - 1, MAX_MODULUS])
def test_masks_cancel_where_many_streams_and_blocks_meet(modulus: int) -> None:
    # 17 members make two groups of streams; the size is no multiple of a block.
    members = hospitals(17)
    cohort = cohort_of(members)
    words_KW = plain(17, 2 * masks._BLOCK + 5, modulus)
    words_KW[:, :3] = modulus - 1
    masked_KW = [masked(m, cohort, w, modulus) for m, w in zip(members, words_KW, strict=True)]
    assert total(masked_KW, modulus) == total(words_KW, modulus)


def test_masking_leaves_its_input_alone() -> None:
    members = hospitals(3)
    words_W = plain(1, 50, PRIME)[0]
    before_W = words_W.copy()
    masked_W = masked(members[0], cohort_of(members), words_W, PRIME)
    assert (words_W == before_W).all()
    assert not (masked_W == words_W).any()


# -- noise where anything differs -----------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"attempt": 4},
        {"purpose": "evaluation"},
        {"data_key": secret("data of another bundle")},
        {"weights_tag": secret("other weights")},
    ],
    ids=lambda other: next(iter(other)),
)
def test_one_member_that_differs_turns_the_sum_into_noise(other: dict[str, Any]) -> None:
    members = hospitals(4)
    cohort = cohort_of(members)
    words_KW = plain(4, 500, PRIME)
    masked_KW = [
        masked(m, cohort, w, PRIME, **(other if i == 1 else {}))
        for i, (m, w) in enumerate(zip(members, words_KW, strict=True))
    ]
    check_noise(masked_KW, words_KW)


@pytest.mark.parametrize("field", ["epoch", "roster", "job", "members"])
def test_another_cohort_document_turns_the_sum_into_noise(field: str) -> None:
    members = hospitals(4)
    cohort = cohort_of(members)
    others: dict[str, Any] = {
        "epoch": 2,
        "roster": "0" * 64,
        "job": "0" * 64,
        # The same hospitals but for one whose keys were exchanged before this member saw them.
        "members": (replace(cohort.members[0], exchange=bytes([9] * 32)), *cohort.members[1:]),
    }
    other = replace(cohort, **{field: others[field]})
    words_KW = plain(4, 500, PRIME)
    masked_KW = [
        masked(m, other if i == 1 else cohort, w, PRIME)
        for i, (m, w) in enumerate(zip(members, words_KW, strict=True))
    ]
    check_noise(masked_KW, words_KW)


def test_a_missing_member_leaves_noise() -> None:
    members = hospitals(4)
    cohort = cohort_of(members)
    words_KW = plain(4, 500, PRIME)
    masked_KW = [masked(m, cohort, w, PRIME) for m, w in zip(members, words_KW, strict=True)]
    check_noise(masked_KW[1:], words_KW[1:])


def check_noise(masked_KW: list[Words], words_KW: Words) -> None:
    found = total(masked_KW, PRIME)
    assert all(a != b for a, b in zip(found, total(words_KW, PRIME), strict=True))
    # Presence words of the plain sum are 0 or 1; of 500 words of this one, none is.
    assert min(found) > 1
    check_uniform(np.array(found, np.uint64) % np.uint64(16), 16)


# -- what one masked update tells -----------------------------------------------------------------


def p_of_uniform(words_W: Words, modulus: int) -> float:
    counts = np.bincount(words_W.astype(np.int64), minlength=modulus)
    return float(stats.chisquare(counts).pvalue)


def check_uniform(words_W: Words, modulus: int) -> None:
    # Too even would be as wrong as too uneven.
    assert MIN_P < p_of_uniform(words_W, modulus) < 1 - MIN_P


@pytest.mark.parametrize("modulus", [2, 97, 257])
@pytest.mark.parametrize("value", ["zeros", "largest", "digits"])
def test_one_masked_update_is_uniform(modulus: int, value: str) -> None:
    size = 200 * modulus
    rng = np.random.default_rng(1)
    words_W = {
        "zeros": np.zeros(size, np.uint64),
        "largest": np.full(size, modulus - 1, np.uint64),
        "digits": (np.abs(rng.normal(0, modulus / 8, size)).astype(np.uint64)) % modulus,
    }[value].astype(np.uint64)
    assert p_of_uniform(words_W, modulus) < MIN_P  # the test sees what is not uniform
    members = hospitals(3)
    cohort = cohort_of(members)
    for member in members:
        check_uniform(masked(member, cohort, words_W, modulus), modulus)


def test_one_masked_update_is_uniform_over_a_wide_modulus() -> None:
    members = hospitals(3)
    modulus = (1 << 59) + 1  # nearly half of the stream's words are replaced
    masked_W = masked(members[1], cohort_of(members), np.zeros(60_000, np.uint64), modulus)
    assert stats.kstest(masked_W / modulus, "uniform").pvalue > MIN_P
    check_uniform(masked_W % np.uint64(64), 64)


def test_a_masked_update_is_independent_of_the_plain_one() -> None:
    members = hospitals(3)
    words_W = np.random.default_rng(2).integers(0, 13, 30_000, dtype=np.uint64)
    masked_W = masked(members[0], cohort_of(members), words_W, 13)

    def p_of_independence(other_W: Words) -> float:
        table = np.zeros((13, 13))
        np.add.at(table, (words_W.astype(np.int64), other_W.astype(np.int64)), 1)
        return float(stats.chi2_contingency(table + 1e-9).pvalue)

    assert p_of_independence((words_W + np.uint64(1)) % np.uint64(13)) < MIN_P
    assert MIN_P < p_of_independence(masked_W) < 1 - MIN_P


def test_colluding_members_see_uniform_words_as_long_as_one_other_is_honest() -> None:
    victim, honest, *colluding = members = hospitals(4)
    cohort = cohort_of(members)
    seen_W = masked(victim, cohort, np.zeros(20_000, np.uint64), 97)
    for member in colluding:
        stream_W = uniform_words(key_of(member, victim, cohort), 20_000, 97)
        adds = victim.key.fingerprint < member.key.fingerprint
        seen_W = (seen_W + (97 - stream_W if adds else stream_W)) % np.uint64(97)
    check_uniform(seen_W, 97)
    # What remains is the stream with the honest member and nothing else.
    assert (seen_W == uniform_words(key_of(victim, honest, cohort), 20_000, 97)).all()


def test_purposes_and_attempts_have_unrelated_streams() -> None:
    members = hospitals(3)
    cohort = cohort_of(members)
    zeros_W = np.zeros(20_000, np.uint64)
    first_W = masked(members[0], cohort, zeros_W, 97)
    for other in ({"attempt": 4}, {"purpose": "evaluation"}):
        second_W = masked(members[0], cohort, zeros_W, 97, **other)
        check_uniform((first_W + 97 - second_W) % np.uint64(97), 97)


# -- once -----------------------------------------------------------------------------------------


def test_no_second_plaintext_under_one_tuple() -> None:
    members = hospitals(3)
    cohort = cohort_of(members)
    zeros_W = np.zeros(5, np.uint64)
    masked(members[0], cohort, zeros_W, PRIME)
    with pytest.raises(IntegrityError, match="served this mask before"):
        masked(members[0], cohort, zeros_W, PRIME)
    # Nor under another document of the same epoch, other weights or another data key.
    others = ({"cohort": cohort_of(members[:2])}, {"weights_tag": b""}, {"data_key": bytes(32)})
    for other in others:
        with pytest.raises(IntegrityError, match="served this mask before"):
            masked(members[0], **({"cohort": cohort} | other), words_W=zeros_W, modulus=PRIME)
    masked(members[0], cohort, zeros_W, PRIME, attempt=4)
    masked(members[0], cohort, zeros_W, PRIME, purpose="evaluation")
    masked(members[0], cohort_of(members, epoch=2), zeros_W, PRIME)


def test_what_is_refused_uses_nothing_up() -> None:
    members = hospitals(3)
    cohort = cohort_of(members)
    with pytest.raises(InputError):
        masked(members[0], cohort, np.full(5, PRIME, np.uint64), PRIME)
    masked(members[0], cohort, np.zeros(5, np.uint64), PRIME)


@pytest.mark.parametrize("modulus", [-1, 0, 1, MAX_MODULUS + 1])
def test_modulus_out_of_range(modulus: int) -> None:
    members = hospitals(2)
    with pytest.raises(InputError, match="the modulus of a mask"):
        masked(members[0], cohort_of(members), np.zeros(1, np.uint64), modulus)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (np.zeros(3, np.int64), "one vector of uint64"),
        (np.zeros((3, 1), np.uint64), "one vector of uint64"),
        (np.array([0, 97], np.uint64), "words below the modulus"),
    ],
)
def test_words_that_are_none(words: Words, expected: str) -> None:
    members = hospitals(2)
    with pytest.raises(InputError, match=expected):
        masked(members[0], cohort_of(members), words, 97)


def test_only_the_holder_of_the_cohorts_keys_masks() -> None:
    members = hospitals(3)
    cohort = cohort_of(members)
    restarted = ephemeral("after a restart")
    with pytest.raises(RefusalError, match="other ephemeral keys"):
        masked(members[0], cohort, np.zeros(1, np.uint64), PRIME, ephemeral=restarted)
    outsider = hospitals(4)[-1]
    left = [m for m in hospitals(4) if m.name != outsider.name]
    with pytest.raises(RefusalError, match="not in the cohort"):
        masked(outsider, cohort_of(left), np.zeros(1, np.uint64), PRIME)


def test_a_member_whose_key_is_no_point_gets_no_mask() -> None:
    members = hospitals(3)
    cohort = cohort_of(members)
    weak = replace(cohort.members[1], exchange=bytes(32))
    cohort = replace(cohort, members=(cohort.members[0], weak, cohort.members[2]))
    with pytest.raises(IntegrityError, match="no X25519 key"):
        masked(members[0], cohort, np.zeros(1, np.uint64), PRIME)


# -- oracles --------------------------------------------------------------------------------------


def words_by_hand(key: bytes, size: int, modulus: int) -> list[int]:
    """The stream as the module describes it, one block and one word at a time."""

    def raw(counter: int) -> Any:
        while True:
            cipher = Cipher(algorithms.AES256(key[:32]), modes.ECB())  # noqa: S305 - one block
            data = cipher.encryptor().update((counter % 2**128).to_bytes(16))
            yield int.from_bytes(data[:8], "little") % 2**60
            yield int.from_bytes(data[8:], "little") % 2**60
            counter += 1

    first = int.from_bytes(key[32:])
    limit = 2**60 // modulus * modulus
    main = raw(first)
    spare = (word for word in raw(first ^ 2**127) if word < limit)
    words = (next(main) for _ in range(size))
    return [(word if word < limit else next(spare)) % modulus for word in words]


@pytest.mark.parametrize("modulus", [2, 97, PRIME, 1 << 50, (1 << 59) + 1, MAX_MODULUS])
def test_stream_is_aes_in_counter_mode_with_rejection(
    modulus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = secret("stream") + bytes([255] * 16)  # the counter wraps at once
    expected = words_by_hand(key, 700, modulus)
    assert uniform_words(key, 700, modulus).tolist() == expected
    monkeypatch.setattr(masks, "_BLOCK", 64)  # the words do not depend on the size of a block
    assert uniform_words(key, 700, modulus).tolist() == expected


def test_stream_on_the_published_vector() -> None:
    (case,) = load("aes256_ctr")["cases"]
    plaintext, ciphertext = (bytes.fromhex(case[k]) for k in ("plaintext", "ciphertext"))
    stream = bytes(a ^ b for a, b in zip(plaintext, ciphertext, strict=True))
    expected = np.frombuffer(stream, "<u8") & np.uint64(2**60 - 1)
    key = bytes.fromhex(case["key"] + case["counter"])
    assert uniform_words(key, 8, MAX_MODULUS).tolist() == expected.tolist()


def hkdf(secret_bytes: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 from the standard library's HMAC."""
    extracted = hmac.digest(salt or bytes(32), secret_bytes, hashlib.sha256)
    output, block = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(extracted, block + info + bytes([counter]), hashlib.sha256)
        output += block
    return output[:length]


@pytest.mark.parametrize("case", load("hkdf_sha256")["cases"])
def test_hkdf_of_the_next_test_on_the_published_vectors(case: dict[str, str]) -> None:
    secret_bytes, salt, info = (bytes.fromhex(case[k]) for k in ("IKM", "salt", "info"))
    assert hkdf(secret_bytes, salt, info, int(case["L"])).hex() == case["OKM"]


def test_pairwise_keys_are_hkdf_of_x25519_over_the_whole_release() -> None:
    one, two, _ = members = hospitals(3)
    cohort = cohort_of(members)
    info = to_canonical(
        {
            "kind": "fedward/1 mask",
            "pair": sorted([one.key.fingerprint, two.key.fingerprint]),
            "release": {
                "job": cohort.job,
                "roster": cohort.roster,
                "cohort": hashlib.sha256(cohort.to_bytes()).hexdigest(),
                "epoch": 1,
                "attempt": 3,
                "purpose": "update",
                "commitment": commitment(DATA_KEY),
                "weights": TAG,
            },
        }
    )
    shared = one.ephemeral.agree(two.ephemeral.public_exchange)
    expected = hkdf(shared, b"", info, KEY_LENGTH)
    assert key_of(one, two, cohort) == key_of(two, one, cohort) == expected


def test_every_pair_has_its_own_key() -> None:
    members = hospitals(5)
    cohort = cohort_of(members)
    keys = [key_of(a, b, cohort) for a in members for b in members if a is not b]
    assert len(set(keys)) == 10


def test_benchmark_reports_json(tmp_path: Path) -> None:
    target = tmp_path / "masks.json"
    root = Path(masks.__file__).parents[1]
    command = [sys.executable, "benchmarks/masks.py", "--words", "20000", "--repeat", "1"]
    subprocess.run([*command, "--json", str(target)], cwd=root, check=True, capture_output=True)
    rows = json.loads(target.read_text())["rows"]
    assert {row["peers"] for row in rows} == {2, 4, 10, 20}
    assert all(row["ms_per_peer_and_million_words"] > 0 for row in rows)
