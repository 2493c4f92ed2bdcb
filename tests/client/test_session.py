from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.session import MemorySessions, PackedSessions, Session, Sessions
from client.store import DiskSessions
from privacy.envelope import DATA_KEY_BYTES, EpochKeys, make_bundles, open_bundle
from privacy.keys import Ephemeral
from protocol.cohort import Cohort
from protocol.cohort import Member as CohortMember
from protocol.errors import FedwardError, IntegrityError
from protocol.jobs import Job
from protocol.messages import Packet
from protocol.signing import SigningKey
from strategies.base import State
from tests.consortium import make_job

JOB = make_job()
KEYS = EpochKeys(bfv=b"the secret key of an epoch", data=bytes(range(DATA_KEY_BYTES)))
STORES: list[Callable[[Path], Sessions]] = [
    lambda _: MemorySessions(),
    lambda _: PackedSessions({}),
    DiskSessions,
]


def signer(name: str) -> SigningKey:
    return SigningKey.from_seed(hashlib.sha256(name.encode()).digest())


def ephemerals() -> dict[str, Ephemeral]:
    return {site.name: Ephemeral.generate() for site in JOB.sites}


def member(name: str, ephemeral: Ephemeral, job: Job = JOB) -> CohortMember:
    return ephemeral.member(name=name, job=job.digest, roster=job.roster, key=signer(name))


def cohort_of(keys: dict[str, Ephemeral]) -> Cohort:
    members = [member(name, ephemeral) for name, ephemeral in keys.items()]
    return Cohort.assemble(job=JOB.digest, roster=JOB.roster, epoch=3, members=members)


def fresh(job: Job = JOB) -> Session:
    ephemeral = Ephemeral.generate()
    return Session(
        job=job,
        ephemeral=ephemeral,
        member=member("north", ephemeral, job).to_bytes(),
        state=State(np.zeros(4), (), 0),
    )


def late(keys: dict[str, Ephemeral]) -> Session:
    """A session in the middle of a job, every field set."""
    return Session(
        job=JOB,
        signature=b"the coordinator's",
        ephemeral=keys["north"],
        member=member("north", keys["north"]).to_bytes(),
        state=State(np.array([0.1, -0.0, 1e300, 5e-324]), (np.arange(4.0), -np.ones(4)), 7),
        epoch=3,
        attempt=9,
        counted=8,
        cohort=cohort_of(keys),
        keys=KEYS,
        released={"update": 8, "evaluation": 4},
        metrics={"brier": (0.25, 0.125, 0.1)},
        model="3",
        made=2,
        summed=8,
        request="f" * 64,
        reply=Packet(
            "stepped", "sender", b"header", b"signature", {"update": b"\0\xff", "counts": b""}
        ),
    )


def check_same(found: Session | None, kept: Session) -> None:
    """Equal in every field, floats to the last bit."""
    assert found is not None
    for field in fields(Session):
        ours, theirs = getattr(found, field.name), getattr(kept, field.name)
        if field.name in ("ephemeral", "state"):
            ours, theirs = ours.to_bytes(), theirs.to_bytes()
        assert ours == theirs, field.name


@pytest.fixture(params=STORES, ids=["memory", "packed", "disk"])
def sessions(request: pytest.FixtureRequest, tmp_path: Path) -> Sessions:
    made: Sessions = request.param(tmp_path)
    return made


