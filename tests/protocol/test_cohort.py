from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import from_canonical, to_canonical
from protocol.cohort import KEM_LENGTHS, Cohort, Member, Rules
from protocol.errors import Code, InputError, IntegrityError, RefusalError
from protocol.signing import SigningKey

JOB = hashlib.sha256(b"job").hexdigest()
ROSTER = hashlib.sha256(b"roster").hexdigest()
NAMES = ("north", "south", "east", "west", "centre")


def digest(*labels: str) -> bytes:
    return hashlib.sha256("/".join(labels).encode()).digest()


def key_of(name: str) -> SigningKey:
    return SigningKey.from_seed(digest(name, "signing"))


def member(name: str, *, job: str = JOB, roster: str = ROSTER, session: str = "1") -> Member:
    return Member.create(
        name=name,
        job=job,
        roster=roster,
        kem=digest(name, session, "kem") * 38,
        exchange=digest(name, session, "exchange"),
        key=key_of(name),
    )


def cohort(names: Sequence[str] = NAMES, *, epoch: int = 1) -> Cohort:
    members = [member(name) for name in names]
    return Cohort.assemble(job=JOB, roster=ROSTER, epoch=epoch, members=members)


def rules(names: Sequence[str] = NAMES, **other: Any) -> Rules:
    fields: dict[str, Any] = {
        "members": {name: key_of(name).fingerprint for name in names},
        "min_sites": 3,
        "max_sites": 10,
        "min_colluding_sites": 1,
    }
    return Rules(**(fields | other))


def verify(document: Cohort, **other: Any) -> None:
    fields: dict[str, Any] = {
        "job": JOB,
        "roster": ROSTER,
        "me": member("north"),
        "colluding_sites": 1,
        "rules": rules(),
    }
    document.verify(**(fields | other))


def refusal(document: Cohort, **other: Any) -> str:
    with pytest.raises(RefusalError) as caught:
        verify(document, **other)
    assert caught.value.code is Code.COHORT
    return str(caught.value)


def swap(document: Cohort, name: str, /, **fields: Any) -> Cohort:
    """The document with some fields of one member changed, signatures left as they are."""
    members = [replace(m, **fields) if m.name == name else m for m in document.members]
    return replace(document, members=tuple(members))


# -- verification, rule by rule -------------------------------------------------------------------


def test_a_cohort_that_follows_every_rule_passes() -> None:
    verify(cohort())
    verify(cohort(), colluding_sites=3)
    verify(cohort(), rules=rules(min_sites=5, max_sites=5))
    verify(cohort(NAMES[:3]))


def test_the_hospital_itself_needs_no_confirmation() -> None:
    verify(cohort(), rules=rules(NAMES[1:]))


def test_a_member_that_was_not_confirmed_is_refused() -> None:
    assert "'west' is no member" in refusal(cohort(), rules=rules([*NAMES[:3], "centre"]))


def test_an_invented_hospital_under_a_confirmed_name_is_refused() -> None:
    invented = Member.create(
        name="west",
        job=JOB,
        roster=ROSTER,
        kem=bytes(32),
        exchange=digest("coordinator"),
        key=key_of("coordinator"),
    )
    members = [*(member(name) for name in NAMES if name != "west"), invented]
    document = Cohort.assemble(job=JOB, roster=ROSTER, epoch=1, members=members)
    assert "'west' is no member" in refusal(document)


def test_a_confirmed_hospital_under_another_name_is_refused() -> None:
    assert "'best' is no member" in refusal(swap(cohort(), "west", name="best"))


@pytest.mark.parametrize("field", ["exchange", "kem"])
def test_keys_of_the_coordinator_under_a_members_signature_are_refused(field: str) -> None:
    changed = swap(cohort(), "west", **{field: digest("coordinator")})
    assert "'west' did not sign" in refusal(changed)


def test_a_forged_signature_is_refused() -> None:
    assert "'west' did not sign" in refusal(swap(cohort(), "west", signature=bytes(64)))


@pytest.mark.parametrize("field", ["job", "roster"])
def test_keys_that_were_signed_for_another_job_or_roster_are_refused(field: str) -> None:
    other = member("west", **{field: "0" * 64})
    changed = swap(cohort(), "west", signature=other.signature)
    assert "'west' did not sign" in refusal(changed)


@pytest.mark.parametrize("field", ["job", "roster"])
def test_a_cohort_of_another_job_or_roster_is_refused(field: str) -> None:
    assert "another job or roster" in refusal(cohort(), **{field: "0" * 64})


def test_a_cohort_without_this_hospital_is_refused() -> None:
    assert "current keys are not in" in refusal(cohort(NAMES[1:]))


def test_this_hospitals_keys_from_before_a_restart_are_refused() -> None:
    restarted = member("north", session="2")
    assert "current keys are not in" in refusal(cohort(), me=restarted)


def test_too_few_members() -> None:
    message = refusal(cohort(NAMES[:3]), rules=rules(min_sites=4))
    assert "number of members" in message
    assert "expected 4 to 10; found 3" in message


