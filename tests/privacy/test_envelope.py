from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import envelope
from privacy.envelope import (
    EpochKeys,
    commitment,
    make_bundles,
    open_bundle,
    open_sealed,
    place_of,
    seal,
    sign_sealed,
    weights_tag,
)
from privacy.keys import UnsealingKey
from protocol.cohort import Cohort
from protocol.errors import Code, InputError, IntegrityError, RefusalError
from tests.privacy.consortium import Hospital, cohort_of, ephemeral, hospitals, secret
from tests.vectors.published import load

KEYS = EpochKeys(b"the BFV secret key", secret("data"))


@dataclass
class Holder:
    unsealing_key: UnsealingKey


# -- HPKE -----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(context=st.binary(max_size=40), plaintext=st.binary(max_size=200), hybrid=st.booleans())
def test_what_is_sealed_opens(context: bytes, plaintext: bytes, hybrid: bool) -> None:
    holder = ephemeral("holder", post_quantum=hybrid)
    sealed = seal(holder.public_kem, context, plaintext)
    assert open_sealed(holder, context, sealed) == plaintext
    assert len(sealed) == len(plaintext) + (1136 if hybrid else 48)
    assert sealed != seal(holder.public_kem, context, plaintext)


@pytest.mark.parametrize("hybrid", [True, False])
def test_nothing_else_opens(hybrid: bool) -> None:
    holder = ephemeral("holder", post_quantum=hybrid)
    sealed = seal(holder.public_kem, b"context", b"plaintext")
    changed = [
        bytes(b ^ (1 if i == at else 0) for i, b in enumerate(sealed))
        for at in [*range(0, len(sealed), 37), len(sealed) - 33, len(sealed) - 1]
    ]
    # Low-order points as encapsulated keys are among the short and the zero bytes.
    for wrong in [*changed, b"", sealed[:20], sealed[:-1], sealed + b"\0", bytes(len(sealed))]:
        with pytest.raises(IntegrityError, match="sealed bytes do not open"):
            open_sealed(holder, b"context", wrong)
    with pytest.raises(IntegrityError, match="sealed bytes do not open"):
        open_sealed(holder, b"contexT", sealed)
    for other in (ephemeral("other"), ephemeral("holder", post_quantum=not hybrid)):
        with pytest.raises(IntegrityError, match="sealed bytes do not open"):
            open_sealed(other, b"context", sealed)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32), bytes(1215), bytes(1217), bytes(1216)])
def test_bytes_that_are_no_key_are_not_sealed_to(key: bytes) -> None:
    with pytest.raises(IntegrityError, match="is none"):
        seal(key, b"context", b"plaintext")


def test_a_node_without_ml_kem_does_not_fall_back_behind_the_recipients_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lacking:
        @staticmethod
        def from_public_bytes(_: bytes) -> None:
            raise UnsupportedAlgorithm("ML-KEM-768 is not supported by this backend.")

    monkeypatch.setattr(envelope, "MLKEM768PublicKey", Lacking)
    with pytest.raises(RefusalError, match="lacks ML-KEM-768") as caught:
        seal(ephemeral("hybrid").public_kem, b"context", b"plaintext")
    assert caught.value.code is Code.VERSION
    classic = ephemeral("classic", post_quantum=False)
    assert open_sealed(classic, b"context", seal(classic.public_kem, b"context", b"x")) == b"x"


def labelled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """RFC 9180, section 4, from the standard library's HMAC."""
    labelled = b"HPKE-v1" + suite + label + ikm
    return hmac.digest(salt or bytes(32), labelled, hashlib.sha256)


def labelled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2) + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labelled + b"\1", hashlib.sha256)[:length]


