"""A hospital's long-term X25519 key, with a proof that its holder holds it.

X25519 cannot sign. But every X25519 key has a twin on the Edwards form of the same curve, with the
same secret scalar, and the twin can: an Ed25519 signature is a proof of knowledge of its scalar.
So the key is made from a seed as an Ed25519 key is, the twin signs, and whoever verifies maps the
twin's public point to the X25519 key with one public formula. The seed serves nothing else; the
hospital's identity is another Ed25519 key.

Source: RFC 8032, section 5.1.5 (scalar of a seed); RFC 7748, section 4.1 (map between the forms).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.errors import IntegrityError
from protocol.signing import KEY_BYTES, SIGNATURE_BYTES, SigningKey, check_public, verify

PROOF_BYTES = KEY_BYTES + SIGNATURE_BYTES
_PRIME = 2**255 - 19


class ExchangeKey:
    """A secret X25519 key that can prove that it is held.

    >>> key = ExchangeKey.generate()
    >>> verify_possession(key.public, "card:exchange", b"card", key.prove("card:exchange", b"card"))
    """

    __slots__ = ("_twin", "private", "public")

    def __init__(self, twin: SigningKey, private: X25519PrivateKey) -> None:
        self._twin = twin
        self.private = private
        self.public = private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"ExchangeKey({self.public.hex()[:16]})"

    @classmethod
    def generate(cls) -> ExchangeKey:
        """A new key from the operating system's entropy."""
        return cls._of(SigningKey.generate())

    @classmethod
    def load(cls, path: Path) -> ExchangeKey:
        """Read a key file: the Ed25519 twin, as PKCS #8 in PEM.

        Raises:
            InputError: As `SigningKey.load` does.
        """
        return cls._of(SigningKey.load(path))

    def save(self, path: Path) -> None:
        """Create the key's file with mode 0600.

        Raises:
            InputError: The file exists already or cannot be created.
        """
        self._twin.save(path)

    def prove(self, context: str, data: bytes) -> bytes:
        """A proof, bound to exact bytes, that whoever made it holds the X25519 key.

        Returns:
            The twin's public key and its signature, 96 bytes.
        """
        return self._twin.public + self._twin.sign(context, data)

    @classmethod
    def _of(cls, twin: SigningKey) -> ExchangeKey:
        scalar = hashlib.sha512(twin.to_seed()).digest()[:KEY_BYTES]
        return cls(twin, X25519PrivateKey.from_private_bytes(scalar))


def verify_possession(public: bytes, context: str, data: bytes, proof: bytes) -> None:
    """Check a proof made by `ExchangeKey.prove`.

    Guarantee: whoever made the proof knew a scalar of the X25519 key when it saw `data` (Schnorr's
    proof of knowledge in the random-oracle model).

    Raises:
        IntegrityError: The proof is for another key, context or bytes, or is malformed.
    """
    twin, signature = proof[:KEY_BYTES], proof[KEY_BYTES:]
    check_public(twin)
    y = int.from_bytes(twin, "little") % 2**255
    u = (1 + y) * pow(1 - y, -1, _PRIME) % _PRIME
    if u.to_bytes(KEY_BYTES, "little") != public:
        raise IntegrityError("the proof of possession is for another exchange key")
    verify(twin, context, data, signature)
