"""Hospitals with fixed keys, so that a test that passes once passes always."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.keys import Ephemeral
from protocol.cohort import Cohort
from protocol.signing import SigningKey

JOB = hashlib.sha256(b"job").hexdigest()
ROSTER = hashlib.sha256(b"roster").hexdigest()


@dataclass(frozen=True)
class Hospital:
    name: str
    key: SigningKey
    ephemeral: Ephemeral

    def again(self) -> Hospital:
        """The same hospital whose ephemeral keys remember nothing."""
        return hospital(self.name)


def secret(*labels: str) -> bytes:
    return hashlib.sha256("/".join(labels).encode()).digest()


def ephemeral(*labels: str, post_quantum: bool = True) -> Ephemeral:
    exchange, kem, d, z = (secret(*labels, part) for part in ("exchange", "kem", "d", "z"))
    return Ephemeral(
        X25519PrivateKey.from_private_bytes(exchange),
        X25519PrivateKey.from_private_bytes(kem),
        MLKEM768PrivateKey.from_seed_bytes(d + z) if post_quantum else None,
    )


def hospital(name: str, *, post_quantum: bool = True) -> Hospital:
    key = SigningKey.from_seed(secret(name, "signing"))
    return Hospital(name, key, ephemeral(name, post_quantum=post_quantum))


def hospitals(count: int, *, post_quantum: bool = True) -> list[Hospital]:
    """In the order of their fingerprints: the first is the maker."""
    members = [hospital(f"h{i}", post_quantum=post_quantum) for i in range(count)]
    return sorted(members, key=lambda member: member.key.fingerprint)


def cohort_of(members: Iterable[Hospital], *, epoch: int = 1, job: str = JOB) -> Cohort:
    return Cohort.assemble(
        job=job,
        roster=ROSTER,
        epoch=epoch,
        members=[
            each.ephemeral.member(name=each.name, job=job, roster=ROSTER, key=each.key)
            for each in members
        ],
    )
