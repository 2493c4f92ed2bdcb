"""What a prediction tells, by name: the part of a task's contract that clients see.

A task's `predict` gives N x C numbers whose meaning is its own matter. Here each of them, and what
follows from them, gets a name, so that nobody who asks for a prediction counts columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Answers = Mapping[str, npt.NDArray[Any]]
"""Arrays by the name of their output, N or N x its columns."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One thing that a prediction tells.

    Args:
        name: As clients ask for it.
        kind: `number` (float64, NaN where there is none), `text` or `flag`.
        columns: What its columns are, such as classes or times; empty for one value a row.
        meaning: One line for people.
    """

    name: str
    kind: Literal["number", "text", "flag"] = "number"
    columns: tuple[str, ...] = ()
    meaning: str


def texts(values: tuple[str, ...], place_N: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The text at each place, (N,), as objects.

    >>> texts(("no", "yes"), np.array([1, 0])).tolist()
    ['yes', 'no']
    """
    chosen_N: npt.NDArray[Any] = np.array(values, dtype=object)[place_N]
    return chosen_N
