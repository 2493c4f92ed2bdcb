"""Who signed a stored model: its node, another one, or nobody."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from learning.artefact import SUMS, load, save, verify
from learning.signature import SIGNATURE
from protocol.errors import InputError, IntegrityError
from protocol.signing import SigningKey
from tests.learning.test_artefact import WEIGHTS_P, finished

KEY = SigningKey.from_seed(bytes(range(32)))
OTHER = SigningKey.from_seed(bytes(32))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return save(tmp_path, finished(WEIGHTS_P), WEIGHTS_P, KEY)


def test_a_signed_model_loads_for_its_signer(place: Path) -> None:
    assert load(place, {KEY.fingerprint}).card == finished(WEIGHTS_P)
    assert verify(place).label == "sepsis/1"


def test_another_signer_is_refused_by_name(place: Path) -> None:
    with pytest.raises(IntegrityError, match=f"sepsis/1 is signed by another.*{KEY.fingerprint}"):
        load(place, {OTHER.fingerprint})


def test_an_unsigned_model_is_refused_where_a_signer_is_asked_for(tmp_path: Path) -> None:
    place = save(tmp_path, finished(WEIGHTS_P), WEIGHTS_P)
    assert not (place / SIGNATURE).exists()
    with pytest.raises(InputError, match="sepsis/1 is not signed"):
        verify(place, {KEY.fingerprint})


def test_every_flipped_bit_of_the_signature_is_refused(place: Path) -> None:
    data = (place / SIGNATURE).read_bytes()
    for position in range(0, len(data), 5):
        (place / SIGNATURE).write_bytes(
            data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        )
        with pytest.raises(IntegrityError, match="sepsis/1"):
            verify(place, {KEY.fingerprint})


def test_the_signature_of_another_version_does_not_hold(place: Path, tmp_path: Path) -> None:
    second = save(tmp_path, finished(WEIGHTS_P + 1, version=2), WEIGHTS_P + 1, KEY)
    shutil.copy(place / SIGNATURE, second / SIGNATURE)
    with pytest.raises(IntegrityError, match=r"sepsis/2: signature\.json belongs to another model"):
        verify(second, {KEY.fingerprint})


def test_the_sums_still_read_as_sha256sum_writes_them(place: Path) -> None:
    assert len((place / SUMS).read_text().splitlines()) == 2
