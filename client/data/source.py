"""What a source of records is: columns by name, and batches of rows that fit into memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import numpy as np

from learning.task import Cells, Table
from protocol.errors import BusyError, InputError

T = TypeVar("T")

# At 30 columns of text some 200 MB, and long enough that the cost of a batch does not show.
BATCH_ROWS = 65_536
TRIES = 3
PAUSE_S = 2.0
_LOG = logging.getLogger(__name__)


class Source(Protocol):
    """Records of one data set, by column.

    Guarantee: two readings of a source that nobody changed give the same records in the same
    order, whatever the size of the batches.
    """

    def columns(self) -> tuple[str, ...]:
        """Names of all columns, without reading a record.

        Raises:
            InputError: The source cannot be read or does not say clearly what its columns are.
            DroppedError: It went away.
        """

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """The named columns of all records, at most `rows` of them at a time.

        In a sequence None says that a record has no value, in an array NaN does. There is no batch
        without a record.

        Raises:
            InputError: A column is missing or the source is damaged. Messages name the file and
                the line, never a value.
            DroppedError: It went away; what was read so far is of no use.
        """


class DroppedError(BusyError):
    """A source went away in the midst of it; reading again from the beginning may help."""


def read(source: Source, columns: Sequence[str]) -> Table:
    """The named columns of all records at once, for sources that are known to be small."""
    return again(lambda: joined(list(source.batches(columns)), columns))


def joined(tables: Sequence[Table], columns: Sequence[str]) -> Table:
    """Batches one after the other.

    >>> joined([{"a": ["1"]}, {"a": [None]}], ["a"])
    {'a': ['1', None]}
    """
    return {name: _joined([table[name] for table in tables]) for name in columns}


def _joined(parts: Sequence[Cells]) -> Cells:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if arrays and len(arrays) == len(parts):
        return np.concatenate(arrays)
    return [value for part in parts for value in part]


def chosen(table: Table, keep: Sequence[int]) -> Table:
    """The rows at the given positions."""
    return {
        name: cells[list(keep)] if isinstance(cells, np.ndarray) else [cells[row] for row in keep]
        for name, cells in table.items()
    }


def again(action: Callable[[], T], pause: Callable[[float], object] = time.sleep) -> T:
    """What the action returns, tried anew when its source was lost.

    Args:
        action: Reads from the beginning, and forgets what an earlier try has read.
        pause: Called with seconds between two tries.

    Raises:
        DroppedError: The source was lost every time.
    """
    for number in range(1, TRIES):
        try:
            return action()
        except DroppedError as error:
            _LOG.warning("%s; reading again, try %d of %d", error.problem, number + 1, TRIES)
            pause(PAUSE_S * number)
    return action()


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Around imports of an optional package.

    Raises:
        InputError: It is not installed; the message names the extra.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{what} cannot be read here",
            expected=f"the package {error.name!r}",
            remedy=f"install it with pip install 'fedward[{extra}]'",
        ) from error


def rows_of(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table from rows of scalars; whatever is no text or number is told by its text."""
    return {name: [plain(row[place]) for row in rows] for place, name in enumerate(columns)}


def plain(value: object) -> str | float | None:
    """A value of a database or export as a table holds it."""
    if value is None or isinstance(value, str | int | float):
        return value
    isoformat = getattr(value, "isoformat", None)
    if isoformat is not None:
        return str(isoformat())
    if type(value).__name__ == "Decimal":
        return float(str(value))
    return str(value)