def test_more_members_than_the_encryption_carries() -> None:
    assert "expected 3 to 4; found 5" in refusal(cohort(), rules=rules(max_sites=4))


def test_fewer_colluding_hospitals_than_policy_wants() -> None:
    message = refusal(cohort(), rules=rules(min_colluding_sites=2))
    assert "number of colluding sites" in message
    assert "expected 2 to 3; found 1" in message


@pytest.mark.parametrize(("size", "colluding"), [(3, 2), (4, 3), (5, 4), (5, 5), (5, 99)])
def test_two_members_at_least_are_beyond_those_that_collude(size: int, colluding: int) -> None:
    assert "colluding sites" in refusal(cohort(NAMES[:size]), colluding_sites=colluding)
    verify(cohort(NAMES[:size]), colluding_sites=size - 2)


def test_a_policy_without_limits_still_needs_two() -> None:
    lax = rules(min_sites=0, min_colluding_sites=0)
    verify(cohort(NAMES[:2]), rules=lax, colluding_sites=0)
    assert "colluding sites" in refusal(cohort(NAMES[:1]), rules=lax, colluding_sites=0)
    assert "colluding sites" in refusal(cohort(), rules=lax, colluding_sites=-1)


# -- members --------------------------------------------------------------------------------------


def test_a_member_is_read_back() -> None:
    one = member("north")
    assert Member.from_bytes(one.to_bytes()) == one
    one.verify(job=JOB, roster=ROSTER)


@pytest.mark.parametrize(
    "fields",
    [
        {"signing": bytes(31)},
        {"exchange": bytes(33)},
        {"signature": bytes(63)},
        {"kem": bytes(0)},
        {"kem": bytes(1184)},
        {"fingerprint": "0" * 64},
        {"signing": key_of("south").public},
    ],
)
def test_fields_that_are_no_members(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a member's"):
        replace(member("north"), **fields)
    content = from_canonical(member("north").to_bytes()) | fields
    with pytest.raises(IntegrityError, match="not a member of a cohort"):
        Member.from_bytes(to_canonical(content))


@pytest.mark.parametrize("length", KEM_LENGTHS)
def test_both_kinds_of_bundle_keys(length: int) -> None:
    assert len(replace(member("north"), kem=bytes(length)).kem) == length


# -- documents ------------------------------------------------------------------------------------


@given(order=st.permutations(NAMES))
def test_one_set_of_members_is_one_document(order: list[str]) -> None:
    document = cohort(order)
    assert document.to_bytes() == cohort().to_bytes()
    assert document.digest == hashlib.sha256(document.to_bytes()).hexdigest()
    assert Cohort.from_bytes(document.to_bytes()) == document


def test_every_field_is_in_the_digest() -> None:
    digests = [
        cohort().digest,
        cohort(epoch=2).digest,
        cohort(NAMES[:4]).digest,
        replace(cohort(), job="0" * 64).digest,
        replace(cohort(), roster="0" * 64).digest,
        swap(cohort(), "west", exchange=bytes(32)).digest,
    ]
    assert len(set(digests)) == len(digests)


def test_places_and_the_maker() -> None:
    document = cohort()
    fingerprints = sorted(key_of(name).fingerprint for name in NAMES)
    assert document.size == 5
    assert document.maker.fingerprint == fingerprints[0]
    for name in NAMES:
        assert document.index(name) == fingerprints.index(key_of(name).fingerprint)
        assert document.member(name) == member(name)


def test_a_hospital_that_is_not_a_member() -> None:
    for look in (cohort().index, cohort().member):
        with pytest.raises(RefusalError, match="'nobody' is not in the cohort") as caught:
            look("nobody")
        assert caught.value.code is Code.COHORT


@pytest.mark.parametrize("epoch", [0, -1])
def test_epochs_begin_at_one(epoch: int) -> None:
    with pytest.raises(InputError, match="an epoch from 1"):
        cohort(epoch=epoch)


def test_nobody_is_no_cohort() -> None:
    with pytest.raises(InputError, match="at least one member"):
        cohort([])


def test_members_are_in_order_and_unlike_each_other() -> None:
    document = cohort()
    first, second, *rest = document.members
    with pytest.raises(InputError, match="strictly growing"):
        replace(document, members=(second, first, *rest))
    with pytest.raises(InputError, match="strictly growing"):
        cohort([*NAMES, "north"])
    for field in ("name", "kem", "exchange"):
        twin = replace(second, **{field: getattr(first, field)})
        with pytest.raises(InputError, match=f"no two with the same {field}"):
            replace(document, members=(first, twin, *rest))


@pytest.mark.parametrize("change", ["field", "order", "type", "junk", "spelling"])
def test_bytes_that_are_no_cohort(change: str) -> None:
    content = from_canonical(cohort().to_bytes())
    wrong = {
        "field": to_canonical(content | {"more": 1}),
        "order": to_canonical(content | {"members": content["members"][::-1]}),
        "type": to_canonical(content | {"epoch": "1"}),
        "junk": b"\xff",
        "spelling": cohort().to_bytes() + b" ",
    }
    with pytest.raises(IntegrityError, match="not a cohort document"):
        Cohort.from_bytes(wrong[change])
