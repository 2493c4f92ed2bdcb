"""Ed25519 signatures, each valid in one context only.

What is signed is ``fedward/1`` and a zero byte, the context with its length in front, and the exact
bytes of the document. A signature made as one kind ("job") is therefore none of another
("roster"). Receivers verify the bytes they got, and parse them afterwards: in a signed document
the signature stands in the last bytes, whose number is fixed, so that nothing has to be parsed to
find it, and the whole is JSON all the same.

Source: RFC 8032 (Ed25519).
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol.errors import InputError, IntegrityError
from protocol.keyfile import load_secret, save_secret

KEY_BYTES = 32
SIGNATURE_BYTES = 64
_PREFIX = b"fedward/1\0"
_ATTACHED = re.compile(
    rb'\{"document":(.*),"signature":"b:([\w-]{86}==)","signer":"b:([\w-]{43}=)"\}', re.DOTALL
)
_PRIME = 2**255 - 19
# The y coordinates of the eight points whose order divides 8, and two spellings beyond the prime:
# for such a "key" everybody can sign. The tests compute them from the curve's equation.
_ORDER_EIGHT_Y = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_WEAK_Y = frozenset({0, 1, _PRIME - 1, _PRIME, _PRIME + 1, _ORDER_EIGHT_Y, _PRIME - _ORDER_EIGHT_Y})


class SigningKey:
    """A secret Ed25519 key. It shows its fingerprint and nothing else.

    >>> key = SigningKey.generate()
    >>> verify(key.public, "job", b"bytes", key.sign("job", b"bytes"))
    """

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"SigningKey({self.fingerprint})"

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the operating system's entropy."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """The key of a 32-byte secret seed (RFC 8032, section 5.1.5).

        Raises:
            InputError: The seed has another length.
        """
        if len(seed) != KEY_BYTES:
            raise InputError("seed of a signing key", expected="32 bytes", found=str(len(seed)))
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a key file (PKCS #8 in PEM).

        Raises:
            InputError: The file cannot be read, is readable by others, or holds no Ed25519 key.
        """
        try:
            key = serialization.load_pem_private_key(load_secret(path), password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError(f"{path}: not an Ed25519 key", expected="PKCS #8 in PEM, no password")
        return cls(key)

    def save(self, path: Path) -> None:
        """Create the key's file with mode 0600.

        Raises:
            InputError: The file exists already or cannot be created.
        """
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        save_secret(path, pem)

    def to_seed(self) -> bytes:
        """The secret seed of 32 bytes, for `from_seed` in another process. Never log it."""
        return self._key.private_bytes_raw()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key, 64 hexadecimal digits."""
        return fingerprint(self.public)

    def sign(self, context: str, data: bytes) -> bytes:
        """Sign exact bytes as one kind of document.

        Returns:
            The signature, 64 bytes.

        Raises:
            InputError: The context is empty, longer than 255 bytes or not ASCII.
        """
        return self._key.sign(to_signed_bytes(context, data))

    def sign_attached(self, context: str, data: bytes) -> bytes:
        """Canonical bytes with their signature and signer, as `verify_attached` reads them."""
        return _attach(data, self.sign(context, data), self.public)


def verify(public: bytes, context: str, data: bytes, signature: bytes) -> None:
    """Check a signature over exact bytes.

    Args:
        public: The signer's key, 32 bytes.
        context: The kind of document that these bytes are used as.
        data: The bytes as they arrived.
        signature: 64 bytes.

    Raises:
        IntegrityError: The signature is not this key's over these bytes in this context, or the
            key is one for which everybody can sign.
    """
    check_public(public)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, to_signed_bytes(context, data))
    except (InvalidSignature, ValueError):
        raise IntegrityError(
            f"signature of a {context!r} does not hold", expected=f"one by {fingerprint(public)}"
        ) from None


def verify_attached(signer: str, context: str, blob: bytes) -> bytes:
    """The exact bytes of a signed document, see `SigningKey.sign_attached`.

    Args:
        signer: Fingerprint of the key that must have signed.
        context: The kind of document that the bytes are used as.
        blob: The signed document as it arrived.

    Raises:
        IntegrityError: As `verify` does, or another key signed.

    >>> key = SigningKey.generate()
    >>> verify_attached(key.fingerprint, "job", key.sign_attached("job", b"{}"))
    b'{}'
    """
    match = _ATTACHED.fullmatch(blob)
    if match is None:
        raise IntegrityError(f"not a signed {context!r}")
    data, signature, public = match[1], *map(base64.urlsafe_b64decode, match.groups()[1:])
    if _attach(data, signature, public) != blob:
        raise IntegrityError(f"not a signed {context!r}", expected="canonical base64")
    if fingerprint(public) != signer:
        raise IntegrityError(f"{context!r} signed by another key", expected=signer)
    verify(public, context, data, signature)
    return data


def signer_of(blob: bytes) -> str:
    """Fingerprint of the key that a signed document names, to be shown to a person; unverified.

    Raises:
        IntegrityError: It is no signed document.
    """
    match = _ATTACHED.fullmatch(blob)
    if match is None:
        raise IntegrityError("not a signed document")
    return fingerprint(base64.urlsafe_b64decode(match[3]))


def _attach(data: bytes, signature: bytes, public: bytes) -> bytes:
    encoded = (base64.urlsafe_b64encode(signature), base64.urlsafe_b64encode(public))
    return b'{"document":%b,"signature":"b:%b","signer":"b:%b"}' % (data, *encoded)


def fingerprint(public: bytes) -> str:
    """SHA-256 of a raw public key: what people read to each other.

    Raises:
        IntegrityError: The key has not 32 bytes.

    >>> fingerprint(bytes(32))[:16]
    '66687aadf862bd77'
    """
    if len(public) != KEY_BYTES:
        raise IntegrityError("public key", expected="32 bytes", found=str(len(public)))
    return hashlib.sha256(public).hexdigest()


def in_groups(digits: str) -> str:
    """A fingerprint as people read it to each other, in groups of four.

    >>> in_groups("66687aadf862")
    '6668 7aad f862'
    """
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def from_groups(text: str) -> str:
    """A fingerprint as it was typed, without blanks and colons and in small letters.

    Raises:
        InputError: It has not 64 hexadecimal digits.
    """
    digits = text.replace(" ", "").replace(":", "").lower()
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise InputError("a fingerprint", expected="64 hexadecimal digits", found=repr(digits))
    return digits


def check_public(public: bytes) -> None:
    """Refuse an Ed25519 key of small order.

    Raises:
        IntegrityError: The key has not 32 bytes, or everybody can sign for it.
    """
    fingerprint(public)
    y = int.from_bytes(public, "little") % 2**255
    if y in _WEAK_Y:
        raise IntegrityError("public key of small order", remedy="it belongs to nobody; refuse it")


def to_signed_bytes(context: str, data: bytes) -> bytes:
    """What is signed for a document: prefix, context behind its length (one byte), the bytes.

    Raises:
        InputError: The context is empty, longer than 255 bytes or not ASCII.
    """
    if not context.isascii() or not 1 <= len(context) <= 255:
        raise InputError("context of a signature", expected="1 to 255 ASCII characters")
    return _PREFIX + bytes([len(context)]) + context.encode() + data
