"""Predictions of a whole file: batch after batch into parts, and one file at the very end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.artefact import Model
from learning.schema import Schema
from protocol.errors import InputError
from serving.answering import FLAGS, answered
from serving.flags import Flag
from serving.parts import ROW, Job, begun, counted, finish, part_of, write_one
from serving.tables import Columns, batches_of, cells_of, check_suffix, header_of

_WORDS = {
    Flag.MISSING: "missing",
    Flag.UNREADABLE: "unreadable or an unknown category",
    Flag.OUTSIDE: "outside the schema's bounds",
    Flag.LENGTH: "a series of another length",
}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What became of a file.

    Args:
        rows: Rows that were predicted.
        resumed: Rows among them that an earlier run had predicted.
        problems: How often by column and problem.
    """

    rows: int
    resumed: int
    problems: Mapping[tuple[str, str], int]


def check_columns(job: Job, header: Sequence[str]) -> None:
    """Refuse a table that lacks a column, or has one that nobody knows or that the output has.

    Raises:
        InputError: With the columns' names, and what to do about each.
    """
    schema = job.model.task.schema
    if taken := [name for name in job.keep if name in {ROW, *_names(job.model)}]:
        raise InputError(
            f"{job.target}: has columns of its own named " + ", ".join(map(repr, taken)),
            remedy=f"rename those of {job.source}, or --ignore them instead of --keep",
        )
    arrays = [column.name for column in schema.columns if column.kind == "array"]
    if arrays:
        raise InputError(
            "the model reads arrays, which no table has: " + ", ".join(arrays),
            remedy="ask a server instead: fedward serve",
        )
    known = {*schema.column_names, *job.keep, *job.ignore}
    unknown = [name for name in header if name not in known]
    missing = [name for name in (*schema.names, *job.keep) if name not in header]
    if missing:
        raise InputError(
            f"{job.source}: lacks " + ", ".join(map(repr, missing)),
            expected="columns " + ", ".join(map(repr, schema.names)),
            remedy="; ".join(_hints(missing, unknown)) or "add them",
        )
    if unknown:
        hints = _hints(unknown, [name for name in known if name not in header])
        raise InputError(
            f"{job.source}: the model does not know " + ", ".join(map(repr, unknown)),
            expected="columns " + ", ".join(map(repr, schema.names)),
            remedy="; ".join(hints)
            or "--keep NAME copies such a column beside the predictions, --ignore NAME drops it",
        )


def _hints(names: Sequence[str], others: Sequence[str]) -> list[str]:
    found = [(name, get_close_matches(name, others, 1, 0.75)) for name in names]
    return [f"is {name!r} the same as {near[0]!r}? rename it" for name, near in found if near]


def predict_file(job: Job, progress: Callable[[int], None] = lambda _: None) -> Summary:
    """Predict every row of a file.

    Args:
        job: What is predicted.
        progress: Told after each batch how many rows are done.

    Raises:
        InputError: The table does not fit the model, the output exists, or parts of another run
            stand beside it.
        BusyError: Another process writes the same output.
    """
    check_suffix(job.target)
    header = header_of(job.source)
    check_columns(job, header)
    # With parts beside them the problems are this job's own, whole before its target is.
    for path in (job.target, *(() if job.parts.exists() else (job.problems,))):
        if path.exists():
            raise InputError(f"{path} exists", remedy="choose another name, or remove it")
    with begun(job) as done:
        resumed = sum(done)
        numbers, problems = list(done), counted(job, len(done))
        names = tuple(dict.fromkeys((*job.model.task.schema.names, *job.keep)))
        progress(resumed)
        for columns in batches_of(job.source, names, job.rows, resumed):
            first = sum(numbers)
            problems += _predict_part(job, columns, len(numbers), first)
            numbers.append(len(next(iter(columns.values()))))
            progress(sum(numbers))
        finish(job, len(numbers))
    return Summary(rows=sum(numbers), resumed=resumed, problems=problems)


def _predict_part(job: Job, columns: Columns, part: int, first: int) -> Counter[tuple[str, str]]:
    """One batch: first its problems, then its predictions, whose presence says that it is done."""
    schema = job.model.task.schema
    table = {one.name: cells_of(one.kind, columns[one.name]) for one in schema.columns}
    answer = dict(answered(job.model, table))
    found = list(_problems(schema, answer.pop(FLAGS), first))
    rows = range(first + 1, first + 1 + len(next(iter(columns.values()))))
    told = {ROW: list(rows), **{name: columns[name] for name in job.keep}}
    told |= _flattened(job.model, answer)
    lines: Columns = {
        ROW: [row for row, _, _ in found],
        "column": [name for _, name, _ in found],
        "problem": [problem for _, _, problem in found],
    }
    write_one(part_of(job, part, ".csv", "problems-"), lines, header=part == 0)
    write_one(part_of(job, part, job.target.suffix), told, header=part == 0)
    return Counter((name, problem) for _, name, problem in found)


def _flattened(model: Model, answer: Mapping[str, npt.NDArray[Any]]) -> dict[str, list[Any]]:
    """Outputs as columns of a table; NaN says nothing, and stands as an empty cell."""
    arrays = (answer[one.name].reshape(-1, max(len(one.columns), 1)) for one in model.outputs)
    values = (column.tolist() for array in arrays for column in array.T)
    return {
        name: [None if value != value else value for value in column]  # noqa: PLR0124
        for name, column in zip(_names(model), values, strict=True)
    }


def _names(model: Model) -> list[str]:
    """Names of the outputs' columns."""
    return [
        f"{one.name}:{column}" if one.columns else one.name
        for one in model.outputs
        for column in one.columns or ("",)
    ]


def _problems(
    schema: Schema, flag_NC: npt.NDArray[np.uint8], first: int
) -> Iterator[tuple[int, str, str]]:
    """Row, column and problem, row by row."""
    for row, place in zip(*np.nonzero(flag_NC), strict=True):
        yield first + 1 + int(row), schema.names[place], _WORDS[Flag(int(flag_NC[row, place]))]
