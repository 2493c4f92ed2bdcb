"""Ed25519 with contexts: published vectors, and one signature for one meaning."""

import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import from_canonical, to_canonical
from protocol.errors import InputError, IntegrityError
from protocol.signing import (
    SigningKey,
    check_public,
    fingerprint,
    from_groups,
    in_groups,
    signer_of,
    to_signed_bytes,
    verify,
    verify_attached,
)

KEY = SigningKey.from_seed(bytes(range(32)))
contexts = st.text(st.characters(codec="ascii"), min_size=1, max_size=40)

# The curve of RFC 8032, section 5.1, in plain integers.
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def add(left: Point, right: Point) -> Point:
    (x1, y1), (x2, y2) = left, right
    product = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def times(factor: int, point: Point) -> Point:
    total = (0, 1)
    while factor:
        total = add(total, point) if factor & 1 else total
        point = add(point, point)
        factor >>= 1
    return total


def point_of(encoded: bytes) -> Point | None:
    """RFC 8032, section 5.1.3, without the check that y < p."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y % 2**255 % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        return None
    return (P - x if x % 2 != sign else x) % P, y


def small_order_encodings() -> set[bytes]:
    """Every 32-byte text of a point P with 8 P = 0: torsion points found by clearing the order."""
    order = 2**252 + 27742317777372353535851937790883648493
    torsion: set[Point] = set()
    for y in range(2, 40):
        point = point_of(y.to_bytes(32, "little"))
        if point is not None:
            torsion |= {times(k * order, point) for k in range(8)}
    assert len(torsion) == 8
    return {
        (y + shift + sign).to_bytes(32, "little")
        for _, y in torsion
        for shift in (0, P)
        for sign in (0, 2**255)
        if y + shift < 2**255
    }


def test_keys_are_those_of_rfc_8032() -> None:
    """Section 7.1, TEST 1 and TEST 2."""
    for seed, public in (
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        ),
    ):
        key = SigningKey.from_seed(bytes.fromhex(seed))
        assert key.to_seed().hex() == seed
        assert key.public.hex() == public
        assert key.fingerprint == hashlib.sha256(bytes.fromhex(public)).hexdigest()
        assert fingerprint(key.public) == key.fingerprint


def test_the_signed_bytes_are_the_documented_ones() -> None:
    message = b"fedward/1\x00\x03job{}"
    assert to_signed_bytes("job", b"{}") == message
    Ed25519PublicKey.from_public_bytes(KEY.public).verify(KEY.sign("job", b"{}"), message)
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(KEY.public).verify(KEY.sign("job", b"{}"), b"{}")


@given(contexts, st.binary(), contexts, st.binary())
def test_no_two_pairs_have_the_same_signed_bytes(
    context: str, data: bytes, other: str, more: bytes
) -> None:
    same = (context, data) == (other, more)
    assert (to_signed_bytes(context, data) == to_signed_bytes(other, more)) == same
    # A border that moves between the context and the bytes is the case that a prefix prevents.
    shifted = context + data[:1].decode("latin-1")
    if shifted.isascii() and data:
        assert to_signed_bytes(context, data) != to_signed_bytes(shifted, data[1:])


@given(st.binary(max_size=64))
def test_a_signature_holds_for_its_bytes_and_context_only(data: bytes) -> None:
    signature = KEY.sign("job", data)
    verify(KEY.public, "job", data, signature)
    other = SigningKey.generate()
    for public, context, message, mark in (
        (KEY.public, "roster", data, signature),
        (KEY.public, "job", data + b"\0", signature),
        (other.public, "job", data, signature),
        (KEY.public, "job", data, other.sign("job", data)),
        (KEY.public, "job", data, signature[:-1]),
        (KEY.public, "job", data, b""),
    ):
        with pytest.raises(IntegrityError, match="does not hold"):
            verify(public, context, message, mark)


@given(st.integers(0, 64 * 8 - 1))
def test_any_flipped_bit_breaks_a_signature(bit: int) -> None:
    signature = bytearray(KEY.sign("job", b"data"))
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        verify(KEY.public, "job", b"data", bytes(signature))


@given(st.binary(max_size=40) | st.just(b'{"a":1}'))
def test_a_signed_document_returns_its_exact_bytes(data: bytes) -> None:
    blob = KEY.sign_attached("roster", data)
    assert verify_attached(KEY.fingerprint, "roster", blob) == data


def test_a_signed_document_is_itself_canonical() -> None:
    document = {"name": "é", "rate": 0.5}
    data = to_canonical(document)
    assert from_canonical(KEY.sign_attached("roster", data)) == {
        "document": document,
        "signature": KEY.sign("roster", data),
        "signer": KEY.public,
    }


BLOB = KEY.sign_attached("roster", b"{}")


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"{}",
        BLOB[:-1],
        BLOB + b"\n",
        b" " + BLOB,
        BLOB[12:],
        BLOB.replace(b"{}", b""),
        BLOB.replace(b'"b:', b'"c:', 1),
        BLOB[:-5] + 'é="}'.encode(),
        BLOB[:-4] + bytes([BLOB[-4] + 1]) + BLOB[-3:],
        BLOB.replace(b"{}", b"[]"),
    ],
)
def test_any_other_form_of_a_signed_document_is_refused(blob: bytes) -> None:
    with pytest.raises(IntegrityError):
        verify_attached(KEY.fingerprint, "roster", blob)


@given(st.integers(0, len(BLOB) * 8 - 1))
def test_no_bit_of_a_signed_document_can_change(bit: int) -> None:
    blob = bytearray(BLOB)
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        verify_attached(KEY.fingerprint, "roster", bytes(blob))


def test_a_signed_document_has_one_signer_and_one_context() -> None:
    other = SigningKey.generate()
    with pytest.raises(IntegrityError, match="signed by another key"):
        verify_attached(KEY.fingerprint, "roster", other.sign_attached("roster", b"{}"))
    with pytest.raises(IntegrityError, match="does not hold"):
        verify_attached(KEY.fingerprint, "job", BLOB)


@pytest.mark.parametrize("context", ["", "é", "x" * 256])
def test_contexts_are_short_ascii(context: str) -> None:
    with pytest.raises(InputError, match="context of a signature"):
        KEY.sign(context, b"")


def test_every_key_of_small_order_is_refused() -> None:
    encodings = small_order_encodings()
    # Eight points; x = 0 takes either sign bit, and y < 19 has a second spelling beyond the prime.
    assert len(encodings) == 14
    for public in encodings:
        with pytest.raises(IntegrityError, match="small order"):
            check_public(public)
        with pytest.raises(IntegrityError, match="small order"):
            verify(public, "job", b"", bytes(64))


def test_a_key_of_small_order_would_verify_for_anybody() -> None:
    """Why they are refused: OpenSSL takes this signature, made without any secret."""
    identity = b"\x01" + bytes(31)
    Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), b"any message")


@given(st.binary(min_size=32, max_size=32))
def test_keys_that_people_make_are_not_of_small_order(seed: bytes) -> None:
    check_public(SigningKey.from_seed(seed).public)


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33)])
def test_keys_have_32_bytes(public: bytes) -> None:
    for use in (fingerprint, check_public):
        with pytest.raises(IntegrityError, match="expected 32 bytes"):
            use(public)
    with pytest.raises(IntegrityError, match="expected 32 bytes"):
        verify(public, "job", b"", bytes(64))


def test_points_off_the_curve_are_refused() -> None:
    public = next(
        encoded
        for encoded in (y.to_bytes(32, "little") for y in range(2, 40))
        if point_of(encoded) is None
    )
    with pytest.raises(IntegrityError, match="does not hold"):
        verify(public, "job", b"", KEY.sign("job", b""))


def test_seeds_have_32_bytes() -> None:
    with pytest.raises(InputError, match="expected 32 bytes; found 31"):
        SigningKey.from_seed(bytes(31))


def test_generated_keys_differ() -> None:
    assert SigningKey.generate().public != SigningKey.generate().public


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    KEY.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = SigningKey.load(path)
    assert loaded.public == KEY.public
    assert loaded.sign("job", b"x") == KEY.sign("job", b"x")
    with pytest.raises(InputError, match="exists already"):
        SigningKey.generate().save(path)
    path.chmod(0o644)
    with pytest.raises(InputError, match="others may read"):
        SigningKey.load(path)


def test_other_files_are_no_signing_keys(tmp_path: Path) -> None:
    private = serialization.PrivateFormat.PKCS8
    pem = serialization.Encoding.PEM
    curve = generate_private_key(SECP256R1())
    contents = (
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        curve.private_bytes(pem, private, serialization.NoEncryption()),
        Ed25519PrivateKey.generate().private_bytes(
            pem, private, serialization.BestAvailableEncryption(b"password")
        ),
    )
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.key"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(InputError, match="not an Ed25519 key"):
            SigningKey.load(path)


def test_a_key_shows_its_fingerprint_and_no_secret() -> None:
    assert repr(KEY) == f"SigningKey({KEY.fingerprint})"
    assert bytes(range(32)).hex() not in repr(KEY)


def test_a_fingerprint_as_people_read_it() -> None:
    digits = SigningKey.generate().fingerprint
    assert in_groups(digits).count(" ") == 15
    assert from_groups(in_groups(digits).upper().replace(" ", ":")) == digits
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        from_groups(digits[1:])


def test_the_signer_that_a_document_names() -> None:
    key = SigningKey.generate()
    assert signer_of(key.sign_attached("roster", b"{}")) == key.fingerprint
    with pytest.raises(IntegrityError, match="not a signed document"):
        signer_of(b"{}")
