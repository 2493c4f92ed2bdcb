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
from learning.preprocess import patient_key
from learning.task import Cells, Finding, IntVector, Records, Report, Table, Task

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
    _parts: list[Records] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)
    _rows: int = 0
    _found: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, table: Table) -> None:
        """Take the rows of a batch in."""
        rows = len(next(iter(table.values())))
        if not rows:
            return
        records, report = self.task.records(table)
        number_N = self._numbered(table, rows)
        self._parts.append(
            Records(x_NF=records.x_NF, y_N=records.y_N, patient_N=number_N[records.patient_N])
        )
        self._rows += rows
        for found in report.findings:
            place = (found.column, found.problem)
            self._found[place] = self._found.get(place, 0) + found.count

    def done(self) -> Gathered:
        """All records, as if they had come in one table; to be called once."""
        if not self._parts:
            return self.task.records({name: [] for name in self.task.schema.column_names})
        order = {name: place for place, name in enumerate(self.task.schema.column_names)}
        places = sorted(self._found, key=lambda place: order.get(place[0], len(order)))
        records = _concatenated(self._parts)
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


def _concatenated(parts: list[Records]) -> Records:
    """Batches one after the other, each given back to the system once it is copied.

    Pages of a large array are taken as they are written to, so at no time are there two copies.
    """
    total, first = sum(map(len, parts)), parts[0]
    x_NF = np.empty((total, *first.x_NF.shape[1:]))
    y_N: npt.NDArray[Any] = np.empty(total, dtype=first.y_N.dtype)
    patient_N = np.empty(total, dtype=np.int64)
    parts.reverse()
    end = 0
    while parts:
        part = parts.pop()
        begin, end = end, end + len(part)
        x_NF[begin:end], y_N[begin:end] = part.x_NF, part.y_N
        patient_N[begin:end] = part.patient_N
    return Records(x_NF=x_NF, y_N=y_N, patient_N=patient_N)
