"""Table one for a terminal: every number with what the noise may have moved it by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table

from learning.stability import Stability
from learning.table_one import Curve, Levels, Number, TableOne
from learning.task import Metric
from server.view import plain_table

Line = tuple[str, str, str, str]


def summary_table(table: TableOne, title: str) -> Table:
    """Everything but the curves, a line for each figure.

    Args:
        table: The released table.
        title: What stands above it.
    """
    shown = plain_table(
        title,
        "±: half of the 95 % interval that the noise leaves; it says nothing of other patients",
    )
    shown.add_column("column", overflow="fold")
    shown.add_column("")
    shown.add_column("patients", justify="right", no_wrap=True)
    shown.add_column("±", justify="right", no_wrap=True)
    for line in lines(table):
        shown.add_row(*line)
    return shown


def lines(table: TableOne) -> Iterator[Line]:
    """The table's lines: column, figure, value, half-width."""
    yield "all", "", *_count(table.patients, table.fewer_than)
    for one in (*table.columns, table.label):
        figures = _levels(one, table) if isinstance(one, Levels) else _number(one, table)
        name = one.name
        for figure, value, half in figures:
            yield name, figure, value, half
            name = ""


def curves_table(table: TableOne) -> Table:
    """Survival of each group at the end of each interval, with half-widths and numbers at risk."""
    name, unit = table.time
    shown = plain_table(
        "Survival (Kaplan-Meier)",
        f"± as above; in brackets: at risk; empty: fewer than {table.fewer_than} at risk",
    )
    shown.add_column(f"{name}, {unit}" if unit else name, justify="right")
    for curve in table.curves:
        shown.add_column(curve.group, justify="right", no_wrap=True)
    longest = max((curve.times for curve in table.curves), key=len)
    for place, time in enumerate(longest):
        shown.add_row(f"{time:g}", *(_point(curve, place) for curve in table.curves))
    return shown


def drift_table(drift: Mapping[str, Stability | None], title: str, reference: str) -> Table:
    """How far each column is from a reference.

    Args:
        drift: By column; None where too few were counted.
        title: Name of the table.
        reference: Name of what it is compared with.
    """
    shown = plain_table(
        f"{title} against {reference}",
        "population stability index, less what chance and noise add; 0.1 to 0.25 is usually called"
        " moderate. sure: beyond chance and noise, at odds of one in a thousand",
    )
    shown.add_column("column", overflow="fold")
    for name in ("index", "95 % from", "to"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("differs")
    for name, one in drift.items():
        figures = ("", "", "") if one is None else (one.index, one.low, one.high)
        verdict = "too few to tell" if one is None else "sure" if one.sure else "not beyond chance"
        cells = (cell if isinstance(cell, str) else f"{cell:.3f}" for cell in figures)
        shown.add_row(name, *cells, verdict)
    return shown


def _point(curve: Curve, place: int) -> str:
    if place >= len(curve.times):
        return ""
    chance, at_risk = curve.survival[place], curve.at_risk[place]
    return f"{chance.value:.2f} ± {half_width(chance):.2f} ({at_risk.value:.0f})"


def half_width(metric: Metric) -> float:
    """Half of the interval."""
    return (metric.high - metric.low) / 2


def _count(metric: Metric | None, fewer_than: int) -> tuple[str, str]:
    if metric is None:
        return f"fewer than {fewer_than}", ""
    # Where the interval ends at zero, the upper half alone is the noise.
    return f"{metric.value:.0f}", f"{metric.high - metric.value:.0f}"


def _levels(one: Levels, table: TableOne) -> Iterator[tuple[str, str, str]]:
    for level, metric in one.levels.items():
        yield level, *_count(metric, table.fewer_than)
    if one.optional:
        yield "missing", *_count(one.missing, table.fewer_than)


def _number(one: Number, table: TableOne) -> Iterator[tuple[str, str, str]]:
    named = f", {one.unit}" if one.unit else ""
    if one.mean is None or one.sd is None:
        yield "with a value", *_count(one.present, table.fewer_than)
        return
    yield f"mean{named}", *_value(one.mean)
    yield f"standard deviation{named}", *_value(one.sd)
    for level, metric in one.quantiles.items():
        yield f"{level:.0%} are below{named}", *_value(metric)
    if one.optional:
        yield "missing", *_count(one.missing, table.fewer_than)


def _value(metric: Metric) -> tuple[str, str]:
    return f"{metric.value:.4g}", f"{half_width(metric):.2g}"
