from __future__ import annotations

import hashlib
import json
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import ledger_audit
from privacy.composition import admission_epsilons, displayed_epsilons
from privacy.ledger import Ledger
from privacy.ledger_chain import Chain
from privacy.ledger_state import CONTEXT, to_request
from privacy.ledger_store import Row
from protocol import signing
from protocol.errors import BudgetError, IntegrityError
from tests.privacy.ledgers import CAPS, KEY, NOW, charge, job, tamper

ROWS = 9


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with a row of each everyday kind."""
    path = tmp_path_factory.mktemp("audit") / "ledger.sqlite"
    with Ledger.open(path, KEY, clock=lambda: NOW) as ledger:
        ledger.split_key("cardiology")
        ledger.reserve([charge(1, 12), charge(1, 2, partition="test")], CAPS, NOW)
        ledger.record_release(job=job(1), epoch=1, attempt=1, purpose="update", digest="0" * 64)
        ledger.settle(job(1), NOW)
        ledger.reserve([charge(2, 20, q=0.1)], CAPS, NOW)
        ledger.void(job(2), NOW)
        with pytest.raises(BudgetError):
            ledger.reserve([charge(3, 2000)], CAPS, NOW)
        ledger.mark_finished(job(1))
    return path


@pytest.fixture(scope="module")
def rows(path: Path) -> list[Row]:
    chain = Chain.open(path, None, lambda: NOW, 1.0)
    with closing(chain.store):
        return chain.store.rows(1)


@pytest.fixture(scope="module")
def keys(path: Path) -> dict[str, bytes]:
    chain = Chain.open(path, None, lambda: NOW, 1.0)
    with closing(chain.store):
        return chain.store.split_keys()


def test_a_report_recomputes_every_balance(rows: list[Row], keys: dict[str, bytes]) -> None:
    report = ledger_audit.audit(rows, keys)
    assert (report.rows, report.head, report.signer) == (ROWS, rows[-1].hash, KEY.fingerprint)
    test, train = report.balances
    assert (train.population, train.partition, train.caps) == ("cardiology", "train", CAPS)
    assert (train.epsilon, train.epsilon_worst) == displayed_epsilons([charge(1, 1)], CAPS.delta)
    assert train.admission == admission_epsilons([charge(1, 1)], CAPS)
    assert train.jobs == {"settled": 1, "void": 1, "refused": 1}
    assert (test.partition, test.epsilon, test.jobs) == ("test", 0.0, {"settled": 1})


@given(st.data())
def test_one_changed_byte_anywhere_is_found(
    rows: list[Row], keys: dict[str, bytes], data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, ROWS - 1), "row")
    field = data.draw(st.sampled_from(["body", "signature"]))
    parts = {"body": bytearray(rows[number].body), "signature": bytearray(rows[number].signature)}
    byte = data.draw(st.integers(0, len(parts[field]) - 1), "byte")
    parts[field][byte] ^= data.draw(st.integers(1, 255), "change")
    changed = [*rows]
    changed[number] = Row(number + 1, bytes(parts["body"]), bytes(parts["signature"]))
    with pytest.raises(IntegrityError):
        ledger_audit.audit(changed, keys)


@pytest.mark.parametrize("number", range(ROWS - 1))
def test_a_row_that_is_taken_out_or_moved_is_found(
    rows: list[Row], keys: dict[str, bytes], number: int
) -> None:
    with pytest.raises(IntegrityError):
        ledger_audit.audit(rows[:number] + rows[number + 1 :], keys)
    swapped = [*rows]
    swapped[number : number + 2] = reversed(swapped[number : number + 2])
    with pytest.raises(IntegrityError):
        ledger_audit.audit(swapped, keys)


def test_a_whole_chain_signed_by_somebody_else_shows_its_signer(tmp_path: Path) -> None:
    other = signing.SigningKey.generate()
    with Ledger.open(tmp_path / "forged.sqlite", other) as ledger:
        assert ledger.verify().signer == other.fingerprint != KEY.fingerprint


def test_a_grant_beyond_the_caps_is_found_though_the_node_signed_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    chain = Chain.open(path, KEY, lambda: NOW, 1.0)
    with closing(chain.store):
        for number, steps in ((1, 464), (2, 1)):
            with chain.writing():
                chain.append("reserve", to_request([charge(number, steps)], CAPS), NOW)
    with (
        Ledger.open(path, KEY) as ledger,
        pytest.raises(IntegrityError, match=r"row 3 .* more than its caps"),
    ):
        ledger.verify()


@pytest.mark.parametrize(
    "change", ["UPDATE split_keys SET key = randomblob(32)", "DELETE FROM split_keys"]
)
def test_a_changed_split_key_is_found(tmp_path: Path, change: str) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path, KEY) as ledger:
        ledger.split_key("cardiology")
    tamper(path, change)
    with Ledger.open(path, KEY) as ledger:
        for use in (ledger.verify, lambda: ledger.split_key("cardiology")):
            with pytest.raises(IntegrityError, match="split key of population 'cardiology'"):
                use()


def test_an_export_can_be_verified_without_this_program(rows: list[Row]) -> None:
    document = json.loads(ledger_audit.to_json(rows))
    previous = "0" * 64
    for number, row in enumerate(document["rows"], start=1):
        body = json.loads(row["body"])
        assert (body["number"], body["previous"]) == (number, previous)
        previous = hashlib.sha256(row["body"].encode()).hexdigest()
        assert row["hash"] == previous
        signature = bytes.fromhex(row["signature"])
        signing.verify(KEY.public, CONTEXT, bytes.fromhex(previous), signature)
