"""Arms beside each other on the same patients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from protocol.errors import InputError
from simulations.differences import against_pooled, difference
from simulations.results import Result, Row


def test_a_difference_is_that_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    easy_S = rng.normal(size=12)
    one_S, other_S = easy_S + rng.normal(size=12) / 10, easy_S
    found = difference(
        Row(arm="clear", scores=tuple(one_S.tolist())),
        Row(arm="pooled", scores=tuple(other_S.tolist())),
        seeds=12,
    )
    theirs = stats.ttest_rel(one_S, other_S)
    assert found.error is not None
    assert found.mean / found.error == pytest.approx(theirs.statistic)
    assert found.error < 0.3 * stats.sem(one_S)


def test_one_seed_has_no_standard_error() -> None:
    gap = difference(Row(arm="clear", scores=(0.7,)), Row(arm="pooled", scores=(0.8,)), seeds=1)
    assert (str(gap), gap.error) == ("-0.100", None)


def test_scores_that_belong_to_no_seed_are_refused() -> None:
    with pytest.raises(InputError, match="2 seeds"):
        difference(Row(arm="clear", scores=(0.7,) * 3), Row(arm="pooled", scores=(0.8,) * 2), 2)


def test_arms_come_in_reading_order_with_their_epsilon() -> None:
    rows = (
        Row(arm="distributed", scores=(0.8,), epsilon=3.0),
        Row(arm="pooled", scores=(0.9,)),
        Row(arm="local_only", scores=(0.6, 0.8)),
    )
    line = against_pooled(Result(name="x", rows=rows, delta=1e-5, seeds=(0,)))
    assert line.endswith("each hospital alone -0.200; private, noise on the sum, ε = 3 -0.100")


@pytest.mark.parametrize("arms", [("pooled",), ("clear", "local_only")])
def test_there_is_no_line_without_something_to_compare(arms: tuple[str, ...]) -> None:
    rows = tuple(Row(arm=arm, scores=(0.8,)) for arm in arms)
    assert against_pooled(Result(name="x", rows=rows, delta=1e-5, seeds=(0,))) == ""
