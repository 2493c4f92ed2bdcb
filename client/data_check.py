"""`fedward client data-check`: what a job would make of the hospital's records, before any joins.

It reads the configuration and the source and nothing else, so it works before there are keys, a
roster or a ledger. What it counts is for the hospital alone, and no value is ever shown.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.data.inspection import ColumnProfile, Profile, inspect
from client.data.source import Source, open_source
from client.hospital import DatasetConfig, HospitalConfig
from learning.task import Task, load_task
from protocol.config import Document, load_yaml, parse, read
from protocol.errors import InputError
from protocol.jobs import Named

LOCAL = "Counted here, for this hospital only; nothing was sent. Do not hand these counts on."

_DEFAULT_TASK = Named(name="diagnosis", options={})
# Wide enough for every column where there is no terminal to ask.
_FILE_WIDTH = 120
_STYLES = {"ok": "green", "as declared": "green", "clamped": "yellow"}


def data_check(
    hospital: Annotated[
        Path, typer.Argument(metavar="HOSPITAL.yaml", help="The hospital's configuration.")
    ],
    job: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="A job, or a schema by itself.")],
    *,
    dataset: Annotated[
        str | None, typer.Option(help="Check another data set than the one that the job names.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    allow_findings: Annotated[
        bool, typer.Option("--allow-findings", help="Leave with code 0 whatever is found.")
    ] = False,
) -> None:
    """Read the records as a job's schema would, and list what it could not use.

    Leaves with code 0 if they are clean, with 2 if something would be replaced or left out.

    Counts stay in the hospital, values are never shown. No keys, roster or ledger are needed.

    Raises:
        InputError: A file is wrong, or there are findings that are not allowed.
    """
    config = read(HospitalConfig, hospital)
    wanted = _wanted(job)
    name = _choose(config, dataset or wanted.dataset)
    task = load_task(wanted.task, wanted.schema)
    source = open_source(config.datasets[name].source, hospital.parent)
    _check_patient(name, config.datasets[name], source)
    found = check(source, task)
    if as_json:
        typer.echo(json.dumps(to_document(name, found), indent=2))
    else:
        _print(name, config.datasets[name], found)
    if not (found.clean or allow_findings):
        raise _complaint(name, found)


def check(source: Source, task: Task) -> Profile:
    """Profile a source.

    Raises:
        InputError: It cannot be read, or has none of the schema's columns.
    """
    offered = source.columns()
    asked = task.schema.column_names
    present = [column for column in asked if column in offered]
    if not present:
        raise InputError(
            "the source has none of the schema's columns",
            expected=", ".join(asked),
            found=", ".join(offered),
            remedy="name the source's columns under source.columns",
        )
    table: dict[str, Any] = dict(source.read(present))
    rows = len(table[present[0]])
    absent = [column for column in asked if column not in table]
    for column in absent:
        table[column] = [None] * rows
    found = inspect(task, table, absent)
    return dataclasses.replace(
        found, columns=tuple(_suggested(column, offered) for column in found.columns)
    )


def to_document(name: str, found: Profile) -> dict[str, Any]:
    """Everything that the table shows, for programs."""
    return {
        "dataset": name,
        "clean": found.clean,
        "rows": found.rows,
        "kept": found.kept,
        "unit": found.unit,
        "patients": found.patients,
        "classes": found.classes,
        "columns": [dataclasses.asdict(column) for column in found.columns],
        "note": LOCAL,
    }


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The part of a job that says how records are read."""

    schema: Mapping[str, Any]
    task: Named = _DEFAULT_TASK
    dataset: str | None = None


def _wanted(path: Path) -> _Wanted:
    """What a job's file asks of the records; a file that is a schema asks for it alone."""
    document = load_yaml(path)
    if "schema" not in document and "columns" in document:
        return _Wanted(schema=document)
    part = Document(file=str(path), line=1)
    if isinstance(document, Document):
        part.lines = document.lines
    keys = [field.name for field in dataclasses.fields(_Wanted)]
    part.update({key: document[key] for key in keys if key in document})
    return parse(_Wanted, part, "")


