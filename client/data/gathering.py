"""Records from a source that is larger than memory: batch by batch, on both sides of the split.

Only features stay, eight bytes each; the cells that they were made of are gone with their batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from client.data.source import BATCH_ROWS, Source, again, chosen
from client.data.split import Identity, Value
from client.data.units import Conversion, convert
from learning.cell_values import patient_key
from learning.task import Cells, Finding, IntVector, Records, Report, Table, Task

Array = npt.NDArray[Any]
Gathered = tuple[Records, Report]
HeldOut = Callable[[Sequence[Identity]], npt.NDArray[np.bool_]]


def gather_sides(
    source: Source,
    task: Task,
    *,
    identity: Sequence[str],
    held_out: HeldOut,
    units: Mapping[str, Conversion],
    rows: int = BATCH_ROWS,
) -> tuple[Gathered, Gathered]:
    """Training and held-out records of a source, with what preprocessing met on each side.

    Guarantee: a record's side depends on the cells of its identity as the source has them, before
    any conversion, and on nothing else; so no unit in a configuration or job moves a patient.

    Args:
        source: Read once from its beginning, and again from there if it was lost.
        task: What turns columns into records.
        identity: Columns that say who a record is of.
        held_out: For each identity, whether it is held out.
        units: Conversions to the schema's units, by column.
        rows: Size of a batch.

    Raises:
        InputError: The source cannot be read or lacks a column.
        DroppedError: The source was lost every time.
    """
    columns = tuple(dict.fromkeys((*task.schema.column_names, *identity)))

    def once() -> tuple[Gathered, Gathered]:
        train, test = Gathering(task=task), Gathering(task=task)
        for table in source.batches(columns, rows):
            held_N = held_out(_identities(table, identity))
            asked = convert({name: table[name] for name in task.schema.column_names}, units)
            train.add(chosen(asked, np.flatnonzero(~held_N).tolist()))
            test.add(chosen(asked, np.flatnonzero(held_N).tolist()))
        return train.done(), test.done()

    return again(once)


def _identities(table: Table, names: Sequence[str]) -> list[Identity]:
    return list(zip(*(_scalars(table[name]) for name in names), strict=True))


def _scalars(cells: Cells) -> Sequence[Value]:
    """One comparable value per row; an image or series stands there by its digest."""
    if not isinstance(cells, np.ndarray):
        return cells
    if cells.ndim == 1:
        scalars: list[Value] = cells.tolist()
        return scalars
    return [hashlib.sha256(row.tobytes()).hexdigest() for row in np.ascontiguousarray(cells)]


@dataclass(kw_only=True)
class Gathering:
    """Records of one side, as they come.

    Args:
        task: What turns columns into records.
    """

    task: Task
    _parts: tuple[_Growing, _Growing, _Growing] | None = None
    _numbers: dict[str, int] = field(default_factory=dict)
    _rows: int = 0
    _found: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, table: Table) -> None:
        """Take the rows of a batch in."""
        rows = len(next(iter(table.values())))
        if not rows:
            return
        records, report = self.task.records(table)
        patient_N = self._numbered(table, rows)[records.patient_N]
        arrays: tuple[Array, Array, Array] = (records.x_NF, records.y_N, patient_N)
        if self._parts is None:
            x, y, patient = arrays
            self._parts = (_Growing(x), _Growing(y), _Growing(patient))
        for part, array in zip(self._parts, arrays, strict=True):
            part.append(array)
        self._rows += rows
        for found in report.findings:
            place = (found.column, found.problem)
            self._found[place] = self._found.get(place, 0) + found.count

    def done(self) -> Gathered:
        """All records, as if they had come in one table; to be called once."""
        if self._parts is None:
            return self.task.records({name: [] for name in self.task.schema.column_names})
        order = {name: place for place, name in enumerate(self.task.schema.column_names)}
        places = sorted(self._found, key=lambda place: order.get(place[0], len(order)))
        x_NF, y_N, patient_N = (part.done() for part in self._parts)
        records = Records(x_NF=x_NF, y_N=y_N, patient_N=patient_N)
        findings = tuple(Finding(*place, self._found[place]) for place in places)
        return records, Report(rows=self._rows, kept=len(records), findings=findings)

    def _numbered(self, table: Table, rows: int) -> IntVector:
        """From a batch's numbers of patients to those of the side, by first appearance."""
        name = self.task.schema.patient
        if name is None:
            return np.arange(self._rows, self._rows + rows, dtype=np.int64)
        keys = dict.fromkeys(patient_key(value) for value in _scalars(table[name]))
        codes = [self._numbers.setdefault(key, len(self._numbers)) for key in keys if key]
        return np.array(codes, dtype=np.int64)


class _Growing:
    """An array that gets longer in place: the system moves a large one's pages and copies nothing.

    Args:
        like: Its first rows; only their shape and type are taken.
    """

    def __init__(self, like: Array) -> None:
        self._array = np.empty((0, *like.shape[1:]), dtype=like.dtype)
        self._length = 0

    def append(self, rows: Array) -> None:
        """Copy rows to the end."""
        end = self._length + len(rows)
        if end > len(self._array):
            self._resize(end + end // 8)
        self._array[self._length : end] = rows
        self._length = end

    def done(self) -> Array:
        """The array without what was kept free."""
        self._resize(self._length)
        return self._array

    def _resize(self, length: int) -> None:
        # Nobody else has seen the array yet, so there is no reference that it could pull away.
        self._array.resize((length, *self._array.shape[1:]), refcheck=False)
