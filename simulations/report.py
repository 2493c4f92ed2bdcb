"""A simulation's result for people: a table, a picture and a page; and for programs, JSON."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from simulations import wording
from simulations.differences import against_pooled
from simulations.output import document, write
from simulations.page import page
from simulations.picture import picture
from simulations.results import Result, Row
from simulations.task_picture import task_picture


def table(result: Result) -> Table:
    """The result as a table for the terminal, arms in reading order, notes below."""
    shown = Table(
        title=Text(result.name, style="bold"),
        title_justify="left",
        caption=_caption(result),
        caption_justify="left",
    )
    shown.add_column("arm", no_wrap=True)
    # Named after the symbols, as the columns would not fit 80 characters otherwise.
    for name in ("ε", "ε worst", result.measure.name, "time/round", "sent/round"):
        shown.add_column(name, justify="right", no_wrap=True)
    previous: Row | None = None
    for row in wording.ordered(result.rows):
        if previous is not None and (row.epsilon is None) != (previous.epsilon is None):
            shown.add_section()
        shown.add_row(*_cells(row))
        previous = row
    return shown


def save(result: Result, folder: Path) -> tuple[Path, ...]:
    """Write result.json, result.png, result-task.png and result.html, in place of older ones.

    Where a task has no picture of its own, result-task.png is left out.

    Args:
        result: What was found.
        folder: Where to write; made when it is missing.

    Returns:
        The files.

    Raises:
        InputError: The folder cannot be written to.
    """
    png, task_png = picture(result), task_picture(result)
    contents = {
        "result.json": document(result),
        "result.png": png,
        "result.html": page(result, png, task_png).encode(),
    }
    if task_png is not None:
        contents["result-task.png"] = task_png
    return write(folder, contents)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.arm,
        wording.epsilon(row.epsilon),
        wording.epsilon(row.epsilon_worst),
        wording.score(row),
        wording.seconds(row.seconds_per_round),
        wording.size(row.bytes_up_per_round),
    )


def _caption(result: Result) -> Text:
    guarantee = f", δ = {wording.delta(result)}" if wording.private(result) else ""
    lines = (f"{wording.seeds(result)}{guarantee}", *wording.tables(result), against_pooled(result))
    caption = Text("\n".join(line for line in lines if line))
    for note in result.notes:
        caption.append(f"\n{note}", style="bold red")
    return caption