def _choose(config: HospitalConfig, name: str | None) -> str:
    """The data set to check: the named one, or the only one."""
    names = sorted(config.datasets)
    if name is None and len(names) == 1:
        return names[0]
    if name is None or name not in config.datasets:
        raise InputError(
            "no data set is named" if name is None else f"there is no data set {name!r} here",
            expected=f"one of {', '.join(names)}" if names else "one in the configuration",
            remedy="name it with --dataset, or add it to the hospital's configuration",
        )
    return name


def _check_patient(name: str, config: DatasetConfig, source: Source) -> None:
    """The column that the split goes by must be there, or no job can be split."""
    offered = source.columns()
    if config.patient is not None and config.patient not in offered:
        raise InputError(
            f"datasets.{name}.patient: the source lacks {config.patient!r}",
            expected=f"one of {', '.join(offered)}",
            remedy="name the column of the patient's number, or leave the key out",
        )


def _suggested(column: ColumnProfile, offered: tuple[str, ...]) -> ColumnProfile:
    """An absent column with the name in the source that is most like its own."""
    close = difflib.get_close_matches(column.name, offered, n=1)
    if column.verdict != "absent" or not close:
        return column
    return dataclasses.replace(column, remedy=f"{column.remedy}; is it {close[0]!r}?")


def _complaint(name: str, found: Profile) -> InputError:
    """One line that says what is wrong, without a count."""
    said = {
        "absent": "the source lacks {}",
        "replaced": "values of {} would be replaced by neutral ones",
        "wrong unit?": "numbers of {} seem to be in another unit",
        "left out": "rows would be left out for {}",
    }
    clauses = [
        sentence.format(", ".join(map(_named, columns)))
        for verdict, sentence in said.items()
        if (columns := [column for column in found.findings if column.verdict == verdict])
    ]
    return InputError(
        f"data set {name!r}: " + (", ".join(clauses) or "no record that a job could use"),
        remedy="correct the source, or accept it with --allow-findings",
    )


def _named(column: ColumnProfile) -> str:
    return f"{column.name} ({', '.join(column.problems)})" if column.problems else column.name


def _print(name: str, config: DatasetConfig, found: Profile) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    console.print(Text(f"Data set {name}, {config.source.path}", style="bold"))
    unit = f"of {found.patients} patients"
    if found.unit == "record":
        unit = "each protected by itself, since the schema names no patient"
    console.print(Text(f"{found.rows} rows, {found.kept} usable, {unit}"))
    console.print(_columns_table(found))
    classes = "   ".join(f"{label}: {count}" for label, count in found.classes.items())
    console.print(Text(f"Rows by class   {classes}\n"))
    if any(column.remedy for column in found.columns):
        console.print(_remedies_table(found), Text(), sep="\n")
    verdict = "clean" if found.clean else "not clean"
    console.print(Text(f"Verdict: {verdict}", style="bold green" if found.clean else "bold red"))
    console.print(Text(LOCAL))


def _columns_table(found: Profile) -> Table:
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("column", overflow="fold")
    grid.add_column("kind", no_wrap=True)
    for count in ("missing", "unreadable", "outside", "unknown"):
        grid.add_column(count, justify="right", no_wrap=True)
    grid.add_column("verdict", no_wrap=True)
    for column in found.columns:
        counts = (column.missing, column.unreadable, column.outside, column.unknown)
        verdict = Text(column.verdict, style=_STYLES.get(column.verdict, "red"))
        # As texts, so that a column called "[red]" is shown and not obeyed.
        grid.add_row(Text(column.name), column.kind, *map(str, counts), verdict)
    return grid


def _remedies_table(found: Profile) -> Table:
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    grid.add_column(overflow="fold", no_wrap=False)
    grid.add_column(overflow="fold")
    for column in found.columns:
        if column.remedy:
            grid.add_row(Text(column.name), Text(column.remedy))
    return grid
