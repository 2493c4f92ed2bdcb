from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torch import device

from privacy.batches import as_tensor, whole_patients


@given(
    patients=st.lists(st.integers(0, 6), max_size=30),
    sampled=st.sets(st.integers(0, 6)),
    most=st.integers(1, 8),
)
def test_runs_hold_whole_sampled_patients_once_and_no_more_rows_than_fit(
    patients: list[int], sampled: set[int], most: int
) -> None:
    patient = np.array(patients, dtype=np.int64)
    mask = np.isin(patient, list(sampled))
    runs = list(whole_patients(patient, mask, most))
    seen = np.concatenate([np.empty(0, dtype=np.int64), *runs])
    assert sorted(seen.tolist()) == np.flatnonzero(mask).tolist()
    for run in runs:
        members = np.unique(patient[run])
        assert len(run) == np.isin(patient, members).sum()
        assert 0 < len(run) <= most or len(members) == 1


def test_integers_stay_integers_and_all_else_becomes_double() -> None:
    cpu = device("cpu")
    kinds = {kind: as_tensor(np.ones(2, dtype=kind), cpu).dtype for kind in "?fdhB"}
    assert [str(kinds[kind])[6:] for kind in "?fdhB"] == ["float64"] * 3 + ["int64"] * 2


def test_the_callers_array_is_not_shared() -> None:
    array = np.ones(3)
    as_tensor(array, device("cpu")).zero_()
    assert array.all()
