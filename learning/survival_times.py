"""Time in intervals: where they end, and how a patient's outcome is coded by them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from learning.schema import Column, Schema
from learning.task import FloatArray, FloatVector, IntVector
from protocol.errors import InputError

MOST_INTERVALS = 64


def check_intervals(intervals: int, cuts: tuple[float, ...] | None) -> None:
    """Refuse what makes no intervals.

    Raises:
        InputError: Too few or too many, or cuts that do not ascend from above 0.
    """
    if not 1 <= intervals <= MOST_INTERVALS:
        raise InputError("intervals", expected=f"1 to {MOST_INTERVALS}")
    if cuts is None:
        return
    if not 1 <= len(cuts) <= MOST_INTERVALS or cuts[0] <= 0:
        raise InputError("cuts", expected=f"1 to {MOST_INTERVALS} positive times")
    if any(later <= earlier for earlier, later in pairwise(cuts)):
        raise InputError("cuts", expected="ascending times")


def check_timed(schema: Schema) -> Column:
    """The schema's one target, the time until its label.

    Raises:
        InputError: The label has not two classes, or the target is no number from 0 on.
    """
    if len(schema.label.texts) != 2:
        raise InputError("label of survival", expected="two classes, the second is the event")
    kinds = [column.kind for column in schema.targets]
    if kinds != ["number"] or schema.targets[0].bounds[0] != 0:
        raise InputError(
            "targets of survival", expected="one number from 0 on: the time until label"
        )
    return schema.targets[0]


def ends(intervals: int, cuts: tuple[float, ...] | None, last: float) -> FloatVector:
    """End of each of T intervals, (T,): the cuts, or equal parts of the time up to `last`.

    >>> ends(4, None, 24.0).tolist(), ends(4, (3.0, 24.0), 24.0).tolist()
    ([6.0, 12.0, 18.0, 24.0], [3.0, 24.0])
    """
    if cuts is not None:
        return np.asarray(cuts, dtype=np.float64)
    return last * np.arange(1, intervals + 1) / intervals


def encode(value_N2: FloatArray, cut_T: FloatVector) -> IntVector:
    """The code 2 s + e of events and times, N x 2: survived s intervals, then e.

    Who is lost from sight in the second half of an interval has survived it. Events after the
    last interval did not happen in time.

    Source: Gensheimer, Narasimhan 2019, A Scalable Discrete-Time Survival Model for Neural
    Networks, section 2.

    >>> encode(np.array([[1.0, 1.0], [0.0, 5.0], [0.0, 7.0]]), np.array([4.0, 8.0])).tolist()
    [1, 2, 4]
    """
    died_N, time_N = value_N2[:, 0] == 1, np.maximum(value_N2[:, 1], 0.0)
    middle_T = cut_T - np.diff(cut_T, prepend=0.0) / 2
    ended_N = np.searchsorted(cut_T, time_N, side="left")
    lost_N = np.searchsorted(middle_T, time_N, side="right")
    died_N &= ended_N < len(cut_T)
    outlived_N = (value_N2[:, 0] == 1) & ~died_N
    survived_N = np.where(died_N | outlived_N, ended_N, lost_N)
    code_N: IntVector = (2 * survived_N + died_N).astype(np.int64)
    return code_N
