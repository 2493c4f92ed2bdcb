from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from privacy.ledger import Ledger
from privacy.ledger_chain import Chain
from protocol.errors import InputError, IntegrityError
from protocol.signing import SigningKey
from tests.privacy.ledgers import CAPS, KEY, NOW, charge, copy_of, tamper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def chain(path: Path) -> Iterator[Chain]:
    chain = Chain.open(path, KEY, lambda: NOW, 0.0)
    with closing(chain.store):
        yield chain


def test_a_ledger_belongs_to_one_node(path: Path, chain: Chain) -> None:
    other = SigningKey.generate()
    with pytest.raises(InputError, match="another key") as error:
        Chain.open(path, other, lambda: NOW, 0.0)
    assert KEY.fingerprint in str(error.value)
    assert other.fingerprint in str(error.value)
    assert chain.current().number == 1


def test_a_chain_without_a_key_appends_nothing(path: Path, chain: Chain) -> None:
    reader = Chain.open(path, None, lambda: NOW, 0.0)
    with closing(reader.store):
        with pytest.raises(InputError, match="reading only"):
            reader.append("finish", {"job": ""})
        with pytest.raises(InputError, match="reading only"), reader.writing():
            pass
    assert chain.current().number == 1


def test_a_failed_change_leaves_no_row(chain: Chain) -> None:
    def fail() -> None:
        with chain.writing():
            chain.append("block", {"missing": "0" * 64})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert chain.current().number == 1
    with chain.writing():
        assert chain.append("block", {"missing": "0" * 64}) == 2
    assert chain.current().blocked == (2, "0" * 64)


def _drop_last(path: Path) -> None:
    tamper(path, "DELETE FROM rows WHERE number = 3")


def _drop_all(path: Path) -> None:
    tamper(path, "DELETE FROM rows")


def _change_last(path: Path) -> None:
    tamper(path, "UPDATE rows SET body = (SELECT body FROM rows WHERE number = 2) WHERE number = 3")


def _forge_next(path: Path) -> None:
    tamper(path, "INSERT INTO rows SELECT 4, body, signature FROM rows WHERE number = 3")


@pytest.mark.parametrize("change", [_drop_last, _drop_all, _change_last, _forge_next])
def test_a_running_node_notices_that_rows_changed_and_stays_stopped(
    path: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    with Ledger.open(path, KEY) as ledger:
        ledger.reserve([charge(1)], CAPS, NOW)
        ledger.reserve([charge(2)], CAPS, NOW)
        good = copy_of(path, tmp_path / "good")
        change(path)
        with pytest.raises(IntegrityError) as first:
            ledger.reserve([charge(3)], CAPS, NOW)
        with pytest.raises(IntegrityError) as second:
            assert ledger.head
        assert first.value is second.value
    with Ledger.open(good, KEY) as ledger:
        assert ledger.verify().rows == 3


def test_rows_without_a_signature_are_found_when_the_file_is_opened(path: Path) -> None:
    with Ledger.open(path, KEY) as ledger:
        ledger.reserve([charge(1)], CAPS, NOW)
    tamper(path, "UPDATE rows SET signature = zeroblob(64) WHERE number = 2")
    with pytest.raises(IntegrityError, match=r"row 2 .*signature"):
        Ledger.open(path, KEY)
