"""What the coordinator's process holds: nothing that opens anything, and nothing that is plain."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

from client.session import MemorySessions, Session
from privacy.he.sum import CiphertextSum
from protocol.canonical import from_canonical
from protocol.errors import IntegrityError
from protocol.jobs import Job
from protocol.messages import Packet
from protocol.records import parts_of
from protocol.signing import SigningKey
from simulations import engine
from simulations.consortium import Consortium
from tests.consortium import make_consortium, make_job, make_request
from tests.simulations.runs import Run, models, run_course


class Secrets(MemorySessions):
    """Sessions of the hospitals that also remember every secret they ever held."""

    seen: list[Session] = []  # noqa: RUF012 - one list for all hospitals of a test

    def save(self, session: Session) -> None:
        self.seen.append(session)
        super().save(session)


@pytest.fixture
def finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Consortium, Job, Run, list[Session]]:
    monkeypatch.setattr(Secrets, "seen", [])
    monkeypatch.setattr(engine, "MemorySessions", Secrets)
    consortium = make_consortium(tmp_path / "c")
    job = make_job(consortium, make_request())
    return consortium, job, run_course(consortium, job), Secrets.seen


def reachable(root: object) -> Iterator[bytes]:
    """Every run of bytes, text and array that hangs on an object."""
    seen: set[int] = set()
    waiting: list[object] = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type | float | int) or callable(item):
            continue
        seen.add(id(item))
        leaf = _leaf(item)
        if leaf is None:
            waiting.extend(_parts(item))
        else:
            yield leaf


def _leaf(item: object) -> bytes | None:
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, str):
        return item.encode()
    return item.tobytes() if isinstance(item, np.ndarray) else None


def _parts(item: object) -> list[object]:
    if is_dataclass(item) and not isinstance(item, type):
        return [getattr(item, field.name) for field in fields(item)]
    if isinstance(item, dict):
        return [*item.keys(), *item.values()]
    return list(gc.get_referents(item))


def secrets_of(sessions: list[Session]) -> set[bytes]:
    found: set[bytes] = set()
    for session in sessions:
        if session.keys is not None:
            found |= {session.keys.data, session.keys.bfv[10:200]}
        packed = from_canonical(session.ephemeral.to_bytes())
        found |= {part for part in packed.values() if isinstance(part, bytes)}
        weights = session.state.weights
        if weights.any():
            found |= {weights.tobytes(), weights[:4].tobytes()}
    return found


def test_no_key_and_no_plain_tensor_reaches_the_coordinator(
    finished: tuple[Consortium, Job, Run, list[Session]],
) -> None:
    _, _, run, sessions = finished
    assert run.outcome.status == "completed"
    secrets = secrets_of(sessions)
    assert len(secrets) > 10
    held = b"\0".join(
        part
        for root in (vars(run.course), [message.content for message in run.grid.seen])
        for part in reachable(root)
    )
    # The look is deep enough: public parts of the same sessions are all there.
    assert sessions[0].ephemeral.public_exchange in held or (sessions[0].member in held)
    for secret in secrets:
        assert secret not in held


def test_an_update_does_not_decode_without_the_key(
    finished: tuple[Consortium, Job, Run, list[Session]],
) -> None:
    _, job, run, _ = finished
    packing = job.encryption.update
    assert packing is not None
    updates = []
    for message in run.grid.seen:
        packet = Packet.from_wire(parts_of(message.content))
        updates += [packet.blobs["update"]] if "update" in packet.blobs else []
    assert len(updates) == 3 * job.training.rounds
    for update in updates:
        bits = np.unpackbits(np.frombuffer(update, dtype=np.uint8))
        deviation = abs(bits.mean() - 0.5) * 2 * np.sqrt(bits.size)
        assert deviation < 6  # as close to fair coins as six standard errors tell


def test_a_coordinator_that_invents_a_key_reads_nothing(
    finished: tuple[Consortium, Job, Run, list[Session]],
) -> None:
    from privacy import cohort_keys

    _, job, run, _ = finished
    packing = job.encryption.update
    assert packing is not None
    assert run.sums
    for one in run.sums:
        if one.purpose == "update":
            guess = cohort_keys.secret_of(cohort_keys.make(job.encryption), "update", packing)
            words = guess.decrypt(one.total, _framed(job))
            assert abs(float(np.mean(words < packing.plain_modulus / 2)) - 0.5) < 0.4


def _framed(job: Job) -> int:
    from privacy.he.parameters import num_words
    from privacy.he.words import framed_size

    assert job.encryption.update is not None
    return framed_size(num_words(job.privacy.update.length, job.encryption.update), len(job.sites))


@pytest.mark.parametrize("way", ["flip", "replay", "single"])
def test_a_changed_sum_ends_the_job_without_a_model(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = make_consortium(tmp_path / "c")
    job = make_job(consortium, make_request())
    from server.sums import EncryptedCollector

    kept: list[bytes] = []
    honest = EncryptedCollector.result

    def tampered(self: EncryptedCollector) -> bytes:
        result = honest(self)
        kept.append(result)
        if way == "flip":
            # A high bit of the first residue: a low one would drown in the ciphertext's noise.
            return result[:5] + bytes([result[5] ^ 1]) + result[6:]
        if way == "replay":
            return kept[0] if len(kept) > 1 else result
        return result

    add = EncryptedCollector.add
    firsts: list[tuple[str, bytes]] = []

    def only_first(self: EncryptedCollector, site: str, payload: bytes) -> None:
        if way == "single":
            firsts.append((site, payload))
            payload = firsts[3 * ((len(firsts) - 1) // 3)][1]
        add(self, site, payload)

    monkeypatch.setattr(EncryptedCollector, "result", tampered)
    monkeypatch.setattr(EncryptedCollector, "add", only_first)
    run = run_course(consortium, job)
    assert run.outcome.status == "failed"
    assert models(consortium, job) == {}
    for name in consortium.names:
        journal = (consortium.folder / name / "journal.jsonl").read_text()
        assert "integrity" in journal


def test_a_sum_of_one_payload_is_not_a_sum(tmp_path: Path) -> None:
    """The collector itself cannot tell: only the hospitals' presence and tag words can."""
    consortium = make_consortium(tmp_path / "c")
    job = make_job(consortium, make_request())
    packing = job.encryption.update
    assert packing is not None
    total = CiphertextSum(packing, _framed(job))
    with pytest.raises(IntegrityError):
        total.residues()


def test_the_coordinators_key_opens_nothing(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "c")
    assert isinstance(consortium.coordinator, SigningKey)
    assert not hasattr(consortium.coordinator, "decrypt")
