"""What comes out of batches is what a whole table gives, on both sides of the split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.gathering import Gathering, gather_sides
from client.data.source import BATCH_ROWS, DroppedError, chosen
from client.data.split import is_held_out
from client.data.units import conversions
from learning.schema import Schema
from learning.task import Records, Report, Table, Task, load_task
from protocol.config import parse
from protocol.jobs import Named

KEY = b"k" * 32
SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": "temperature", "kind": "number", "unit": "degC", "low": 30, "high": 45},
        {"name": "sex", "kind": "category", "categories": ["f", "m"]},
    ],
    "label": {"name": "ill", "classes": ["no", "yes"]},
}
BY_PATIENT = {**SCHEMA, "patient": "patient"}


def task_of(schema: dict[str, Any]) -> Task:
    return load_task(Named(name="diagnosis", options={}), schema)


class Lists:
    """A source in memory that is lost after some batches, as often as it is told."""

    def __init__(self, table: dict[str, list[Any]], losses: Sequence[int] = ()) -> None:
        self.table = table
        self.losses = list(losses)

    def columns(self) -> tuple[str, ...]:
        return tuple(self.table)

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        last = self.losses.pop(0) if self.losses else None
        total = len(next(iter(self.table.values())))
        for place, start in enumerate(range(0, total, rows)):
            if place == last:
                raise DroppedError("the cable")
            yield {name: self.table[name][start : start + rows] for name in columns}


def whole(task: Task, table: Table, held_N: np.ndarray[Any, Any]) -> list[tuple[Records, Report]]:
    sides = (np.flatnonzero(~held_N).tolist(), np.flatnonzero(held_N).tolist())
    return [task.records(chosen(table, side)) for side in sides]


def assert_same(found: Records, expected: Records) -> None:
    assert np.array_equal(found.x_NF, expected.x_NF)
    assert np.array_equal(found.y_N, expected.y_N)
    assert np.array_equal(found.patient_N, expected.patient_N)


rows = st.lists(
    st.tuples(
        st.sampled_from(["36", "37.5", "99", "", "hot", None]),
        st.sampled_from(["f", "m", "x", ""]),
        st.sampled_from(["no", "yes", "", "perhaps"]),
        st.sampled_from(["a", "b", " a", "7", "07", "", None]),
    ),
    max_size=12,
)


@settings(max_examples=80)
@given(rows=rows, size=st.integers(1, 5), patients=st.booleans())
def test_batches_of_any_size_give_the_same_records_and_report(
    rows: list[tuple[Any, ...]], size: int, patients: bool
) -> None:
    names = ("temperature", "sex", "ill", "patient")
    table = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    task = task_of(BY_PATIENT if patients else SCHEMA)
    identity = ("patient",) if patients else names

    def held(keys: Sequence[Any]) -> Any:
        return is_held_out(keys, KEY, 0.5)

    found = gather_sides(Lists(table), task, identity=identity, held_out=held, units={}, rows=size)
    held_N = held(list(zip(*(table[name] for name in identity), strict=True)))
    for (records, report), (other, whole_report) in zip(
        found, whole(task, table, held_N), strict=True
    ):
        assert_same(records, other)
        assert (report.rows, report.kept) == (whole_report.rows, whole_report.kept)
        assert set(report.findings) == set(whole_report.findings)
        order = [found.column for found in whole_report.findings]
        assert [found.column for found in report.findings] == order


def test_a_unit_moves_nobody_from_one_side_to_the_other() -> None:
    table: dict[str, list[Any]] = {
        "temperature": [str(95 + 0.1 * row) for row in range(60)],
        "sex": ["f", "m"] * 30,
        "ill": ["no", "yes"] * 30,
    }
    task = task_of(SCHEMA)
    seen: list[list[Any]] = []

    def held(keys: Sequence[Any]) -> Any:
        seen.append(list(keys))
        return is_held_out(keys, KEY, 0.5)

    units = conversions({"temperature": "degF"}, parse(Schema, SCHEMA, "schema"))
    names = tuple(table)
    plain, converted = (
        gather_sides(Lists(table), task, identity=names, held_out=held, units=how)
        for how in ({}, units)
    )
    assert seen[0] == seen[1]
    assert [len(side[0]) for side in plain] == [len(side[0]) for side in converted]
    first = converted[0][0].x_NF[:, 0] * 3.75 + 37.5
    assert 34.9 < first.min() < first.max() < 38.4
    assert (plain[0][0].x_NF[:, 0] == 2.0).all()


@pytest.mark.parametrize(("losses", "tries"), [([1], 2), ([0, 2], 3)])
def test_a_lost_source_is_read_again_and_no_record_counts_twice(
    losses: list[int], tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.data.source.PAUSE_S", 0.0)
    table: dict[str, list[Any]] = {
        "temperature": ["37"] * 9, "sex": ["f"] * 9, "ill": ["no"] * 9,
    }  # fmt: skip
    source = Lists(table, losses)
    (records, report), _ = gather_sides(
        source,
        task_of(SCHEMA),
        identity=("sex",),
        held_out=lambda keys: np.zeros(len(keys), dtype=np.bool_),
        units={},
        rows=3,
    )
    assert (len(records), report.rows) == (9, 9)
    assert len(losses) == tries - 1
    assert source.losses == []


def test_a_source_that_is_always_lost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.data.source.PAUSE_S", 0.0)
    with pytest.raises(DroppedError, match="the cable"):
        gather_sides(
            Lists({"temperature": [1], "sex": ["f"], "ill": ["no"]}, [0, 0, 0]),
            task_of(SCHEMA),
            identity=("sex",),
            held_out=lambda keys: np.zeros(len(keys), dtype=np.bool_),
            units={},
        )


def test_images_are_identified_by_what_they_show() -> None:
    schema = {**SCHEMA, "columns": [*SCHEMA["columns"], IMAGE]}
    image_NHW = np.repeat(np.arange(4.0), 2)[:, None, None] * np.ones((8, 2, 2))

    class Images(Lists):
        def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
            assert rows >= 8
            texts = {"temperature": ["37"] * 8, "sex": ["f"] * 8, "ill": ["no"] * 8}
            everything: dict[str, Any] = {**texts, "x": image_NHW}
            yield {name: everything[name] for name in columns}

    seen: list[Sequence[Any]] = []

    def held(keys: Sequence[Any]) -> Any:
        seen.append(keys)
        return is_held_out(keys, KEY, 0.5)

    gather_sides(Images({}), task_of(schema), identity=("x",), held_out=held, units={})
    assert len(set(seen[0])) == 4
    assert all(seen[0][row] == seen[0][row + 1] for row in range(0, 8, 2))


IMAGE = {"name": "x", "kind": "array", "shape": [2, 2], "low": 0, "high": 10}


def test_nothing_gathered_is_an_empty_set_of_records() -> None:
    records, report = Gathering(task=task_of(BY_PATIENT)).done()
    assert (len(records), report.rows, records.x_NF.shape[1]) == (0, 0, 3)
