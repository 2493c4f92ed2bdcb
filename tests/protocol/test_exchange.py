"""The static X25519 key: RFC vectors, agreement, and the proof that it is held."""

import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InputError, IntegrityError
from protocol.exchange import PROOF_BYTES, ExchangeKey, verify_possession
from protocol.signing import SigningKey

CONTEXT = "card:exchange"
KEY = ExchangeKey.generate()
PROOF = KEY.prove(CONTEXT, b"card")


def exchange_of(folder: Path, seed: bytes) -> ExchangeKey:
    path = folder / f"{seed.hex()[:16]}.key"
    SigningKey.from_seed(seed).save(path)
    return ExchangeKey.load(path)


def test_the_secret_is_the_scalar_of_rfc_8032(tmp_path: Path) -> None:
    """Section 5.1.5 applied to the seed of section 7.1, TEST 1, and X25519 of RFC 7748 section 5.

    The Montgomery ladder below is the RFC's own, in plain integers: an independent X25519.
    """
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    scalar = bytearray(hashlib.sha512(seed).digest()[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    key = exchange_of(tmp_path, seed)
    assert key.public == ladder(int.from_bytes(scalar, "little"), 9).to_bytes(32, "little")


def ladder(scalar: int, u: int) -> int:
    p = 2**255 - 19
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = scalar >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a, c * b, a * a, b * b
        x3, z3 = (da + cb) ** 2 % p, u * (da - cb) ** 2 % p
        x2, z2 = aa * bb % p, (aa - bb) * (aa + 121665 * (aa - bb)) % p
    if swap:
        x2, x3, z2, z3 = x3, x2, z3, z2
    return x2 * pow(z2, -1, p) % p


@given(st.binary(min_size=32, max_size=32))
def test_the_map_between_the_forms_agrees_with_the_library(seed: bytes) -> None:
    """Public key of the scalar by X25519 itself, against the twin's point through the formula."""
    twin = Ed25519PrivateKey.from_private_bytes(seed)
    scalar = hashlib.sha512(seed).digest()[:32]
    public = X25519PrivateKey.from_private_bytes(scalar).public_key().public_bytes_raw()
    signer = SigningKey(twin)
    verify_possession(public, CONTEXT, b"x", signer.public + signer.sign(CONTEXT, b"x"))


def test_two_keys_agree() -> None:
    other = ExchangeKey.generate()
    mine = KEY.private.exchange(X25519PublicKey.from_public_bytes(other.public))
    theirs = other.private.exchange(X25519PublicKey.from_public_bytes(KEY.public))
    assert mine == theirs
    assert KEY.public != other.public


def test_a_proof_holds_for_its_key_context_and_bytes_only() -> None:
    assert len(PROOF) == PROOF_BYTES
    verify_possession(KEY.public, CONTEXT, b"card", PROOF)
    other = ExchangeKey.generate()
    for public, context, data, proof in (
        (KEY.public, "card", b"card", PROOF),
        (KEY.public, CONTEXT, b"other", PROOF),
        (KEY.public, CONTEXT, b"card", PROOF[:-1]),
        (KEY.public, CONTEXT, b"card", PROOF[:32] + bytes(64)),
    ):
        with pytest.raises(IntegrityError, match="does not hold"):
            verify_possession(public, context, data, proof)
    # Someone else's key with a proof of one's own, and the other way round.
    for public, proof in (
        (KEY.public, other.prove(CONTEXT, b"card")),
        (other.public, PROOF),
        (KEY.public[:-1] + bytes([KEY.public[-1] ^ 128]), PROOF),
    ):
        with pytest.raises(IntegrityError, match="for another exchange key"):
            verify_possession(public, CONTEXT, b"card", proof)


@pytest.mark.parametrize("proof", [b"", bytes(96), b"\x01" + bytes(95)])
def test_malformed_proofs_are_refused(proof: bytes) -> None:
    with pytest.raises(IntegrityError):
        verify_possession(KEY.public, CONTEXT, b"card", proof)


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "exchange.key"
    KEY.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ExchangeKey.load(path).public == KEY.public
    with pytest.raises(InputError, match="exists already"):
        KEY.save(path)


def test_a_key_shows_no_secret() -> None:
    assert repr(KEY) == f"ExchangeKey({KEY.public.hex()[:16]})"
