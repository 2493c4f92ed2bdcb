"""An inspection as one HTML page with plots, for the hospital's own eyes.

The page asks for nothing from anywhere: no script, no picture, no font. What stands in it are names
and words of the schema, counts and verdicts, never a value of a record.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from client.data.findings import Bar, ColumnProfile, Profile
from protocol.errors import InputError

_WIDTH, _HEIGHT, _GAP = 480, 96, 1
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}tr{border-bottom:1px solid #ddd}
.ok{color:#17693a}.bad{color:#a3190f;font-weight:600}.note{background:#fff6d8;padding:.7rem 1rem}
svg{width:100%;max-width:480px;height:auto}rect{fill:#39699c}figure{margin:1rem 0}
figcaption{color:#555}
"""
_HEADS = ("column", "kind", "missing", "unreadable", "outside", "unknown", "verdict", "remedy")


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
    yield "<h2>Classes</h2>" + _plot([Bar(*pair) for pair in found.classes.items()])
    yield "<h2>Columns</h2>" + _table(found.columns)
    if found.dropped:
        tags = ", ".join(map(html.escape, found.dropped))
        yield f"<h2>Tags that no record keeps</h2><p>{tags}</p>"
    yield "<h2>Distributions</h2>"
    for column in found.columns:
        if column.bars:
            yield f"<h3>{html.escape(column.name)}</h3>{_plot(column.bars)}"
    yield "</body></html>\n"


def _table(columns: Sequence[ColumnProfile]) -> str:
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    return f"<table><tr>{head}</tr>{''.join(map(_row, columns))}</table>"


def _row(column: ColumnProfile) -> str:
    counts = (column.missing, column.unreadable, column.outside, column.unknown)
    cells = [f"<td>{html.escape(column.name)}</td><td>{column.kind}</td>"]
    cells += [f'<td class="n">{count}</td>' for count in counts]
    cells.append(f'<td class="{"ok" if column.clean else "bad"}">{column.verdict}</td>')
    cells.append(f"<td>{html.escape(column.remedy)}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _plot(bars: Sequence[Bar]) -> str:
    """Bars side by side; each tells its label and count when it is pointed at."""
    most = max((bar.count for bar in bars), default=0) or 1
    step = _WIDTH / max(len(bars), 1)
    drawn = []
    for place, bar in enumerate(bars):
        height = _HEIGHT * bar.count / most
        told = html.escape(f"{bar.label}: {bar.count}")
        drawn.append(
            f'<rect x="{place * step:.2f}" y="{_HEIGHT - height:.2f}" width="{step - _GAP:.2f}" '
            f'height="{height:.2f}"><title>{told}</title></rect>'
        )
    ends = " … ".join(dict.fromkeys((bars[0].label, bars[-1].label))) if bars else ""
    caption = f"{html.escape(ends)}; highest bar {most if bars else 0}"
    box = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(drawn)}</svg>'
    return f"<figure>{box}<figcaption>{caption}</figcaption></figure>"
