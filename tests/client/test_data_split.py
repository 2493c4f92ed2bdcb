from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes, hmac
from hypothesis import given
from hypothesis import strategies as st

from client.data.split import is_held_out
from learning.preprocess import labelled
from learning.schema import Schema
from protocol.config import parse
from protocol.errors import InputError

KEY = hashlib.sha256(b"a population").digest()
keys = st.binary(min_size=16, max_size=40)
values = st.none() | st.text(max_size=6) | st.integers(-9, 9) | st.floats(allow_infinity=False)
identities = values | st.tuples(values, values)
fractions = st.floats(0, 1)


@given(records=st.lists(identities, max_size=12), key=keys, fraction=fractions, data=st.data())
def test_a_records_side_depends_on_that_record_alone(
    records: list[Any], key: bytes, fraction: float, data: Any
) -> None:
    """Leaving out, repeating and reordering others moves nobody."""
    whole = is_held_out(records, key, fraction)
    chosen = data.draw(st.lists(st.sampled_from(range(len(records))))) if records else []
    assert is_held_out([records[i] for i in chosen], key, fraction).tolist() == (
        whole[chosen].tolist()
    )


@given(
    patients=st.lists(
        st.sampled_from(["7", " 7", "7 ", "8", "007", "x", 7, 7.0, 8, None, "", math.nan]),
        max_size=20,
    ),
    key=keys,
    fraction=fractions,
)
def test_no_patient_of_the_preprocessing_lies_on_both_sides(
    patients: list[Any], key: bytes, fraction: float
) -> None:
    """Oracle: the numbers under which preprocessing groups rows into patients."""
    schema = parse(
        Schema,
        {
            "patient": "id",
            "label": {"name": "ill", "classes": ["no", "yes"]},
            "columns": [{"name": "flag", "kind": "flag"}],
        },
        "schema",
    )
    table = {"id": patients, "ill": ["no"] * len(patients), "flag": ["1"] * len(patients)}
    records, _ = labelled(schema, table)
    known = [i for i, one in enumerate(patients) if one not in (None, "") and one == one]  # noqa: PLR0124
    assert len(records) == len(known)
    held = is_held_out(patients, key, fraction)[known]
    for patient in np.unique(records.patient_N):
        assert len(set(held[records.patient_N == patient].tolist())) == 1


@given(records=st.lists(identities, max_size=12), key=keys, both=st.tuples(fractions, fractions))
def test_who_is_held_out_stays_so_at_a_larger_fraction(
    records: list[Any], key: bytes, both: tuple[float, float]
) -> None:
    small, large = (is_held_out(records, key, fraction) for fraction in sorted(both))
    assert (small <= large).all()


def test_is_the_code_of_the_identity_against_the_threshold() -> None:
    """Oracle: HMAC-SHA256 of another library over bytes written out by hand."""

    def expected(message: bytes) -> float:
        code = hmac.HMAC(KEY, hashes.SHA256())
        code.update(b"fedward/split/1\0" + message)
        return int.from_bytes(code.finalize()[:8], "big") / 2**64

    cases: dict[Any, bytes] = {
        "ab": b"\0\0\0\0\0\0\0\2ab",
        7.0: b"\0\0\0\0\0\0\0\1" + b"7",
        None: b"\xff" * 8,
        ("ü", None): b"\0\0\0\0\0\0\0\2\xc3\xbc" + b"\xff" * 8,
    }
    for identity, message in cases.items():
        place = expected(message)
        assert is_held_out([identity], KEY, place * (1 - 1e-9)).tolist() == [False]
        assert is_held_out([identity], KEY, place * (1 + 1e-9)).tolist() == [True]


def test_a_name_alone_is_the_row_of_that_name() -> None:
    names = [f"p{i}" for i in range(50)]
    alone, rows = is_held_out(names, KEY, 0.5), is_held_out([(n,) for n in names], KEY, 0.5)
    assert alone.tolist() == rows.tolist()


def test_where_a_cell_ends_matters() -> None:
    """Otherwise all of these would be one record and share a side."""
    groups = [("ab", ""), ("a", "b"), ("", "ab"), ("ab",), ("ab", None), (None, "ab")]
    sides = [is_held_out(groups, bytes([i]) * 32, 0.5).tolist() for i in range(64)]
    columns = list(zip(*sides, strict=True))
    assert len(set(columns)) == len(groups)


def test_the_fraction_is_met_and_another_key_draws_anew() -> None:
    """Four standard deviations of a binomial count; a quarter of 20,000 is 5,000 +- 61."""
    patients = [str(i) for i in range(20_000)]
    one, other = (is_held_out(patients, bytes([i]) * 32, 0.25) for i in (1, 2))
    for held in (one, other):
        assert abs(held.sum() - 5_000) < 4 * 61.3
    assert abs((one & other).sum() - 1_250) < 4 * math.sqrt(20_000 / 16 * 15 / 16)


@pytest.mark.parametrize(("fraction", "side"), [(0.0, False), (1.0, True)])
def test_nobody_and_everybody(fraction: float, side: bool) -> None:
    assert set(is_held_out(["a", "b", None], KEY, fraction).tolist()) == {side}
    assert is_held_out([], KEY, fraction).shape == (0,)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan, math.inf])
def test_a_fraction_lies_between_none_and_all(fraction: float) -> None:
    with pytest.raises(InputError, match="held-out fraction; expected from 0 to 1"):
        is_held_out(["a"], KEY, fraction)


def test_a_short_key_is_refused_without_being_shown() -> None:
    with pytest.raises(InputError, match="split key; expected at least 16 bytes") as caught:
        is_held_out(["a"], b"hunter2hunter2", 0.5)
    assert "hunter" not in str(caught.value)
