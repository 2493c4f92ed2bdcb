"""Released tables beside the true one, for people: a table and pictures; and for programs, JSON."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from learning.task import Metric
from server.table_picture import picture
from server.view import plain_table
from simulations.config import Arm
from simulations.output import document, write
from simulations.tables import Comparison


def table(compared: Comparison) -> Table:
    """One line for each figure, the truth beside what each arm released."""
    shown = plain_table(compared.name)
    shown.caption = _caption(compared)
    shown.add_column("", overflow="fold", min_width=14)
    shown.add_column("true", justify="right", no_wrap=True)
    for one in compared.told:
        shown.add_column(title(one.arm).replace(", ", "\n"), justify="right", no_wrap=True)
    released = [one.table.figures for one in compared.told]
    for name, true in compared.truth.figures.items():
        cells = (_cell(figures.get(name), compared) for figures in released)
        shown.add_row(name, f"{true.value:.4g}", *cells)
    shown.add_section()
    shown.add_row("true in interval", "", *(f"{one.covered:.0%}" for one in compared.told))
    return shown


def save(compared: Comparison, folder: Path) -> tuple[Path, ...]:
    """Write result.json and a picture of each arm, in place of older ones.

    Raises:
        InputError: The folder cannot be written to.
    """
    contents = {"result.json": document(compared)}
    for place, told in enumerate(compared.told, start=1):
        name = f"{compared.name}, {compared.hospitals} hospitals, {title(told.arm)}"
        contents[f"result-{place}-{told.arm.arm}.png"] = picture(told.table, name, compared.truth)
    return write(folder, contents)


def title(arm: Arm) -> str:
    """An arm's name with its epsilon."""
    return arm.arm if arm.epsilon is None else f"{arm.arm}, ε = {arm.epsilon:g}"


def _cell(metric: Metric | None, compared: Comparison) -> str:
    if metric is None:
        return f"< {compared.told[0].table.fewer_than}"
    half = max(metric.high - metric.value, metric.value - metric.low)
    return f"{metric.value:.4g}" if half == 0 else f"{metric.value:.4g} ± {half:.2g}"


def _caption(compared: Comparison) -> Text:
    fewest = compared.told[0].table.fewer_than
    lines = [
        f"{compared.hospitals} hospitals; ±: 95 % of what the noise may have done",
        f"< {fewest}: fewer than may be shown, or too few against the noise",
    ]
    lines += [
        f"{title(one.arm)}: {one.epsilon_worst:.3g} if all others collude, δ = {compared.delta:g}"
        for one in compared.told
        if one.epsilon_worst is not None
    ]
    caption = Text("\n".join(lines))
    for note in compared.notes:
        caption.append(f"\n{note}", style="bold red")
    return caption
