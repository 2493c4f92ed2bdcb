from __future__ import annotations

import numpy as np
import pytest

from learning.preprocess import features
from learning.schema import Schema
from protocol.config import parse
from simulations.attack_records import (
    CENTRE,
    PIXELS,
    SIDE,
    SPREAD,
    deal,
    invent,
    plausible,
    schema,
    to_picture,
)
from tests.simulations.attacked import generator


def test_a_seed_makes_one_set_of_records() -> None:
    one, same, other = (invent(8, generator(seed)).x_NF for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


def test_records_are_what_the_schema_makes_of_their_pixels() -> None:
    """The scale is the schema's own, so a job of these records is one of any table."""
    parsed = parse(Schema, schema(), "schema")
    records = invent(16, generator())
    grey_NF = CENTRE + SPREAD * records.x_NF
    table = {column.name: grey_NF[:, place].tolist() for place, column in enumerate(parsed.columns)}
    x_NF, report = features(parsed, table)
    assert np.allclose(x_NF, records.x_NF)
    assert not report.findings
    assert grey_NF.min() >= 0
    assert grey_NF.max() <= 1


def test_both_classes_occur_and_pictures_differ() -> None:
    records = invent(200, generator())
    assert 60 < records.y_N.sum() < 140
    apart = np.linalg.norm(records.x_NF[:, None] - records.x_NF, axis=2) + 99 * np.eye(200)
    assert apart.min() > 2


def test_dealing_is_fair_and_in_order() -> None:
    records = invent(10, generator())
    dealt = deal(records, ("a", "b", "c"))
    assert [len(share) for share in dealt.values()] == [3, 3, 3]
    assert np.array_equal(dealt["b"].x_NF, records.x_NF[3:6])


def test_a_picture_shows_the_pixels_of_a_record() -> None:
    record_F = invent(1, generator()).x_NF[0]
    picture = to_picture(record_F)
    assert picture.shape == (SIDE, SIDE)
    assert picture[2, 3] == pytest.approx(CENTRE + SPREAD * record_F[2 * SIDE + 3])


def test_candidates_come_within_the_bounds() -> None:
    wild_MF = np.array([[np.nan] * PIXELS, [np.inf] * PIXELS, [-9.0] * PIXELS])
    assert plausible(wild_MF)[:, 0].tolist() == [0.0, 2.0, -2.0]
