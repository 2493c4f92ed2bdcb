from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from privacy.ledger_state import CONTEXT, START, State, from_request, to_request, verify_signature
from privacy.ledger_store import Row
from protocol.canonical import from_canonical, to_canonical
from protocol.errors import IntegrityError
from protocol.signing import SigningKey
from tests.privacy.ledgers import BIG, CAPS, KEY, NOW, charge, job

GENESIS = {"public": KEY.public, "relation": "add-remove"}
REQUEST = to_request([charge(1, 3)], CAPS)


def signed(number: int, body: bytes, key: SigningKey = KEY) -> Row:
    return Row(number, body, key.sign(CONTEXT, bytes.fromhex(Row(number, body, b"").hash)))


def extend(state: State, kind: str, fields: Mapping[str, object], key: SigningKey = KEY) -> Row:
    row = signed(state.number + 1, state.next_body(kind, NOW, fields), key)
    state.follow(row, check_signature=True)
    return row


@pytest.fixture
def state() -> State:
    state = State()
    extend(state, "genesis", GENESIS)
    return state


def test_a_chain_begins_with_its_key_and_relation() -> None:
    for fields in ({**GENESIS, "relation": "replace-one"}, {"public": KEY.public}):
        with pytest.raises(IntegrityError, match="row 1 "):
            extend(State(), "genesis", fields)
    with pytest.raises(IntegrityError, match="row 1 "):
        extend(State(), "reserve", REQUEST)


def test_a_chain_has_one_beginning(state: State) -> None:
    with pytest.raises(IntegrityError, match="row 2 "):
        extend(state, "genesis", GENESIS)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("gift", {}),
        ("reserve", {}),
        ("reserve", {**REQUEST, "charges": []}),
        ("reserve", {**REQUEST, "charges": [{"steps": 1}]}),
        ("release", {"job": job(1), "epoch": 1, "attempt": 1, "purpose": "update"}),
        ("settle", {"job": job(1), "used": {"update": 1}}),
        ("void", {"job": job(1)}),
        ("finish", {"job": job(1)}),
        ("unblock", {"found": START}),
        ("key", {"public": b"short"}),
        ("key", {}),
    ],
)
def test_a_row_that_breaks_a_rule_does_not_hold_though_it_is_signed(
    state: State, kind: str, fields: Mapping[str, object]
) -> None:
    with pytest.raises(IntegrityError, match="row 2 of the privacy ledger does not hold"):
        extend(state, kind, fields)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not canonical",
        to_canonical([]),
        to_canonical({"number": 2}),
        to_canonical({"number": 3, "previous": START, "time": NOW.isoformat(), "kind": "finish"}),
    ],
)
def test_a_malformed_row_does_not_hold(state: State, body: bytes) -> None:
    with pytest.raises(IntegrityError, match="row 2 "):
        state.follow(signed(2, body), check_signature=True)


def test_a_row_has_one_place(state: State) -> None:
    row = signed(3, state.next_body("refused", NOW, REQUEST))
    with pytest.raises(IntegrityError, match="does not follow"):
        state.follow(row, check_signature=False)


def test_a_row_of_another_key_does_not_hold(state: State) -> None:
    with pytest.raises(IntegrityError, match="signature"):
        extend(state, "reserve", REQUEST, SigningKey.generate())


def test_a_new_key_is_signed_by_the_old_one_even_where_signatures_are_skipped(
    state: State,
) -> None:
    new = SigningKey.generate()
    body = state.next_body("key", NOW, {"public": new.public})
    with pytest.raises(IntegrityError, match="signature"):
        state.follow(signed(2, body, new), check_signature=False)


def test_a_job_is_reserved_once(state: State) -> None:
    extend(state, "reserve", REQUEST)
    with pytest.raises(IntegrityError, match="reserved twice"):
        extend(state, "reserve", REQUEST)


def test_a_population_has_one_split_key(state: State) -> None:
    extend(state, "split", {"population": "cardiology", "commitment": "00"})
    with pytest.raises(IntegrityError, match="two split keys"):
        extend(state, "split", {"population": "cardiology", "commitment": "11"})


def test_nothing_lifts_a_block(state: State) -> None:
    extend(state, "block", {"missing": "0" * 64})
    assert (state.number, state.blocked) == (2, (2, "0" * 64))
    with pytest.raises(IntegrityError, match="malformed"):
        extend(state, "unblock", {"found": state.head})
    assert state.blocked


def test_a_job_goes_through_its_rows(state: State) -> None:
    extend(state, "reserve", REQUEST)
    assert state.counted() == [charge(1, 3)]
    place = {"job": job(1), "epoch": 1, "attempt": 1, "purpose": "update", "digest": ""}
    extend(state, "release", place)
    extend(state, "settle", {"job": job(1), "used": {"update": 1}})
    extend(state, "settle", {"job": job(1), "used": {"update": 1}})
    assert state.counted() == [charge(1, 1)]
    extend(state, "finish", {"job": job(1)})
    extend(state, "finish", {"job": job(1)})
    extend(state, "reserve", to_request([charge(2, 5)], CAPS))
    extend(state, "void", {"job": job(2)})
    extend(state, "void", {"job": job(2)})
    extend(state, "refused", to_request([charge(3, 5)], CAPS))
    assert state.counted() == [charge(1, 1)]
    assert state.heads[state.head] == state.number == 11
    assert [account.row for account in state.refused] == [11]


@pytest.mark.parametrize("caps", [CAPS, BIG])
def test_a_request_comes_back_as_it_was(caps: Any) -> None:
    charges = [charge(1, 3, sigma=0.1 + 0.2), charge(1, 1, partition="test")]
    body = to_canonical({**to_request(charges, caps), "time": NOW.isoformat()})
    account = from_request(from_canonical(body), 7, "reserved")
    assert list(account.charges.values()) == charges
    assert (account.caps, account.row, account.at) == (caps, 7, NOW)


def test_a_signature_is_over_the_hash_in_the_ledgers_context(state: State) -> None:
    body = state.next_body("refused", NOW, REQUEST)
    verify_signature(KEY.public, signed(2, body))
    with pytest.raises(IntegrityError):
        verify_signature(KEY.public, Row(2, body, KEY.sign("job", body)))