def schedule(kem_id: int, aead_id: int, shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and base nonce of base mode, RFC 9180, section 5.1, with HKDF-SHA256."""
    suite = b"HPKE" + kem_id.to_bytes(2) + (1).to_bytes(2) + aead_id.to_bytes(2)
    context = b"\0" + labelled_extract(suite, b"", b"psk_id_hash", b"")
    context += labelled_extract(suite, b"", b"info_hash", info)
    chosen = labelled_extract(suite, shared, b"secret", b"")
    key = labelled_expand(suite, chosen, b"key", context, 16 if aead_id == 1 else 32)
    return key, labelled_expand(suite, chosen, b"base_nonce", context, 12)


def fields(case: dict[str, Any]) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in case.items() if isinstance(value, str)}


VECTORS = [
    *load("hpke_x25519")["cases"],
    *load("hpke_mlkem768_x25519")["cases"],
]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"{case['kem_id']}-{case['aead_id']}")
def test_key_schedule_of_the_next_test_on_the_published_vectors(case: dict[str, Any]) -> None:
    f = fields(case)
    key, nonce = schedule(case["kem_id"], case["aead_id"], f["shared_secret"], f["info"])
    assert (key, nonce) == (f["key"], f["base_nonce"])


def test_x25519_opens_the_published_encapsulation() -> None:
    """The published message has associated data, which single-shot sealing lacks.

    So the message is encrypted again without, under the published key and nonce: only who derives
    exactly these from the published encapsulation opens it.
    """
    (case,) = (case for case in load("hpke_x25519")["cases"] if case["aead_id"] == 2)
    f, message = fields(case), fields(case["encryption"])
    aead = AESGCM(f["key"])
    assert aead.encrypt(f["base_nonce"], message["pt"], message["aad"]) == message["ct"]
    sealed = f["enc"] + aead.encrypt(f["base_nonce"], message["pt"], b"")
    key = X25519PrivateKey.from_private_bytes(f["skRm"])
    assert key.public_key().public_bytes_raw() == f["pkRm"]
    assert open_sealed(Holder(key), f["info"], sealed) == message["pt"]


def test_ml_kem_with_x25519_opens_the_published_encapsulation() -> None:
    """The published suite has another AEAD, so its key schedule is computed here for ours."""
    (case,) = load("hpke_mlkem768_x25519")["cases"]
    f = fields(case)
    # The secret key is a seed for both parts: draft-connolly-cfrg-xwing-kem, section 5.2.
    expanded = hashlib.shake_256(f["skRm"]).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
    public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    assert public == f["pkRm"]
    key, nonce = schedule(case["kem_id"], 2, f["shared_secret"], f["info"])
    sealed = f["enc"] + AESGCM(key).encrypt(nonce, b"message", b"")
    holder = Holder(MLKEM768X25519PrivateKey(mlkem, x25519))
    assert open_sealed(holder, f["info"], sealed) == b"message"


# -- bundles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("post_quantum", [True, False])
def test_every_member_gets_the_epochs_keys(post_quantum: bool) -> None:
    members = hospitals(4, post_quantum=post_quantum)
    cohort = cohort_of(members)
    bundles = make_bundles(cohort, KEYS, members[0].key)
    assert bundles.keys() == {member.name for member in members}
    for member in members:
        assert open_bundle(cohort, member.name, member.ephemeral, bundles[member.name]) == KEYS
    assert all(KEYS.data not in bundle for bundle in bundles.values())


def test_only_the_member_with_the_lowest_fingerprint_makes_keys() -> None:
    members = hospitals(3)
    for member in members[1:]:
        with pytest.raises(RefusalError, match="maker") as caught:
            make_bundles(cohort_of(members), KEYS, member.key)
        assert caught.value.code is Code.COHORT


def sealed_by(maker: Hospital, cohort: Cohort, recipient: Hospital, content: bytes) -> bytes:
    place = place_of("bundle", cohort, recipient=recipient.name)
    sealed = seal(recipient.ephemeral.public_kem, place, content)
    return sign_sealed("bundle", place, sealed, maker.key)


def test_a_bundle_sealed_by_another_hospital_does_not_open() -> None:
    maker, other, recipient = members = hospitals(3)
    cohort = cohort_of(members)
    whole = make_bundles(cohort, KEYS, maker.key)[recipient.name]
    # A coordinator can seal to the public key just as well, but cannot sign as the maker.
    forged = sealed_by(other, cohort, recipient, b"")
    for wrong in (forged, whole[:64] + forged[64:], whole[:-1], whole[:63], b""):
        with pytest.raises(IntegrityError, match="signature"):
            open_bundle(cohort, recipient.name, recipient.ephemeral, wrong)
    # None of these used the epoch up.
    assert open_bundle(cohort, recipient.name, recipient.ephemeral, whole) == KEYS


@pytest.mark.parametrize("change", ["job", "roster", "epoch", "members", "recipient"])
def test_a_bundle_belongs_to_one_place(change: str) -> None:
    maker, one, two, three = members = hospitals(4)
    cohort = cohort_of(members)
    bundle = make_bundles(cohort, KEYS, maker.key)[one.name]
    others: dict[str, Any] = {
        "job": {"job": "0" * 64},
        "roster": {"roster": "0" * 64},
        "epoch": {"epoch": 2},
        "members": {"members": cohort_of([maker, one, two]).members},
    }
    reader, other = one, cohort
    if change == "recipient":
        reader = three
    else:
        other = replace(cohort, **others[change])
    with pytest.raises(IntegrityError, match="signature"):
        open_bundle(other, reader.name, reader.ephemeral, bundle)


def test_one_bundle_per_epoch() -> None:
    maker, one, _ = members = hospitals(3)
    cohort = cohort_of(members)
    open_bundle(cohort, one.name, one.ephemeral, make_bundles(cohort, KEYS, maker.key)[one.name])
    second = make_bundles(cohort, EpochKeys(b"other", bytes(32)), maker.key)[one.name]
    with pytest.raises(IntegrityError, match="served this bundle before"):
        open_bundle(cohort, one.name, one.ephemeral, second)
    later = cohort_of(members, epoch=2)
    third = make_bundles(later, KEYS, maker.key)[one.name]
    assert open_bundle(later, one.name, one.ephemeral, third) == KEYS


def test_a_bundle_for_keys_before_a_restart_is_refused() -> None:
    maker, one, _ = members = hospitals(3)
    cohort = cohort_of(members)
    bundle = make_bundles(cohort, KEYS, maker.key)[one.name]
    with pytest.raises(RefusalError, match="other ephemeral keys") as caught:
        open_bundle(cohort, one.name, ephemeral("after a restart"), bundle)
    assert caught.value.code is Code.COHORT


@pytest.mark.parametrize("content", [b"", b"{}", b'{"bfv":"b:","data":"b:AAAA"}'])
def test_a_signed_bundle_without_keys(content: bytes) -> None:
    maker, one, _ = members = hospitals(3)
    cohort = cohort_of(members)
    bundle = sealed_by(maker, cohort, one, content)
    with pytest.raises(IntegrityError, match="something else than keys"):
        open_bundle(cohort, one.name, one.ephemeral, bundle)


def test_a_signed_bundle_that_does_not_open() -> None:
    maker, one, two = members = hospitals(3)
    cohort = cohort_of(members)
    place = place_of("bundle", cohort, recipient=one.name)
    sealed = seal(two.ephemeral.public_kem, place, b"")
    with pytest.raises(IntegrityError, match="sealed bytes do not open"):
        open_bundle(
            cohort, one.name, one.ephemeral, sign_sealed("bundle", place, sealed, maker.key)
        )


def test_where_the_place_ends_is_signed() -> None:
    maker, *_ = members = hospitals(3)
    place = place_of("bundle", cohort_of(members), recipient="h0")
    signed = sign_sealed("bundle", place, b"sealed", maker.key)
    with pytest.raises(IntegrityError, match="signature"):
        envelope.verify_sealed("bundle", place + b"s", signed[:64] + b"ealed", maker.key.public)


def test_keys_show_nothing_of_themselves() -> None:
    assert "secret" not in repr(KEYS)
    assert KEYS.data.hex() not in repr(KEYS)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_length_of_a_data_key(length: int) -> None:
    with pytest.raises(InputError, match="32 bytes"):
        EpochKeys(b"", bytes(length))


_EPOCH = """
import os, sys
from tests.privacy.consortium import cohort_of, hospitals
from privacy.envelope import EpochKeys, make_bundles, open_bundle
from privacy.keys import Ephemeral
from privacy.masks import mask
import numpy as np

def refuse_writing(event, arguments):
    if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        raise SystemExit(f"opens {arguments[0]} for writing")

members = hospitals(3)
sys.addaudithook(refuse_writing)
Ephemeral.generate()
cohort = cohort_of(members)
bundles = make_bundles(cohort, EpochKeys(os.urandom(99), os.urandom(32)), members[0].key)
for one in members:
    keys = open_bundle(cohort, one.name, one.ephemeral, bundles[one.name])
    mask(np.zeros(9, np.uint64), modulus=97, me=one.name, cohort=cohort, ephemeral=one.ephemeral,
         attempt=1, purpose="update", data_key=keys.data, weights_tag=b"")
print("whole epoch")
if sys.argv[1:]:
    open(sys.argv[1], "w")
"""


def test_an_epochs_keys_never_reach_a_disk(tmp_path: Any) -> None:
    command = [sys.executable, "-c", _EPOCH]
    quiet = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (quiet.returncode, quiet.stdout) == (0, "whole epoch\n"), quiet.stderr
    # The hook does see what is written.
    loud = subprocess.run([*command, str(tmp_path / "x")], check=False, capture_output=True)
    assert loud.returncode == 1
    assert b"for writing" in loud.stderr


# -- commitments and tags -------------------------------------------------------------------------


@pytest.mark.parametrize("case", load("hmac_sha256")["cases"])
def test_hmac_on_the_published_vectors(case: dict[str, str]) -> None:
    key, message, expected = (bytes.fromhex(case[k]) for k in ("Key", "Msg", "MD"))
    assert envelope._mac(key, message) == expected
    assert envelope._mac(key, message[:3], message[3:], b"") == expected


def test_commitment_and_tag_are_hmacs() -> None:
    key = secret("data")
    weights = np.array([1.0, -2.5])
    moments = np.array([0.5])
    content = b"weights" + (2).to_bytes(8, "little") + weights.tobytes()
    assert commitment(key) == hmac.digest(key, b"key-commit", hashlib.sha256)
    assert weights_tag(key, weights) == hmac.digest(key, content, hashlib.sha256)
    content += (1).to_bytes(8, "little") + moments.tobytes()
    assert weights_tag(key, weights, moments) == hmac.digest(key, content, hashlib.sha256)


def test_tags_differ_in_the_last_bit_and_in_every_cut() -> None:
    key = secret("data")
    ones = np.ones(3)
    beside = np.array([1.0, 1.0, np.nextafter(1.0, 2.0)])
    tags = [
        weights_tag(key, ones),
        weights_tag(bytes(32), ones),
        weights_tag(key, beside),
        weights_tag(key, ones[:2], ones[:1]),
        weights_tag(key, ones[:1], ones[:2]),
        weights_tag(key, ones, np.empty(0)),
        weights_tag(key, -ones),
    ]
    assert len(set(tags)) == len(tags)
    assert weights_tag(key, np.ones(6)[::2]) == weights_tag(key, ones)


@pytest.mark.parametrize(
    "vector",
    [np.array([1.0, np.nan]), np.array([np.inf]), np.ones((2, 2)), np.ones(2, np.float32)],
)
def test_vectors_that_have_no_tag(vector: Any) -> None:
    with pytest.raises(InputError, match="finite float64"):
        weights_tag(bytes(32), vector)