class TestEveryStore:
    def test_knows_no_job_at_first(self, sessions: Sessions) -> None:
        assert sessions.load(JOB.digest) is None

    def test_gives_back_what_it_was_given(self, sessions: Sessions) -> None:
        for session in (fresh(), late(ephemerals())):
            sessions.save(session)
            check_same(sessions.load(JOB.digest), session)

    def test_keeps_the_last_of_each_job(self, sessions: Sessions) -> None:
        other = make_job()
        first, second = fresh(), fresh(other)
        sessions.save(first)
        sessions.save(second)
        sessions.save(replace(first, attempt=5))
        check_same(sessions.load(JOB.digest), replace(first, attempt=5))
        check_same(sessions.load(other.digest), second)

    def test_a_session_that_was_taken_out_is_not_the_stores_own(self, sessions: Sessions) -> None:
        sessions.save(fresh())
        taken = sessions.load(JOB.digest)
        assert taken is not None
        assert replace(taken, attempt=4).attempt == 4
        again = sessions.load(JOB.digest)
        assert again is not None
        assert again.attempt == 0

    def test_lists_its_jobs(self, sessions: Sessions) -> None:
        assert sessions.jobs() == ()
        other = make_job()
        sessions.save(fresh())
        sessions.save(fresh(other))
        assert {job.digest for job in sessions.jobs()} == {JOB.digest, other.digest}

    def test_forgets_a_dropped_job_and_no_other(self, sessions: Sessions) -> None:
        other = make_job()
        sessions.save(fresh())
        sessions.save(fresh(other))
        sessions.drop(JOB.digest)
        assert sessions.load(JOB.digest) is None
        assert sessions.load(other.digest) is not None
        sessions.drop(JOB.digest)

    def test_keys_still_open_what_was_sealed_to_them(self, sessions: Sessions) -> None:
        keys = ephemerals()
        cohort = cohort_of(keys)
        bundles = make_bundles(cohort, KEYS, signer(cohort.maker.name))
        sessions.save(late(keys))
        found = sessions.load(JOB.digest)
        assert found is not None
        assert open_bundle(cohort, "north", found.ephemeral, bundles["north"]) == KEYS
        other = keys["south"].public_exchange
        assert found.ephemeral.agree(other) == keys["north"].agree(other)

    def test_what_keys_were_used_for_is_remembered(self, sessions: Sessions) -> None:
        """A mask that was made once is refused in whatever process the session comes to."""
        session = fresh()
        session.ephemeral.claim("mask", JOB.digest, 1, 1, "update")
        sessions.save(session)
        found = sessions.load(JOB.digest)
        assert found is not None
        with pytest.raises(IntegrityError, match="served this mask before"):
            found.ephemeral.claim("mask", JOB.digest, 1, 1, "update")
        found.ephemeral.claim("mask", JOB.digest, 1, 2, "update")

    def test_destroyed_keys_stay_destroyed(self, sessions: Sessions) -> None:
        session = late(ephemerals())
        sessions.save(session)
        sessions.save(session.destroy_keys())
        found = sessions.load(JOB.digest)
        assert found is not None
        assert found.keys is None
        check_same(found, replace(session, keys=None))


class TestPacked:
    def test_the_store_holds_bytes_under_the_jobs_digest(self) -> None:
        store: dict[str, bytes] = {}
        session = late(ephemerals())
        PackedSessions(store).save(session)
        assert list(store) == [JOB.digest]
        assert isinstance(store[JOB.digest], bytes)
        check_same(PackedSessions(dict(store)).load(JOB.digest), session)

    def test_no_secret_is_left_after_the_keys_are_destroyed_or_the_job_is_dropped(self) -> None:
        store: dict[str, bytes] = {}
        sessions = PackedSessions(store)
        session = late(ephemerals())
        sessions.save(session)
        with_keys = store[JOB.digest]
        sessions.save(session.destroy_keys())
        assert len(store[JOB.digest]) < len(with_keys)
        assert _spelt(KEYS.data) in with_keys
        assert _spelt(KEYS.data) not in store[JOB.digest]
        assert _spelt(KEYS.bfv) not in store[JOB.digest]
        sessions.drop(JOB.digest)
        assert store == {}

    @settings(max_examples=60)
    @given(cut=st.integers(0, 10_000), flip=st.integers(0, 7), short=st.booleans())
    def test_damaged_bytes_are_an_error_or_another_session_never_a_crash(
        self, cut: int, flip: int, *, short: bool
    ) -> None:
        store: dict[str, bytes] = {}
        sessions = PackedSessions(store)
        sessions.save(SESSION)
        packed = bytearray(store[JOB.digest])
        place = cut % len(packed)
        if short:
            del packed[place:]
        else:
            packed[place] ^= 1 << flip
        store[JOB.digest] = bytes(packed)
        try:
            found = sessions.load(JOB.digest)
        except FedwardError:
            return
        assert isinstance(found, Session)
        assert not short


def _spelt(secret: bytes) -> bytes:
    """How canonical bytes spell a secret."""
    from protocol.canonical import to_canonical

    return to_canonical(secret).strip(b'"')


SESSION = late(ephemerals())


def test_a_printed_session_shows_no_secret() -> None:
    shown = repr(SESSION)
    for secret in (KEYS.bfv, KEYS.data, SESSION.ephemeral.to_bytes()):
        assert repr(secret) not in shown
        assert repr(secret)[2:-1] not in shown
