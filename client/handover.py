"""A state's way to a member that lacks it: what is sealed, what is signed of it, what is believed.

What members sign covers weights, moments, the number of rounds and the metrics of a finished
model, so nobody can pass one of them off with the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from client.session import Measured, Session
from privacy.envelope import DATA_KEY_BYTES, FloatVector, weights_tag
from privacy.snapshot import MIN_QUORUM, Transfer, attest, open_snapshot, seal_snapshot
from protocol.canonical import from_canonical, to_canonical
from protocol.cohort import Cohort
from protocol.config import decode
from protocol.errors import Code, FedwardError, InputError, IntegrityError, RefusalError
from protocol.messages import Share, Step
from protocol.signing import SigningKey
from strategies.base import State

PUBLIC_KEY = bytes(DATA_KEY_BYTES)
"""Stands for the data key in clear runs over public data, which have none."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a snapshot holds.

    Args:
        state: Bytes of the strategy's state.
        metrics: Pooled metrics of the finished model, empty before the end.
    """

    state: bytes
    metrics: dict[str, tuple[float, float, float]]


def vectors(content: bytes) -> tuple[FloatVector, ...]:
    """Everything in a snapshot as finite vectors, in the order in which members tag it.

    Raises:
        IntegrityError: It is no snapshot.
    """
    found = _read(content)
    state = State.from_bytes(found.state)
    names = to_canonical(sorted(found.metrics))
    numbers = [number for name in sorted(found.metrics) for number in found.metrics[name]]
    return (
        np.array([float(state.step)]),
        state.weights,
        *state.moments,
        np.frombuffer(names, dtype=np.uint8).astype(np.float64),
        np.array(numbers, dtype=np.float64),
    )


def vouch(session: Session, cohort: Cohort, attempt: int, key: SigningKey) -> bytes:
    """This member's word on the state that it holds, 64 bytes; others hold a snapshot against it.

    Args:
        session: The session, in the cohort's epoch.
        cohort: The verified cohort.
        attempt: The attempt that starts from this state.
        key: The hospital's key.
    """
    tag = weights_tag(_data_key(session), *vectors(_content(session)))
    return attest(tag, cohort, attempt=attempt, signing_key=key)


def seal_for(
    body: Share, session: Session, *, cohort: Cohort, sender: str, attempt: int, key: SigningKey
) -> bytes:
    """The state, sealed to each member that lacks it: name to snapshot, canonical bytes.

    Raises:
        RefusalError: A recipient is not in the cohort.
    """
    content = _content(session)
    return to_canonical(
        {
            name: seal_snapshot(
                content,
                Transfer(cohort=cohort, sender=sender, recipient=name, attempt=attempt),
                key,
            )
            for name in body.recipients
        }
    )


def take_over(body: Step, session: Session, *, cohort: Cohort, name: str, attempt: int) -> Session:
    """The session with the state that came, as far as enough others hold the same.

    Guarantee: fewer than max(2, t + 1) other members cannot plant a state; an earlier one is taken
    only if that many went back to it.

    Args:
        body: A message with a snapshot.
        session: The session, in the cohort's epoch.
        cohort: The verified cohort.
        name: This hospital.
        attempt: The attempt that starts from this state.

    Raises:
        IntegrityError: Signature, place or content is wrong, or too few hold the same.
        RefusalError: The sender is not in the cohort.
    """
    if body.snapshot is None:
        return session
    transfer = Transfer(cohort=cohort, sender=body.snapshot_sender, recipient=name, attempt=attempt)
    content = _read(
        open_snapshot(
            body.snapshot,
            transfer,
            session.ephemeral,
            data_key=_data_key(session),
            read=vectors,
            attestations=_attestations(body.attestations),
            quorum=max(MIN_QUORUM, session.job.privacy.colluding_sites + 1),
        )
    )
    state = State.from_bytes(content.state)
    if _shape(state) != _shape(session.state):
        raise IntegrityError("a snapshot of another model")
    return replace(session, state=state, metrics=content.metrics)


def require_base(body: Share, session: Session) -> None:
    """Check that this member holds the state that it is to share.

    Raises:
        RefusalError: It stands elsewhere.
    """
    if session.state.step != body.base:
        raise RefusalError(
            Code.SESSION,
            "this node does not hold the state that is to be shared",
            expected=f"{body.base} rounds applied",
            found=str(session.state.step),
        )


def _content(session: Session) -> bytes:
    metrics: Measured = session.metrics
    return to_canonical(Content(state=session.state.to_bytes(), metrics=dict(metrics)))


def _read(content: bytes) -> Content:
    try:
        return decode(Content, content, "snapshot")
    except InputError:
        # No cause: it would quote the bytes.
        raise IntegrityError("a snapshot holds something else than a state") from None


def _attestations(data: bytes | None) -> Mapping[str, bytes]:
    try:
        found = from_canonical(data or b"")
    except FedwardError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(one, bytes) for one in found.values()):
        raise IntegrityError("a snapshot without the other members' word on it")
    return found


def _data_key(session: Session) -> bytes:
    """The key that the cohort's members share.

    Raises:
        RefusalError: The job is encrypted, and this member has no keys of the epoch.
    """
    if session.keys is not None:
        return session.keys.data
    if session.job.encryption.scheme != "none":
        raise RefusalError(Code.SESSION, "this node has no keys of this epoch")
    return PUBLIC_KEY


def _shape(state: State) -> tuple[int, int]:
    return len(state.weights), len(state.moments)
