"""What a card's page says of subgroups, and of whether predictions come true."""

from __future__ import annotations

from collections.abc import Sequence

from learning.calibration import Point, points
from learning.card import ModelCard
from learning.card_plots import Bar, curve, intervals
from learning.cells import FLAG_LEVELS
from learning.few import TOO_FEW
from learning.result_names import OBSERVED, is_of_subgroup, of_gap, of_subgroup
from learning.schema import as_text
from learning.task import Metric

# Pages of many labels would be plots only.
MOST_CURVES = 8


def results(card: ModelCard) -> list[str]:
    """Sections in Markdown, none for a model that was not evaluated.

    Args:
        card: The card.
    """
    if not card.metrics:
        return []
    found = []
    curves = _curves(card)
    if curves:
        told = (
            "Dots on the dashed line are predictions that come true as often as they say; bars are "
            "95 % intervals, the noise included. What has too few patients is left out."
        )
        found.append("\n\n".join(["## Whether its predictions come true", told, *curves]))
    found += [_subgroups(card, column, levels) for column, levels in _marked(card).items()]
    return found


def _marked(card: ModelCard) -> dict[str, tuple[str, ...]]:
    """The marked columns and the values by which each tells patients apart."""
    return {
        str(column["name"]): tuple(map(as_text, column.get("categories", ()))) or FLAG_LEVELS
        for column in card.schema.get("columns", ())
        if column.get("subgroup")
    }


def _subgroups(card: ModelCard, column: str, levels: Sequence[str]) -> str:
    """A table of measures by level, the gap, and a plot of what the gap is of."""
    ends = [of_subgroup("", column, level) for level in levels]
    measures = list(
        dict.fromkeys(
            name.removesuffix(end) for end in ends for name in card.metrics if name.endswith(end)
        )
    )
    parts = [f"## By {plain(column)}"]
    if not measures:
        return "\n\n".join([*parts, "Too few patients in every subgroup for any statement."])
    gaps = [one for one in measures if of_gap(one, column) in card.metrics]
    main = (gaps or measures)[0]
    found = [(level, card.metrics.get(of_subgroup(main, column, level))) for level in levels]
    bars = [Bar(label=level, metric=metric) for level, metric in found]
    parts.append(_gap(card.metrics.get(of_gap(main, column)), main))
    parts.append(_table(card, column, levels, measures))
    return "\n\n".join([*parts, intervals(bars, f"{main} by {column}")])


def _gap(metric: Metric | None, main: str) -> str:
    if metric is None:
        return "No gap is told: fewer than two subgroups have enough patients."
    return f"**Largest difference in `{plain(main)}`: {_words(metric)}.**"


def _table(card: ModelCard, column: str, levels: Sequence[str], measures: Sequence[str]) -> str:
    heads = " | ".join(plain(level) for level in levels)
    rows = [f"| metric | {heads} |", "| --- |" + " ---: |" * len(levels)]
    for measure in measures:
        found = (card.metrics.get(of_subgroup(measure, column, level)) for level in levels)
        cells = [TOO_FEW if one is None else _words(one) for one in found]
        rows.append("| " + " | ".join([plain(measure), *cells]) + " |")
    return "\n".join(rows)


def _curves(card: ModelCard) -> list[str]:
    """Plots of observed by predicted shares, of whatever kind the task has."""
    titles = dict.fromkeys(
        name.partition(":")[2]
        for name in card.metrics
        if name.startswith(OBSERVED) and not is_of_subgroup(name)
    )
    axes = ("predicted probability", "share that came true")
    found = [
        curve(points(card.metrics, title), f"Calibration{f' of {title}' if title else ''}", axes)
        for title in list(titles)[:MOST_CURVES]
    ]
    coverage = _coverage(card)
    if coverage:
        axes = ("level of the quantile", "days at or below it")
        found.append(curve(coverage, "Coverage of the forecast quantiles", axes))
    return found


def _coverage(card: ModelCard) -> list[Point]:
    """Level and coverage of each forecast quantile."""
    found = []
    for name, metric in card.metrics.items():
        kind, _, level = name.partition(":")
        if kind == "coverage" and not is_of_subgroup(name):
            exact = Metric(*[float(level)] * 3)
            found.append(Point(band=name, predicted=exact, observed=metric))
    return found


def _words(metric: Metric) -> str:
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})"


def plain(text: str) -> str:
    """A cell or head that a column's name cannot break out of."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
