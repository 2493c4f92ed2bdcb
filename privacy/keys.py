"""A hospital's keys: the long-term ones in its key folder, and those of one job in memory.

Long-term keys say who a hospital is. What protects recorded traffic are the ephemeral keys: they
live in memory, are dropped when the job ends, and a disk that is stolen later opens nothing.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from protocol.canonical import from_canonical, to_canonical
from protocol.card import Card
from protocol.cohort import Member
from protocol.errors import Code, FedwardError, InputError, IntegrityError, RefusalError
from protocol.exchange import ExchangeKey
from protocol.keyfile import load_secret, save_secret
from protocol.signing import SigningKey

UnsealingKey = X25519PrivateKey | MLKEM768X25519PrivateKey


class Identity:
    """A hospital's long-term keys, made where they will live and never sent.

    The key folder holds `signing.key` (Ed25519), `exchange.key` (X25519), `node.key` (P-384, of
    Flower's node authentication, in OpenSSH's format) and `card.json`, the public card, all of
    mode 0600.

    Args:
        card: Name, public keys and their proofs.
        signing: The identity.
        exchange: Proved on the card; in this release nothing is sealed to it.
        node: Authenticates this hospital's node to the SuperLink; transport only.
    """

    __slots__ = ("_card", "exchange", "node", "signing")

    def __init__(
        self,
        card: Card,
        signing: SigningKey,
        exchange: ExchangeKey,
        node: ec.EllipticCurvePrivateKey,
    ) -> None:
        self._card = card
        self.signing = signing
        self.exchange = exchange
        self.node = node

    def __repr__(self) -> str:
        return f"Identity({self.name}, {self.signing.fingerprint})"

    @classmethod
    def create(cls, folder: Path, name: str) -> Identity:
        """Make all keys of a hospital; none is ever overwritten.

        Args:
            folder: Where they will live; made with mode 0700 if it is absent.
            name: The hospital's name in the roster.

        Raises:
            InputError: The name is not allowed, a key exists already, or none can be written.
        """
        signing, exchange = SigningKey.generate(), ExchangeKey.generate()
        node = ec.generate_private_key(ec.SECP384R1())
        card = Card.make(name=name, signing=signing, exchange=exchange, node=node)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be created", found=error.strerror) from None
        for file in _FILES:
            if (folder / file).exists():
                raise InputError(f"{folder / file}: exists already", remedy="move it away first")
        signing.save(folder / "signing.key")
        exchange.save(folder / "exchange.key")
        pem = node.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        save_secret(folder / "node.key", pem)
        save_secret(folder / "card.json", card.to_bytes())
        return cls(card, signing, exchange, node)

    @classmethod
    def load(cls, folder: Path) -> Identity:
        """Read the keys of a folder made by `create`.

        Raises:
            InputError: A file is missing, is readable by others, or does not fit the card.
            IntegrityError: The card's signature or a proof does not hold.
        """
        signing = SigningKey.load(folder / "signing.key")
        exchange = ExchangeKey.load(folder / "exchange.key")
        node = load_node_key(folder / "node.key")
        path = folder / "card.json"
        try:
            card = Card.from_bytes(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read", found=error.strerror) from None
        except FedwardError as error:
            raise error.at(str(path)) from None
        made = Card.make(name=card.name, signing=signing, exchange=exchange, node=node)
        if any(getattr(card, key) != getattr(made, key) for key in _PUBLIC):
            raise InputError(f"{path}: not the card of the keys beside it")
        return cls(card, signing, exchange, node)

    def card(self) -> Card:
        """What the hospital hands to the coordinator: name, public keys and their proofs."""
        return self._card

    @property
    def name(self) -> str:
        """The hospital's name in the roster."""
        return self._card.name

    @property
    def unsealing_key(self) -> UnsealingKey:
        """The secret key that opens what is sealed to the card's exchange key."""
        return self.exchange.private


_FILES = ("signing.key", "exchange.key", "node.key", "card.json")
_PUBLIC = ("signing", "exchange", "node_key")


