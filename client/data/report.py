"""An inspection as one HTML page with plots, for the hospital's own eyes.

The page asks for nothing from anywhere: no script, no picture, no font. What stands in it are names
and words of the schema, counts and verdicts, never a value of a record.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from client.data.findings import Bar, ColumnProfile, Profile
from protocol.errors import InputError

# In units of a picture, which is as wide as its place on the page.
_WIDTH, _HEIGHT, _GAP = 320, 84, 1
_LINE, _NAMES, _COUNTS = 22, 96, 56
_LONGEST_NAME = 14
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
h2{margin:2rem 0 .6rem}h3{margin:0 0 .4rem;font-size:1rem}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:left}
th.n,td.n{text-align:right;font-variant-numeric:tabular-nums}td.zero{color:#8a8a8a}
tr{border-bottom:1px solid #ddd}td.v{white-space:nowrap}
.ok{color:#17693a}.soft{color:#7a5200;font-weight:600}.bad{color:#a3190f;font-weight:600}
.note{background:#fff6d8;padding:.7rem 1rem}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(19rem,1fr));gap:1.8rem 2.2rem}
svg{width:100%;max-width:400px;height:auto;display:block}rect{fill:#39699c}
line{stroke:#777}text{font:12px system-ui,sans-serif;fill:#444}figure{margin:0}
"""
_COUNTED = ("missing", "unreadable", "outside", "unknown")
_HEADS = ("column", "kind", *_COUNTED, "verdict", "remedy")


def page(title: str, found: Profile, note: str) -> str:
    """The page; whatever comes from a file is escaped."""
    return "".join(_page(title, found, note))


def save_page(path: Path, text: str) -> None:
    """Write the page so that only its owner can read it.

    Raises:
        InputError: It cannot be written there.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be written", found=error.strerror) from None


def _page(title: str, found: Profile, note: str) -> Iterator[str]:
    told = html.escape(title)
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{told}</title>'
    # The browser itself shall refuse whatever is not on the page.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield f'<style>{_STYLE}</style></head><body><h1>{told}</h1><p class="note">{note}</p>'
    verdict, style = ("clean", "ok") if found.clean else ("not clean", "bad")
    yield f'<p>Verdict: <span class="{style}">{verdict}</span>. {found.rows} rows, '
    yield f"{found.kept} usable, of {found.patients} {found.unit}s.</p>"
    yield "<h2>Columns</h2>" + _table(found.columns)
    if found.dropped:
        tags = ", ".join(map(html.escape, found.dropped))
        yield f"<h2>Tags that no record keeps</h2><p>{tags}</p>"
    yield '<h2>Distributions</h2><div class="plots">'
    if found.classes:
        yield _figure("rows by class", _levels([Bar(*pair) for pair in found.classes.items()]))
    for column in found.columns:
        if column.bars:
            unit = f" ({column.unit})" if column.unit else ""
            drawn = _levels(column.bars) if column.span is None else _histogram(column)
            yield _figure(f"{column.name}{unit}", drawn)
    yield "</div></body></html>\n"


def _table(columns: Sequence[ColumnProfile]) -> str:
    style = dict.fromkeys(_COUNTED, ' class="n"')
    head = "".join(f"<th{style.get(name, '')}>{name}</th>" for name in _HEADS)
    return f"<table><tr>{head}</tr>{''.join(map(_row, columns))}</table>"


def _row(column: ColumnProfile) -> str:
    counts = (column.missing, column.unreadable, column.outside, column.unknown)
    cells = [f"<td>{html.escape(column.name)}</td><td>{column.kind}</td>"]
    cells += [f'<td class="{"n" if count else "n zero"}">{count}</td>' for count in counts]
    style = "soft" if column.verdict == "clamped" else "ok" if column.clean else "bad"
    cells.append(f'<td class="v {style}">{column.verdict}</td>')
    cells.append(f"<td>{html.escape(column.remedy)}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _figure(title: str, drawn: str) -> str:
    return f"<figure><h3>{html.escape(title)}</h3>{drawn}</figure>"


def _picture(height: float, parts: Iterable[str]) -> str:
    box = f"0 0 {_WIDTH} {height:g}"
    return f'<svg viewBox="{box}" role="img">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _bar(x: float, y: float, width: float, height: float, bar: Bar) -> str:
    """A rectangle that tells its label and count when it is pointed at."""
    told = html.escape(f"{bar.label}: {bar.count}")
    size = f'width="{max(width, 0):.2f}" height="{max(height, 0):.2f}"'
    return f'<rect x="{x:.2f}" y="{y:.2f}" {size}><title>{told}</title></rect>'


def _levels(bars: Sequence[Bar]) -> str:
    """One line for each class or category: name, bar, count."""
    most = max((bar.count for bar in bars), default=0) or 1
    parts = []
    for place, bar in enumerate(bars):
        top, middle = place * _LINE, place * _LINE + 0.7 * _LINE
        width = (_WIDTH - _NAMES - _COUNTS) * bar.count / most
        parts.append(_text(_NAMES - 8, middle, _short(bar.label), "end"))
        parts.append(_bar(_NAMES, top + 3, width, _LINE - 6, bar))
        parts.append(_text(_NAMES + width + 6, middle, f"{bar.count}"))
    return _picture(_LINE * len(bars), parts)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _histogram(column: ColumnProfile) -> str:
    """Bars over the schema's bounds, which stand at the ends of the line below."""
    most = max((bar.count for bar in column.bars), default=0) or 1
    step = _WIDTH / max(len(column.bars), 1)
    parts = [
        _bar(place * step, _LINE + _HEIGHT * (1 - bar.count / most),
             step - _GAP, _HEIGHT * bar.count / most, bar)
        for place, bar in enumerate(column.bars)
    ]  # fmt: skip
    base = _LINE + _HEIGHT
    low, high = column.span or (0.0, 0.0)
    parts.append(f'<line x1="0" x2="{_WIDTH}" y1="{base}" y2="{base}"/>')
    for x, value, anchor in (
        (0, low, "start"), (_WIDTH / 2, (low + high) / 2, "middle"), (_WIDTH, high, "end"),
    ):  # fmt: skip
        parts.append(_text(x, base + 16, f"{value:g}", anchor))
    parts.append(_text(0, 12, f"highest bar: {most if any(b.count for b in column.bars) else 0}"))
    return _picture(base + _LINE, parts)
