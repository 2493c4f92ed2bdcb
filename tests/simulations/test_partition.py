"""Dealing out records: nobody is lost or doubled, skews are what they say, and chance is seeded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.config import parse
from protocol.errors import InputError
from simulations.partition import IntVector, Partition, deal

SKEWS = st.one_of(
    st.builds(Partition, kind=st.just("iid"), min_size=st.integers(1, 4)),
    st.builds(
        Partition,
        kind=st.just("dirichlet"),
        alpha=st.floats(1e-3, 100.0),
        min_size=st.integers(1, 4),
    ),
    st.builds(
        Partition, kind=st.just("quantity"), alpha=st.floats(0.0, 3.0), min_size=st.integers(1, 4)
    ),
)
LABELS = ["ill"] * 400 + ["well"] * 600


def _deal(labels: list[str], hospitals: int = 5, seed: int = 0, **spec: Any) -> list[IntVector]:
    rng = np.random.default_rng(seed)
    return list(deal(Partition(**spec), labels, hospitals, rng, {}))


def _shares(parts: list[IntVector], labels: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Share of the first label at each hospital."""
    ill_N = np.array(labels) == labels[0]
    return np.array([ill_N[part].mean() for part in parts])


@given(
    SKEWS,
    st.lists(st.sampled_from("abc"), min_size=1, max_size=120),
    st.integers(1, 7),
    st.integers(0, 2**32),
)
def test_every_record_goes_to_one_hospital_and_none_gets_too_few(
    partition: Partition, labels: list[str], hospitals: int, seed: int
) -> None:
    assume(len(labels) >= hospitals * partition.min_size)
    first = deal(partition, labels, hospitals, np.random.default_rng(seed), {})
    again = deal(partition, labels, hospitals, np.random.default_rng(seed), {})
    assert len(first) == hospitals
    assert sorted(np.concatenate(first).tolist()) == list(range(len(labels)))
    for part, same in zip(first, again, strict=True):
        assert len(part) >= partition.min_size
        assert (np.diff(part) > 0).all()
        assert part.dtype == np.int64
        np.testing.assert_array_equal(part, same)


@given(
    SKEWS,
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), min_size=1, max_size=120),
    st.integers(1, 4),
)
def test_a_patients_records_stay_together(
    partition: Partition, rows: list[tuple[int, str]], hospitals: int
) -> None:
    patients = [f"P{patient}" for patient, _ in rows]
    labels = [label for _, label in rows]
    assume(len(set(patients)) >= hospitals * partition.min_size)
    parts = deal(partition, labels, hospitals, np.random.default_rng(1), {}, patients=patients)
    groups = [{patients[row] for row in part.tolist()} for part in parts]
    assert sum(len(group) for group in groups) == len(set(patients))
    assert min(len(group) for group in groups) >= partition.min_size
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(rows)))


@pytest.mark.parametrize("spec", [{"kind": "iid"}, {"kind": "dirichlet", "alpha": 1.0}])
def test_sizes_differ_by_one_at_most(spec: dict[str, Any]) -> None:
    sizes = [len(part) for part in _deal(LABELS[1:], hospitals=7, **spec)]
    assert max(sizes) - min(sizes) == 1


def test_seeds_matter() -> None:
    one, other = (_deal(LABELS, seed=seed, kind="iid") for seed in (1, 2))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_even_deal_has_the_hypergeometric_spread() -> None:
    shares = np.concatenate([_shares(_deal(LABELS, seed=s, kind="iid"), LABELS) for s in range(60)])
    # 200 of 1000 without replacement: variance p (1 - p) / n times (N - n) / (N - 1).
    expected = np.sqrt(0.4 * 0.6 / 200 * 800 / 999)
    assert shares.mean() == pytest.approx(0.4, abs=1e-12)
    assert shares.std() == pytest.approx(expected, rel=0.2)


def test_label_skew_falls_with_the_concentration() -> None:
    spreads = [
        np.mean(
            [
                _shares(_deal(LABELS, seed=s, kind="dirichlet", alpha=alpha), LABELS).std()
                for s in range(20)
            ]
        )
        for alpha in (0.05, 1.0, 20.0, 1e5)
    ]
    assert spreads[0] > 0.3
    assert spreads[0] > spreads[1] > spreads[2] > spreads[3]
    assert spreads[3] < 0.05


