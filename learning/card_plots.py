"""Small plots inside a card's page, as SVG that needs nothing else.

Colours are the reader's own (`currentColor`), so that the plots are legible on white and on black,
and every mark tells its numbers when it is pointed at. A plot is one line: Markdown ends a block of
HTML at an empty one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from learning.calibration import Point
from learning.few import TOO_FEW
from learning.task import Metric

_SIDE, _LEFT, _FOOT, _TOP = 220, 58, 34, 12
_WIDE, _ROW = 460, 26
_FONT = 'font-family="sans-serif" font-size="11" fill="currentColor"'
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One line of a plot of intervals.

    Args:
        label: What it is of.
        metric: Value and interval; None where there are too few patients.
    """

    label: str
    metric: Metric | None


def curve(points: Sequence[Point], title: str, axes: tuple[str, str]) -> str:
    """Observed by predicted shares, beside the diagonal on which predictions come true.

    Args:
        points: In any order.
        title: For who cannot see it, and below the plot.
        axes: What stands along and up.
    """
    parts = [_square(axes)]
    for point in points:
        x, y = _across(point.predicted.value), _up(point.observed.value)
        words = f"{point.band}: predicted {_words(point.predicted)}, {_words(point.observed)} found"
        parts.append(
            f"<g><title>{escape(words)}</title>"
            + _line(x, _up(point.observed.low), x, _up(point.observed.high), 1.5)
            + f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="currentColor"/></g>'
        )
    return _figure("".join(parts), _LEFT + _SIDE + 12, _TOP + _SIDE + _FOOT, title)


def intervals(bars: Sequence[Bar], title: str) -> str:
    """Values with their intervals, one below the other."""
    known = [bar.metric for bar in bars if bar.metric is not None]
    if not known:
        return ""
    low, high = min(one.low for one in known), max(one.high for one in known)
    left, width, span = 140, _WIDE - 160, max(high - low, 1e-9)

    def place(value: float) -> float:
        return left + width * (value - low) / span

    parts = []
    for index, bar in enumerate(bars):
        y = _TOP + _ROW * index + _ROW / 2
        parts.append(_text(left - 10, y + 4, bar.label, "end"))
        if bar.metric is None:
            parts.append(_text(left, y + 4, TOO_FEW, "start"))
            continue
        x = place(bar.metric.value)
        parts.append(
            f"<g><title>{escape(f'{bar.label}: {_words(bar.metric)}')}</title>"
            + _line(place(bar.metric.low), y, place(bar.metric.high), y, 1.5)
            + f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="currentColor"/></g>'
        )
    foot = _TOP + _ROW * len(bars)
    parts += [_line(left, foot, left + width, foot, 0.5)]
    parts += [_text(place(end), foot + 16, f"{end:.2f}", "middle") for end in (low, high)]
    return _figure("".join(parts), _WIDE, foot + 24, title)


def _square(axes: tuple[str, str]) -> str:
    """Frame, diagonal, ticks and names of a plot from 0 to 1 both ways."""
    left, right, bottom, top = _across(0), _across(1), _up(0), _up(1)
    parts = [
        _line(left, bottom, right, bottom, 0.5),
        _line(left, bottom, left, top, 0.5),
        _line(left, bottom, right, top, 0.5, dashed=True),
    ]
    for tick in _TICKS:
        parts.append(_text(_across(tick), bottom + 14, f"{tick:g}", "middle"))
        parts.append(_text(left - 6, _up(tick) + 4, f"{tick:g}", "end"))
    middle = (left + right) / 2
    parts.append(_text(middle, bottom + 28, axes[0], "middle"))
    y = (bottom + top) / 2
    turned = f'transform="rotate(-90 12 {y:.0f})"'
    return "".join(parts) + _text(12, y, axes[1], "middle", turned)


def _across(value: float) -> float:
    return _LEFT + _SIDE * value


def _up(value: float) -> float:
    return _TOP + _SIDE * (1 - value)


def _line(x1: float, y1: float, x2: float, y2: float, width: float, *, dashed: bool = False) -> str:
    kind = ' stroke-dasharray="4 3"' if dashed else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="currentColor" stroke-width="{width}"{kind}/>'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}'.rstrip()
    return f"<text {place} {_FONT}>{escape(text)}</text>"


def _words(metric: Metric) -> str:
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})"


def _figure(body: str, width: float, height: float, title: str) -> str:
    told = escape(" ".join(title.split()), quote=True)
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="{told}">'
    body = " ".join(body.split())
    return f"<figure>{svg}{body}</svg><figcaption>{told}</figcaption></figure>"
