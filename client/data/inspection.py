"""What a job would meet in a table, column by column: counts and places, never a value.

The counting is done by the code that a job runs, so that what is found here is what happens there.
Batches are counted one after the other, so a source may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from client.data.column_counts import ColumnCounts
from client.data.findings import ColumnProfile, Profile, Verdict
from client.data.suspicion import PatientSuspicion
from learning.cell_values import as_numbers, codes_of, patient_key
from learning.column_blocks import BoolVector
from learning.preprocess import labelled_rows
from learning.task import Table, Task


def inspect(task: Task, table: Table, absent: Collection[str] = ()) -> Profile:
    """Count what a job with this task would meet in a table.

    Args:
        task: What turns columns into records.
        table: Every column of its schema, equally long.
        absent: Columns that the source lacks; in `table` all their cells are None.
    """
    inspection = Inspection(task, absent)
    inspection.add(table)
    return inspection.done()


class Inspection:
    """Counts over the batches of a source.

    Args:
        task: What turns columns into records.
        absent: Columns that the source lacks; in every batch all their cells are None.
        split_by: Column that the hospital splits by, which every batch has; None where that is
            the schema's patient.
    """

    def __init__(
        self, task: Task, absent: Collection[str] = (), split_by: str | None = None
    ) -> None:
        schema = task.schema
        self._task, self._absent, self._split_by = task, absent, split_by
        self._columns = (*schema.columns, *schema.targets)
        self._counts = {column.name: ColumnCounts(column, schema) for column in self._columns}
        self._class_C = np.zeros(len(schema.label.texts), dtype=np.int64)
        self._found: dict[tuple[str, str], int] = {}
        self._doubt = PatientSuspicion()
        self._patients: set[int] = set()
        self._rows = self._kept = 0

    def add(self, table: Table) -> None:
        """Count a batch."""
        schema = self._task.schema
        records, report = self._task.records(table)
        self._rows += report.rows
        self._kept += report.kept
        if len(self._class_C):
            class_N = records.y_N.astype(np.int64) % len(self._class_C)
            self._class_C += np.bincount(class_N, minlength=len(self._class_C))
        for found in report.findings:
            place = (found.column, found.problem)
            self._found[place] = self._found.get(place, 0) + found.count
        class_N = codes_of(schema.label.texts, table[schema.label.name])
        for name, counts in self._counts.items():
            if name not in self._absent:
                counts.add(table[name], class_N)
        if schema.patient is not None:
            self._add_patients(schema.patient, table, labelled_rows(schema.label, table))

    def done(self) -> Profile:
        """What was counted."""
        schema = self._task.schema
        return Profile(
            rows=self._rows,
            kept=self._kept,
            unit=schema.unit,
            patients=self._kept if schema.patient is None else len(self._patients),
            classes=dict(zip(schema.label.texts, self._class_C.tolist(), strict=True)),
            columns=tuple(self._profiles()),
        )

    def _add_patients(self, name: str, table: Table, known_N: BoolVector) -> None:
        keys = [patient_key(value) for value in table[name]]
        pairs = zip(keys, known_N.tolist(), strict=True)
        self._patients.update(hash(key) for key, known in pairs if key and known)
        numbers = [
            as_numbers(table[column.name])
            for column in self._task.schema.columns
            if column.kind == "number"
        ]
        number_NK = np.column_stack([np.empty((len(keys), 0)), *numbers])
        number_NK[np.isinf(number_NK)] = np.nan
        split_by = keys if self._split_by is None else list(table[self._split_by])
        self._doubt.add(keys, split_by, number_NK)

    def _profiles(self) -> Iterator[ColumnProfile]:
        schema = self._task.schema
        for column in self._columns:
            if column.name in self._absent:
                yield _absent(column.name, column.kind)
            else:
                yield self._counts[column.name].judged()
        kinds = {
            schema.label.name: "label",
            schema.patient: "patient",
            schema.time: "time",
            schema.site: "site",
        }
        for name, kind in kinds.items():
            if name is not None:
                yield _absent(name, kind) if name in self._absent else self._key(name, kind)

    def _key(self, name: str, kind: str) -> ColumnProfile:
        """Label and patient decide whether a row is used; time and site do not."""
        used = kind in {"label", "patient"}
        missing = self._found.get((name, "missing"), 0) if used else 0
        unknown = self._found.get((name, "unknown class"), 0) if used else 0
        verdict: Verdict = "left out" if missing or unknown else "ok"
        remedy = ""
        if kind == "patient" and (doubt := self._doubted()):
            verdict, remedy = doubt
        elif unknown:
            labels = ", ".join(self._task.schema.label.texts) or "numbers"
            remedy = f"translate the source's words to {labels}"
        elif missing:
            remedy = f"rows without a {kind} are not used: complete them or take them out"
        return ColumnProfile(
            name=name, kind=kind, missing=missing, unknown=unknown, verdict=verdict, remedy=remedy
        )

    def _doubted(self) -> tuple[Verdict, str] | None:
        """What puts one person on both sides of the split."""
        if self._split_by is not None and self._doubt.both_sides():
            return "both sides?", f"name this column, not {self._split_by}, in datasets.*.patient"
        if self._doubt.two_spellings():
            return "two spellings?", "write a patient's number alike in all rows, zeros included"
        if self._doubt.two_patients():
            return "two patients?", "rows agree in all numbers: give one person one number"
        return None


def _absent(name: str, kind: str) -> ColumnProfile:
    remedy = f"name the source's column under source.columns.{name}"
    return ColumnProfile(name=name, kind=kind, verdict="absent", remedy=remedy)
