from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.envelope import FloatVector, seal, sign_sealed, weights_tag
from privacy.snapshot import Transfer, attest, open_snapshot, seal_snapshot
from protocol.cohort import Cohort
from protocol.errors import InputError, IntegrityError, RefusalError
from tests.privacy.consortium import Hospital, cohort_of, ephemeral, hospitals, secret

DATA_KEY = secret("data")
WEIGHTS = np.array([1.5, -2.0, 0.25])
STATE = WEIGHTS.tobytes()
ATTEMPT = 7


def read(state: bytes) -> tuple[FloatVector, ...]:
    return (np.frombuffer(state, np.float64),)


def attested(
    signers: list[Hospital], cohort: Cohort, *, attempt: int = ATTEMPT, state: bytes = STATE
) -> dict[str, bytes]:
    tag = weights_tag(DATA_KEY, *read(state))
    return {one.name: attest(tag, cohort, attempt=attempt, signing_key=one.key) for one in signers}


def taken(
    members: list[Hospital], attestations: dict[str, bytes], *, snapshot: bytes, **other: Any
) -> bytes:
    sender, recipient = members[1], members[2]
    transfer = Transfer(
        cohort=cohort_of(members), sender=sender.name, recipient=recipient.name, attempt=ATTEMPT
    )
    arguments: dict[str, Any] = {
        "transfer": transfer,
        "ephemeral": recipient.ephemeral,
        "data_key": DATA_KEY,
        "read": read,
        "attestations": attestations,
    }
    return open_snapshot(snapshot, **(arguments | other))


def sent(members: list[Hospital], **other: Any) -> bytes:
    arguments: dict[str, Any] = {
        "cohort": cohort_of(members),
        "sender": members[1].name,
        "recipient": members[2].name,
        "attempt": ATTEMPT,
    }
    return seal_snapshot(STATE, Transfer(**(arguments | other)), members[1].key)


@pytest.mark.parametrize("post_quantum", [True, False])
def test_a_returning_member_takes_over_what_two_others_hold(post_quantum: bool) -> None:
    members = hospitals(4, post_quantum=post_quantum)
    snapshot = sent(members)
    assert STATE not in snapshot
    # The sender counts as one of the two.
    for signers in (members[:2], [members[0], members[3]], [*members[:2], members[3]]):
        attestations = attested(signers, cohort_of(members))
        assert taken(members, attestations, snapshot=snapshot) == STATE


def test_too_few_others_hold_it() -> None:
    members = hospitals(4)
    cohort, snapshot = cohort_of(members), sent(members)
    outsider = next(one for one in hospitals(6) if one.name not in {m.name for m in members})
    one = attested(members[:1], cohort)
    recipient = attested(members[2:3], cohort)
    wrong_attempt = attested(members[3:], cohort, attempt=ATTEMPT - 1)
    wrong_state = attested(members[3:], cohort, state=np.zeros(3).tobytes())
    wrong_cohort = attested(members[3:], cohort_of(members, epoch=2))
    repeated = {members[3].name: one[members[0].name]}
    foreign = attested([outsider], cohort)
    for more in (
        {},
        recipient,
        wrong_attempt,
        wrong_state,
        wrong_cohort,
        repeated,
        foreign,
        {members[3].name: b""},
    ):
        with pytest.raises(IntegrityError, match=r"too few members.*2 or more.*found 1"):
            taken(members, one | more, snapshot=snapshot)


def test_a_larger_quorum_and_never_a_smaller_one() -> None:
    members = hospitals(5)
    cohort, snapshot = cohort_of(members), sent(members)
    two = attested(members[:2], cohort)
    three = attested([*members[:2], members[4]], cohort)
    with pytest.raises(IntegrityError, match="3 or more"):
        taken(members, two, snapshot=snapshot, quorum=3)
    assert taken(members, three, snapshot=snapshot, quorum=3) == STATE
    with pytest.raises(IntegrityError, match="2 or more"):
        taken(members, attested(members[:1], cohort), snapshot=snapshot, quorum=0)


def test_another_data_key_tags_other_weights() -> None:
    members = hospitals(4)
    attestations = attested(members[:2], cohort_of(members))
    with pytest.raises(IntegrityError, match="too few members"):
        taken(members, attestations, snapshot=sent(members), data_key=bytes(32))


@pytest.mark.parametrize("change", ["cohort", "sender", "recipient", "attempt"])
def test_a_snapshot_belongs_to_one_place(change: str) -> None:
    members = hospitals(4)
    others: dict[str, Any] = {
        "cohort": cohort_of(members, epoch=2),
        "sender": members[3].name,
        "recipient": members[3].name,
        "attempt": ATTEMPT - 1,
    }
    snapshot = sent(members, **{change: others[change]})
    with pytest.raises(IntegrityError, match="signature"):
        taken(members, attested(members[:2], cohort_of(members)), snapshot=snapshot)


def test_a_snapshot_that_was_changed_or_sealed_to_another() -> None:
    members = hospitals(4)
    attestations = attested(members[:2], cohort_of(members))
    snapshot = sent(members)
    transfer = Transfer(
        cohort=cohort_of(members),
        sender=members[1].name,
        recipient=members[2].name,
        attempt=ATTEMPT,
    )
    with pytest.raises(IntegrityError, match="signature"):
        taken(members, attestations, snapshot=snapshot[:-1] + bytes([snapshot[-1] ^ 1]))
    sealed = seal(members[3].ephemeral.public_kem, transfer.place, STATE)
    misdirected = sign_sealed("snapshot", transfer.place, sealed, members[1].key)
    with pytest.raises(IntegrityError, match="sealed bytes do not open"):
        taken(members, attestations, snapshot=misdirected)


def test_who_is_not_in_the_cohort_neither_sends_nor_gets() -> None:
    members = hospitals(4)
    attestations = attested(members[:2], cohort_of(members))
    with pytest.raises(RefusalError, match="not in the cohort"):
        sent(members, recipient="nobody")
    transfer = Transfer(
        cohort=cohort_of(members), sender="nobody", recipient=members[2].name, attempt=ATTEMPT
    )
    with pytest.raises(RefusalError, match="not in the cohort"):
        taken(members, attestations, snapshot=sent(members), transfer=transfer)
    with pytest.raises(RefusalError, match="not in the cohort"):
        taken(
            members,
            attestations,
            snapshot=sent(members),
            transfer=replace(transfer, recipient="nobody"),
        )
    with pytest.raises(RefusalError, match="other ephemeral keys"):
        taken(members, attestations, snapshot=sent(members), ephemeral=ephemeral("before"))


def test_a_state_that_is_not_finite_is_no_state() -> None:
    members = hospitals(4)
    transfer = Transfer(
        cohort=cohort_of(members),
        sender=members[1].name,
        recipient=members[2].name,
        attempt=ATTEMPT,
    )
    snapshot = seal_snapshot(np.array([np.nan]).tobytes(), transfer, members[1].key)
    with pytest.raises(InputError, match="finite"):
        taken(members, {}, snapshot=snapshot)