def load_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The node key of a folder, as Flower reads it too."""
    try:
        key = load_ssh_private_key(load_secret(path), None)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path}: not an elliptic-curve key", expected="OpenSSH's format")
    return key


class Ephemeral:
    """A hospital's keys of one job: one to agree on masks, one that bundles are sealed to.

    The second is ML-KEM-768 with X25519 where the cryptography library has ML-KEM, so that bundles
    recorded today stay closed to a quantum computer, and X25519 alone otherwise.

    Guarantee: no secret part is shown, pickled or copied. `claim` remembers for the life of the
    keys what they were used for and refuses a second time.

    Args:
        exchange: X25519 key of the masks.
        kem: X25519 key of the bundles.
        mlkem: ML-KEM-768 key of the bundles, None where the library has none.

    Source: RFC 7748 (X25519), FIPS 203 (ML-KEM), draft-ietf-hpke-pq (both in HPKE).
    """

    __slots__ = (
        "_agreed",
        "_exchange",
        "_kem",
        "_lock",
        "_mlkem",
        "_used",
        "public_exchange",
        "public_kem",
    )

    def __init__(
        self, exchange: X25519PrivateKey, kem: X25519PrivateKey, mlkem: MLKEM768PrivateKey | None
    ) -> None:
        self._exchange = exchange
        self._kem = kem
        self._mlkem = mlkem
        self._used: set[tuple[str | int, ...]] = set()
        self._agreed: dict[bytes, bytes] = {}
        self._lock = Lock()
        self.public_exchange = exchange.public_key().public_bytes_raw()
        post_quantum = b"" if mlkem is None else mlkem.public_key().public_bytes_raw()
        self.public_kem = post_quantum + kem.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"Ephemeral({self.public_exchange.hex()[:16]})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("ephemeral keys are neither pickled nor copied; see to_bytes")

    @classmethod
    def generate(cls) -> Ephemeral:
        """New keys from the operating system's entropy.

        >>> len(Ephemeral.generate().public_exchange)
        32
        """
        try:
            mlkem = MLKEM768PrivateKey.generate()
        except UnsupportedAlgorithm:
            mlkem = None
        return cls(X25519PrivateKey.generate(), X25519PrivateKey.generate(), mlkem)

    def to_bytes(self) -> bytes:
        """All secrets and claims, canonical bytes, for a simulation's session in memory.

        A simulated hospital moves between processes, so its session travels through the driver's
        memory. On a hospital's node nothing calls this, and nothing ever writes it to a disk.
        """
        mlkem = None if self._mlkem is None else self._mlkem.private_bytes_raw()
        with self._lock:
            used = sorted(self._used, key=to_canonical)
        return to_canonical(
            {
                "exchange": self._exchange.private_bytes_raw(),
                "kem": self._kem.private_bytes_raw(),
                "mlkem": mlkem,
                "used": used,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Ephemeral:
        """The keys and claims that `to_bytes` wrote.

        Raises:
            IntegrityError: The bytes are not what `to_bytes` writes.
        """
        try:
            parts = from_canonical(data)
            seed = parts["mlkem"]
            keys = cls(
                X25519PrivateKey.from_private_bytes(parts["exchange"]),
                X25519PrivateKey.from_private_bytes(parts["kem"]),
                None if seed is None else MLKEM768PrivateKey.from_seed_bytes(seed),
            )
            keys._used = {tuple(use) for use in parts["used"]}
        except (FedwardError, KeyError, TypeError, ValueError):
            # No cause: it would quote the bytes.
            raise IntegrityError("the bytes are no ephemeral keys") from None
        return keys

    @property
    def unsealing_key(self) -> UnsealingKey:
        """The secret key that `privacy.envelope` opens bundles with."""
        return (
            self._kem if self._mlkem is None else MLKEM768X25519PrivateKey(self._mlkem, self._kem)
        )

    def member(self, *, name: str, job: str, roster: str, key: SigningKey) -> Member:
        """The public half, vouched for by the hospital's Ed25519 key, for the cohort document."""
        return Member.create(
            name=name,
            job=job,
            roster=roster,
            kem=self.public_kem,
            exchange=self.public_exchange,
            key=key,
        )

    def check_holds(self, member: Member) -> None:
        """Check that a cohort names these keys for this hospital.

        Raises:
            RefusalError: It names others, for instance those from before a restart.
        """
        if (member.exchange, member.kem) != (self.public_exchange, self.public_kem):
            raise RefusalError(Code.COHORT, "the cohort names other ephemeral keys than ours")

    def agree(self, public_exchange: bytes) -> bytes:
        """The X25519 secret shared with another member, 32 bytes, to be put through a KDF.

        It is computed once and lives as long as these keys.

        Raises:
            IntegrityError: The other key is no key: the secret would be zero.

        Source: RFC 7748, section 6.1.
        """
        if public_exchange not in self._agreed:
            try:
                public = X25519PublicKey.from_public_bytes(public_exchange)
                self._agreed[public_exchange] = self._exchange.exchange(public)
            except ValueError:
                raise IntegrityError("a member's exchange key is no X25519 key") from None
        return self._agreed[public_exchange]

    def claim(self, *use: str | int) -> None:
        """Use these keys for something that may happen once.

        Args:
            use: What for, for example ("mask", job, epoch, attempt, purpose).

        Raises:
            IntegrityError: They were used for it before.
        """
        with self._lock:
            if use in self._used:
                raise IntegrityError(
                    f"these keys served this {use[0]} before",
                    remedy="send the stored bytes again, or refuse",
                )
            self._used.add(use)
