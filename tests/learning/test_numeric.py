"""All numbers of a table at once have the bits that each has alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from learning.numeric import MatrixTable
from learning.preprocess import features
from learning.schema import Column, Label, Schema
from learning.task import Table

COLUMNS = (
    Column(name="age", kind="number", low=0, high=120, may_be_missing=True),
    Column(name="sex", kind="category", categories=("f", "m")),
    Column(name="crp", kind="number", low=0.1, high=500, spread=33, neutral=2),
    Column(name="ph", kind="number", low=6.5, high=8, may_be_missing=True, centre=7.4),
)
LABEL = Label(name="ill", classes=("no", "yes"))
WHOLE = Schema(columns=COLUMNS, label=LABEL)
NUMBERS = Schema(columns=tuple(one for one in COLUMNS if one.kind == "number"), label=LABEL)
VALUE = st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e31, 0.0, 7.1, 60.0, 499.9, 501.0])


@given(st.lists(st.tuples(VALUE, VALUE, VALUE), max_size=5))
def test_arrays_lists_matrices_and_single_columns_agree(rows: list[tuple[float, ...]]) -> None:
    value_NK = np.array(rows, dtype=np.float64).reshape(-1, 3)
    names = NUMBERS.names
    as_lists = {name: value_NK[:, place].tolist() for place, name in enumerate(names)}
    as_arrays = {name: value_NK[:, place] for place, name in enumerate(names)}
    as_matrix = MatrixTable(names, np.ascontiguousarray(value_NK.T))
    given_KN = as_matrix.value_KN.copy()
    found = [features(NUMBERS, table) for table in (as_lists, as_arrays, as_matrix)]
    assert len({x_NF.tobytes() for x_NF, _ in found}) == 1
    assert found[0][1] == found[1][1] == found[2][1]
    np.testing.assert_array_equal(as_matrix.value_KN, given_KN)
    alone = [
        features(Schema(columns=(column,), label=LABEL), as_lists)[0] for column in NUMBERS.columns
    ]
    assert np.hstack(alone).tobytes() == found[0][0].tobytes()


def test_features_stand_where_the_schema_says() -> None:
    assert WHOLE.starts == (0, 2, 4, 5)
    assert WHOLE.numbers.place_K.tolist() == [0, 2, 3]
    assert WHOLE.numbers.indicated == ((0, 1), (2, 6))
    table: Table = {"age": [None, 90], "sex": ["m", "x"], "crp": ["", 35], "ph": [7.4, "?"]}
    x_NF, report = features(WHOLE, table)
    low, nearly = (2 - 250.05) / 33, (35 - 250.05) / 33
    np.testing.assert_allclose(x_NF[0], [0, 1, 0, 1, low, 0, 0])
    np.testing.assert_allclose(x_NF[1], [1, 0, 0, 0, nearly, 0, 1])
    problems = [(one.column, one.problem) for one in report.findings]
    assert problems == [
        ("age", "missing"), ("sex", "unknown category"), ("crp", "missing"), ("ph", "missing"),
    ]  # fmt: skip


def test_bounds_as_wide_as_codes_for_unknown_let_none_of_them_in() -> None:
    wide = Schema(columns=(Column(name="x", kind="number", low=-2e30, high=2e30),), label=LABEL)
    value_N = np.array([1.0, 1.5e30, -1e30])
    as_list, as_matrix = {"x": value_N.tolist()}, MatrixTable(("x",), value_N[None])
    found = [features(wide, table) for table in (as_list, as_matrix)]
    assert found[0][0].tobytes() == found[1][0].tobytes()
    assert found[0][1] == found[1][1]
    assert [one.count for one in found[0][1].findings] == [2]
    assert list(as_matrix) == ["x"]
    assert len(as_matrix) == 1
    assert "y" not in as_matrix
