"""`fedward client data-check`: what a job would make of the hospital's records, before any joins.

It reads the configuration and the source and nothing else, so it works before there are keys, a
roster or a ledger. What it counts is for the hospital alone, and no value is ever shown.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.data.config import DicomConfig
from client.data.dicom import DicomSource
from client.data.findings import ColumnProfile, Profile
from client.data.inspection import Inspection
from client.data.naming import listed, nearest
from client.data.opening import name_of, open_source
from client.data.report import page, save_page
from client.data.source import Source, again
from client.data.units import Conversion, conversions, convert
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
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page with plots, for this hospital only."),
    ] = None,
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
    here = config.datasets[name]
    source = open_source(here.source, hospital.parent)
    _check_patient(name, here, source, task.schema.column_names)
    units = conversions(here.source.units, task.schema)
    found = check(source, task, units=units, split_by=here.patient)
    if isinstance(here.source, DicomConfig):
        dropped = DicomSource(hospital.parent, here.source).identifying()
        found = dataclasses.replace(found, dropped=dropped)
    warning = unprotected(here.patient, task.schema.patient)
    if as_json:
        told = to_document(name, found) | {"warnings": [warning] if warning else []}
        typer.echo(json.dumps(told, indent=2))
    else:
        _print(name, here, found, warning)
    if report is not None:
        save_page(report, page(f"Data set {name}", found, LOCAL))
    if not (found.clean or allow_findings):
        raise _complaint(name, found)


def check(
    source: Source,
    task: Task,
    *,
    units: Mapping[str, Conversion] | None = None,
    split_by: str | None = None,
) -> Profile:
    """Profile a source, batch by batch.

    Args:
        source: What a job would read.
        task: What turns columns into records.
        units: Conversions to the schema's units, by column.
        split_by: Column that the hospital splits by; the schema's patient if not given.

    Raises:
        InputError: It cannot be read, or has none of the schema's columns.
        DroppedError: It was lost every time.
    """
    offered = again(source.columns)
    asked = task.schema.column_names
    absent = [column for column in asked if column not in offered]
    if len(absent) == len(asked):
        raise InputError(
            "the source has none of the schema's columns",
            expected=", ".join(asked),
            found=listed(offered, asked),
            remedy="name the source's columns under source.columns",
        )
    other = None if split_by == task.schema.patient else split_by
    wanted = [name for name in offered if name in asked or name == other]
    found = again(lambda: _inspected(source, task, wanted, units or {}, other))
    return dataclasses.replace(
        found, columns=tuple(_suggested(column, offered) for column in found.columns)
    )


def _inspected(
    source: Source,
    task: Task,
    present: Sequence[str],
    units: Mapping[str, Conversion],
    split_by: str | None,
) -> Profile:
    absent = [name for name in task.schema.column_names if name not in present]
    inspection = Inspection(task, absent, split_by)
    for table in source.batches(present):
        rows = len(table[present[0]])
        gaps: dict[str, Any] = {name: [None] * rows for name in absent}
        inspection.add({**convert(table, units), **gaps})
    return inspection.done()


def unprotected(declared: str | None, protected: str | None) -> str:
    """Why a node would refuse to protect these patients in this way; empty where it would not.

    Args:
        declared: The patient's column that the hospital declared.
        protected: The one that the job's schema names.

    >>> unprotected("case", "case"), unprotected(None, None)
    ('', '')
    """
    if declared is None or declared == protected:
        return ""
    whom = "each record" if protected is None else f"whoever {protected!r} names"
    return (
        f"the data set names its patients in {declared!r} and the job protects {whom} instead: "
        "the node will refuse the job; ask for a schema with this patient column"
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
        "dropped_tags": list(found.dropped),
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


def _check_patient(name: str, config: DatasetConfig, source: Source, asked: Sequence[str]) -> None:
    """The column that the split goes by must be there, or no job can be split."""
    offered = again(source.columns)
    if config.patient is not None and config.patient not in offered:
        raise InputError(
            f"datasets.{name}.patient: the source lacks {config.patient!r}",
            expected=f"one of {listed(offered, asked)}",
            remedy="name the column of the patient's number, or leave the key out",
        )


def _suggested(column: ColumnProfile, offered: tuple[str, ...]) -> ColumnProfile:
    """An absent column with the name in the source that is most like its own."""
    close = nearest(column.name, offered)
    if column.verdict != "absent" or close is None:
        return column
    return dataclasses.replace(column, remedy=f"{column.remedy}; is it {close!r}?")


def _complaint(name: str, found: Profile) -> InputError:
    """One line that says what is wrong, without a count."""
    said = {
        "absent": "the source lacks {}",
        "empty": "no record has a value in {}",
        "tells the label?": "{} gives the class of every record away",
        "replaced": "values of {} would be replaced by neutral ones",
        "wrong unit?": "numbers of {} seem to be in another unit",
        "left out": "rows would be left out for {}",
        "two spellings?": "one patient seems to be written in two ways in {}",
        "two patients?": "one person seems to have two numbers in {}",
        "both sides?": "patients of {} would be trained on and evaluated on",
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


def _print(name: str, config: DatasetConfig, found: Profile, warning: str) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    console.print(Text(f"Data set {name}, {name_of(config.source)}", style="bold"))
    unit = f"of {found.patients} patients"
    if found.unit == "record":
        unit = "each protected by itself, since the schema names no patient"
    console.print(Text(f"{found.rows} rows, {found.kept} usable, {unit}"))
    console.print(_columns_table(found))
    classes = "   ".join(f"{label}: {count}" for label, count in found.classes.items())
    console.print(Text(f"Rows by class   {classes}\n"))
    if any(column.remedy for column in found.columns):
        console.print(_remedies_table(found), Text(), sep="\n")
    if found.dropped:
        console.print(Text(f"Tags that no record keeps   {', '.join(found.dropped)}\n"))
    if warning:
        console.print(Text(f"Warning: {warning}", style="yellow"))
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
