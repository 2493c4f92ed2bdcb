"""The cohort document: whose contributions are in one sum, and under which ephemeral keys.

The coordinator assembles it from what the hospitals answered at enrolment; (job, cohort document)
fixes an epoch. The coordinator signs nothing in it that matters: each member vouches for its own
keys, and every hospital checks the whole document itself before it draws noise or makes a mask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import NoReturn, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.errors import Code, InputError, IntegrityError, RefusalError
from protocol.signing import KEY_BYTES, SIGNATURE_BYTES, SigningKey, fingerprint, verify

T = TypeVar("T")

CONTEXT = "ephemeral"
KEM_LENGTHS = (32, 1216)
"""Bytes of a public key that bundles are sealed to: X25519, or ML-KEM-768 followed by X25519."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One hospital in a cohort and the ephemeral keys that it vouches for.

    Args:
        name: The hospital's name in the roster.
        fingerprint: SHA-256 of its Ed25519 key, hexadecimal: its identity.
        signing: Its Ed25519 key, 32 bytes.
        kem: Ephemeral public key that its bundles are sealed to, see `KEM_LENGTHS`.
        exchange: Ephemeral public X25519 key of its masks, 32 bytes.
        signature: Ed25519 over both ephemeral keys, the job and the roster, 64 bytes.
    """

    name: str
    fingerprint: str
    signing: bytes
    kem: bytes
    exchange: bytes
    signature: bytes

    def __post_init__(self) -> None:
        lengths = (len(self.signing), len(self.exchange), len(self.signature))
        right = lengths == (KEY_BYTES, KEY_BYTES, SIGNATURE_BYTES)
        if not right or len(self.kem) not in KEM_LENGTHS:
            raise InputError("a member's keys", expected="the lengths of Ed25519, X25519, ML-KEM")
        if self.fingerprint != fingerprint(self.signing):
            raise InputError("a member's fingerprint", expected="the SHA-256 of its Ed25519 key")

    @classmethod
    def create(
        cls, *, name: str, job: str, roster: str, kem: bytes, exchange: bytes, key: SigningKey
    ) -> Member:
        """Vouch with a hospital's Ed25519 key for its ephemeral keys in one job."""
        statement = _statement(name=name, job=job, roster=roster, kem=kem, exchange=exchange)
        return cls(
            name=name,
            fingerprint=key.fingerprint,
            signing=key.public,
            kem=kem,
            exchange=exchange,
            signature=key.sign(CONTEXT, statement),
        )

    def verify(self, *, job: str, roster: str) -> None:
        """Check that the holder of the Ed25519 key vouched for these keys in this job.

        Guarantee: an answer to another job, or under another roster, does not pass.

        Raises:
            IntegrityError: It did not.
        """
        statement = _statement(
            name=self.name, job=job, roster=roster, kem=self.kem, exchange=self.exchange
        )
        verify(self.signing, CONTEXT, statement, self.signature)

    def check_keys(self) -> None:
        """Check that something can be sealed to, and agreed with, these keys.

        Raises:
            IntegrityError: A key is none, or one with which every secret is zero.
        """
        probe = X25519PrivateKey.generate()
        try:
            for point in (self.exchange, self.kem[-KEY_BYTES:]):
                probe.exchange(X25519PublicKey.from_public_bytes(point))
            if len(self.kem) > KEY_BYTES:
                with suppress(UnsupportedAlgorithm):
                    MLKEM768PublicKey.from_public_bytes(self.kem[:-KEY_BYTES])
        except ValueError:
            raise IntegrityError(f"an ephemeral key of {self.name!r} is none") from None

    def to_bytes(self) -> bytes:
        """Canonical bytes, as an enrolment answer carries them."""
        return to_canonical(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Member:
        """Read a member; its signature is still to be verified.

        Raises:
            IntegrityError: The bytes are no member.
        """
        return _read(cls, data, "a member of a cohort")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What one hospital demands of every cohort it joins.

    Args:
        members: Name to fingerprint of the hospitals that its administrator confirmed, see
            `protocol.trust`.
        min_sites: Fewest hospitals in a sum, by its policy and the job.
        max_sites: K_max, the most contributors that the encryption parameters carry.
        min_colluding_sites: Fewest colluding hospitals that a job must withstand, by its policy.
    """

    members: Mapping[str, str]
    min_sites: int
    max_sites: int
    min_colluding_sites: int


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The members of one epoch, ordered by fingerprint.

    Args:
        job: Digest of the job.
        roster: Digest of the pinned roster.
        epoch: Number of the epoch within the job, from 1; it grows with every cohort.
        members: At least one hospital, by strictly growing fingerprint; see `assemble`.
    """

    job: str
    roster: str
    epoch: int
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        if self.epoch < 1 or not self.members:
            raise InputError("a cohort", expected="an epoch from 1 on and at least one member")
        if any(low.fingerprint >= high.fingerprint for low, high in pairwise(self.members)):
            raise InputError("a cohort's members", expected="strictly growing fingerprints")
        for what in ("name", "kem", "exchange"):
            if len({getattr(member, what) for member in self.members}) < len(self.members):
                raise InputError("a cohort's members", expected=f"no two with the same {what}")

    @classmethod
    def assemble(cls, *, job: str, roster: str, epoch: int, members: Iterable[Member]) -> Cohort:
        """The one document of these members, in whatever order they answered.

        Raises:
            InputError: Two members share a key or a name, or there is none.
        """
        ordered = tuple(sorted(members, key=lambda member: member.fingerprint))
        return cls(job=job, roster=roster, epoch=epoch, members=ordered)

    def to_bytes(self) -> bytes:
        """Canonical bytes; these are what is sent and hashed."""
        return self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        return to_canonical(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Cohort:
        """Read a cohort document; it is still to be verified.

        Raises:
            IntegrityError: The bytes are no cohort document.
        """
        return _read_cohort(data)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def size(self) -> int:
        """K, the number of members."""
        return len(self.members)

    @property
    def maker(self) -> Member:
        """The member with the lowest fingerprint, which makes the epoch's keys."""
        return self.members[0]

    def index(self, name: str) -> int:
        """A member's place, which is its slot among the presence words.

        Raises:
            RefusalError: The hospital is not in this cohort.
        """
        if name not in self._places:
            _refuse(f"hospital {name!r} is not in the cohort")
        return self._places[name]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {member.name: place for place, member in enumerate(self.members)}

    def member(self, name: str) -> Member:
        """The entry of one hospital.

        Raises:
            RefusalError: The hospital is not in this cohort.
        """
        return self.members[self.index(name)]

    def verify(
        self, *, job: str, roster: str, me: Member, colluding_sites: int, rules: Rules
    ) -> None:
        """Decide whether this hospital may add its noise, masks and update to this cohort's sum.

        Guarantee: every other member is a hospital that this one's administrator confirmed and
        that vouched for its keys in this job, so the coordinator can neither invent members nor
        put keys of its own in their place. At least one of them is honest under the stated trust.

        Args:
            job: Digest of the job that this hospital accepted.
            roster: Digest of the roster that it pinned.
            me: What this hospital answered at enrolment and still holds the keys of.
            colluding_sites: t of the job.
            rules: What this hospital demands.

        Raises:
            RefusalError: With `Code.COHORT`; the message says which rule.
        """
        if (self.job, self.roster) != (job, roster):
            _refuse("the cohort belongs to another job or roster")
        if me not in self.members:
            _refuse("this hospital's current keys are not in the cohort")
        for member in self.members:
            if member != me and rules.members.get(member.name) != member.fingerprint:
                _refuse(f"{member.name!r} is no member that this hospital confirmed")
            self._verify_signature(member)
        _check_range("members", self.size, rules.min_sites, rules.max_sites)
        # K - t >= 2: under the stated trust another honest hospital's noise and mask are always in
        # the sum beside this one's.
        _check_range("colluding sites", colluding_sites, rules.min_colluding_sites, self.size - 2)

    def _verify_signature(self, member: Member) -> None:
        try:
            _verify_once(member, self.job, self.roster)
        except IntegrityError as error:
            raise RefusalError(
                Code.COHORT, f"{member.name!r} did not sign its ephemeral keys for this job"
            ) from error


@lru_cache(maxsize=4096)
def _verify_once(member: Member, job: str, roster: str) -> None:
    """`Member.verify`, of which a pass is remembered: the next epoch has the same members."""
    member.verify(job=job, roster=roster)


@lru_cache(maxsize=1)
def _read_cohort(data: bytes) -> Cohort:
    """The last document read is kept: in a simulation all virtual hospitals get the same one."""
    return _read(Cohort, data, "a cohort document")


def _read(cls: type[T], data: bytes, what: str) -> T:
    """A document from received bytes, whose faults are nobody's here."""
    try:
        return decode(cls, data, what)
    except InputError as error:
        raise IntegrityError(f"the bytes are not {what}") from error


def _statement(*, name: str, job: str, roster: str, kem: bytes, exchange: bytes) -> bytes:
    """What a member signs, canonical bytes."""
    return to_canonical(
        {"exchange": exchange, "job": job, "kem": kem, "name": name, "roster": roster}
    )


def _check_range(what: str, number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        _refuse(f"number of {what} in the cohort", expected=f"{low} to {high}", found=str(number))


def _refuse(problem: str, *, expected: str | None = None, found: str | None = None) -> NoReturn:
    raise RefusalError(Code.COHORT, problem, expected=expected, found=found)