def test_label_skew_has_the_moments_of_the_dirichlet_law() -> None:
    alpha, labels = 8.0, ["a"] * 300 + ["b"] * 700
    first = [
        _shares(_deal(labels, hospitals=2, seed=s, kind="dirichlet", alpha=alpha), labels)[0]
        for s in range(300)
    ]
    # A single mix has the variance p (1 - p) / (alpha + 1). Two hospitals share one stock, so what
    # one takes the other lacks, and between a quarter and all of that variance is left.
    variance = 0.3 * 0.7 / (alpha + 1)
    assert np.mean(first) == pytest.approx(0.3, abs=0.03)
    assert variance / 4 < np.var(first) < variance


def test_sizes_follow_the_power_law() -> None:
    sizes = [len(part) for part in _deal(["x"] * 6000, 4, kind="quantity", alpha=1.0)]
    law = 1 / np.arange(1, 5)
    assert np.abs(np.array(sizes) - 6000 * law / law.sum()).max() <= 1
    assert sum(sizes) == 6000


def test_a_steep_power_law_keeps_the_smallest_hospitals_alive() -> None:
    sizes = [len(part) for part in _deal(LABELS, kind="quantity", alpha=10.0, min_size=30)]
    assert sizes[1:] == [30] * 4


def test_size_skew_does_not_skew_labels() -> None:
    shares = [_shares(_deal(LABELS, 2, s, kind="quantity", alpha=1.0), LABELS) for s in range(40)]
    assert np.mean(shares, axis=0) == pytest.approx([0.4, 0.4], abs=0.02)


def test_a_column_says_where_records_came_from() -> None:
    table = {"site": ["b", "a", "b", "c", "a"]}
    parts = deal(
        Partition(kind="natural", column="site", min_size=1),
        labels=["x"] * 5,
        hospitals=3,
        rng=np.random.default_rng(0),
        table=table,
    )
    assert [part.tolist() for part in parts] == [[0, 2], [1, 4], [3]]


@pytest.mark.parametrize(
    ("column", "hospitals", "message"),
    [
        ("ward", 2, "no column 'ward' to partition by; expected one of site"),
        ("site", 2, "write 'hospitals: 3'"),
        ("site", 3, "at least 2 patients at each"),
    ],
)
def test_a_column_that_does_not_fit_is_refused(column: str, hospitals: int, message: str) -> None:
    partition = Partition(kind="natural", column=column, min_size=1 if hospitals == 2 else 2)
    table = {"site": ["b", "a", "b", "c", "a", "a"]}
    with pytest.raises(InputError) as error:
        deal(partition, ["x"] * 6, hospitals, np.random.default_rng(0), table)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("hospitals", "message"), [(0, "hospitals"), (6, "lower 'min_size' or 'hospitals'")]
)
def test_impossible_numbers_of_hospitals_are_refused(hospitals: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _deal(["x"] * 59, hospitals, kind="iid", min_size=10)


def test_patients_and_labels_must_be_of_the_same_rows() -> None:
    with pytest.raises(InputError, match="differ in number"):
        deal(
            Partition(kind="iid", min_size=1),
            ["x"] * 3,
            1,
            np.random.default_rng(0),
            {},
            patients=["p"] * 2,
        )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"kind": "dirichlet"}, "alpha of a partition of kind 'dirichlet'"),
        ({"kind": "quantity"}, "alpha of a partition of kind 'quantity'"),
        ({"kind": "iid", "alpha": 1}, "alpha of a partition of kind 'iid'"),
        ({"kind": "natural"}, "column of a partition of kind 'natural'"),
        ({"kind": "iid", "column": "site"}, "column of a partition of kind 'iid'"),
        ({"kind": "dirichlet", "alpha": 0}, "expected 0.001 to 1e+06; found 0"),
        ({"kind": "quantity", "alpha": -1}, "expected 0 to 10; found -1"),
        ({"kind": "iid", "min_size": 0}, "min_size"),
        ({"kind": "idd"}, "did you mean 'iid'"),
    ],
)
def test_a_document_that_makes_no_sense_is_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        parse(Partition, document, "partition")
    assert message in str(error.value)
    assert str(error.value).startswith("partition")


def test_a_document_becomes_a_partition() -> None:
    document = {"kind": "dirichlet", "alpha": "1e-1", "min_size": 3}
    assert parse(Partition, document, "") == Partition(kind="dirichlet", alpha=0.1, min_size=3)
