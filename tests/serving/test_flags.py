"""Flags of single values add up to what preprocessing counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.preprocess import features
from learning.schema import Schema
from protocol.config import parse
from serving.flags import Flag, flags_of
from tests.serving.ward import SCHEMA

PROBLEMS = {
    "missing": Flag.MISSING,
    "unreadable": Flag.UNREADABLE,
    "unknown category": Flag.UNREADABLE,
    "outside bounds": Flag.OUTSIDE,
}
NUMBER = st.sampled_from([float("nan"), float("inf"), 1e35, -1.0, 0.0, 60.0, 120.0, 121.0])
ROW = st.tuples(
    NUMBER,
    st.sampled_from(["a", "b", 3, 3.0, "", "x", None]),
    st.sampled_from([True, False, "Yes", "no", 1, 7, None, float("nan")]),
)


@given(st.lists(ROW, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_flags_of_scalars_agree_with_the_counts(rows: list[tuple[Any, ...]]) -> None:
    columns = SCHEMA["columns"][:3]
    schema = parse(Schema, {**SCHEMA, "columns": columns}, "schema")
    table = dict(zip(("age", "ward", "smoker"), map(list, zip(*rows, strict=True)), strict=True))
    counted: Counter[tuple[str, int]] = Counter()
    for found in features(schema, table)[1].findings:
        counted[(found.column, PROBLEMS[found.problem])] += found.count
    flags = flags_of(schema, table)
    assert flags.dtype == np.uint8
    seen = Counter(
        (column["name"], int(flag))
        for place, column in enumerate(columns)
        for flag in flags[:, place]
        if flag
    )
    assert seen == counted


def test_an_array_has_the_first_flag_that_is_true_of_a_number() -> None:
    schema = parse(Schema, {**SCHEMA, "columns": SCHEMA["columns"][3:]}, "schema")
    rows = np.full((6, 5, 2), 80.0)
    rows[:, 4] = np.nan
    rows[1] = np.nan
    rows[2, 0, 0] = np.inf
    rows[3, 0, 0] = 500.0
    rows[4, 2:] = np.nan
    rows[5, 4] = 80.0
    expected = [Flag.GIVEN, Flag.MISSING, Flag.UNREADABLE, Flag.OUTSIDE, Flag.LENGTH, Flag.LENGTH]
    assert flags_of(schema, {"pulse": rows})[:, 0].tolist() == expected
    problems = {one.problem: one.count for one in features(schema, {"pulse": rows})[1].findings}
    assert problems == {"missing": 1, "unreadable": 1, "outside bounds": 1, "other length": 2}


def test_a_text_is_missing_without_words_or_too_long() -> None:
    note = {"name": "note", "kind": "text", "length": 2}
    schema = parse(Schema, {**SCHEMA, "columns": [note]}, "schema")
    table = {"note": ["no fever", None, "...", "one word too many"]}
    expected = [Flag.GIVEN, Flag.MISSING, Flag.UNREADABLE, Flag.LENGTH]
    assert flags_of(schema, table)[:, 0].tolist() == expected
    assert sum(one.count for one in features(schema, table)[1].findings) == 3
