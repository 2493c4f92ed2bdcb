"""The page of a simulation: one HTML file that needs nothing else and loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from simulations import wording
from simulations.differences import against_pooled
from simulations.results import HospitalSummary, Result, Row
from simulations.subgroup_results import cells

_STYLE = """
:root { --ink: #1c2733; --quiet: #5b6875; --rule: #dfe4e9; --paper: #fff; --back: #f4f6f8;
  --accent: #00694d; --warn: #a63c00; --warn-back: #fdf0e7 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --quiet: #9aa7b4; --rule: #33404c;
  --paper: #1b232b; --back: #12181e; --accent: #4fc3a1; --warn: #ffb483; --warn-back: #3a2416 } }
* { box-sizing: border-box }
body { margin: 0; padding: 2.5rem 1rem 4rem; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 62rem; margin: 0 auto }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem }
.lead { color: var(--quiet); margin: 0 0 1.5rem }
.note { border-left: 4px solid var(--warn); background: var(--warn-back); color: var(--warn);
  padding: .7rem 1rem; margin: 0 0 1rem; border-radius: 0 6px 6px 0; font-weight: 600 }
.card { background: var(--paper); border: 1px solid var(--rule); border-radius: 10px;
  padding: .5rem 1.25rem; overflow-x: auto }
figure.card { background: #fff; margin: 0; padding: .5rem }
img { display: block; width: 100%; height: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .55rem .75rem; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
th:last-child, td:last-child { padding-right: 0 }
tbody tr:last-child > * { border-bottom: 0 }
thead th { color: var(--quiet); font-size: .85rem; font-weight: 600 }
tbody th { font-weight: 600 }
tr.private > .score { color: var(--accent); font-weight: 600 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .5rem 1.5rem; margin: .75rem 0 }
dt { font-weight: 600 } dd { margin: 0; color: var(--quiet) }
code { font: .85em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: .75rem } }
"""
# The browser itself keeps the page from loading or running anything.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_SCORE = (
    "Mean and standard deviation over models, on all hospitals' held-out patients, computed "
    "exactly: only a simulation can see them together."
)


def page(result: Result, png: bytes, task_png: bytes | None = None) -> str:
    """The page as text.

    Args:
        result: What it shows; every text of it is escaped.
        png: The picture, which becomes part of the page.
        task_png: A second one, of what the task is about.
    """
    title = escape(result.name)
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="lead">{escape(_lead(result))}</p>',
        *(f'<p class="lead">{escape(line)}</p>' for line in wording.tables(result)),
        *(f'<p class="note" role="note">{escape(note)}</p>' for note in result.notes),
        _figure(result, png),
        "<h2>Arms</h2>",
        _arms(result),
        *(f'<p class="lead">{escape(line)}</p>' for line in (against_pooled(result),) if line),
        "<h2>What the arms mean</h2>",
        _meanings(result.rows),
    ]
    if task_png is not None:
        told = f"What {result.name} is about: curves, values or forecasts of held-out records."
        # In place of a link to the file beside, which a page that is sent on would lose.
        parts += ["<h2>Of single models</h2>", _image(task_png, told)]
    if result.subgroups:
        parts += [f"<h2>{escape(result.measure.name)} by subgroup</h2>", _subgroups(result)]
    if result.hospitals:
        parts += ["<h2>Virtual hospitals at the first seed</h2>", _hospitals(result.hospitals)]
    parts += ["<h2>To check it</h2>", _facts(result)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _lead(result: Result) -> str:
    hospitals = f"{len(result.hospitals)} virtual hospitals, " if result.hospitals else ""
    seeds = wording.seeds(result)
    return f"{hospitals}{seeds}; simulated on one machine with public or synthetic data."


def _figure(result: Result, png: bytes) -> str:
    """The picture, and in words for who cannot see it."""
    words = "; ".join(
        f"{wording.label(row)}: {wording.score(row)}" for row in wording.ordered(result.rows)
    )
    return _image(png, f"{result.measure.title}. {words}.")


def _image(png: bytes, words: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure class="card"><img src="data:image/png;base64,{data}" '
        f'alt="{escape(words)}"></figure>'
    )


def _subgroups(result: Result) -> str:
    """Means over models, a line for each value of a marked column and for its gap."""
    heads, lines = cells(result.subgroups)
    rows = [
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in lines
    ]
    return _table(heads, rows)


def _arms(result: Result) -> str:
    head = ("Arm", "ε", "ε, worst case", result.measure.name, "Time per round", "Sent per round")
    return _table(head, [_arm(row) for row in wording.ordered(result.rows)])


def _arm(row: Row) -> str:
    cells = (
        wording.epsilon(row.epsilon),
        wording.epsilon(row.epsilon_worst),
        wording.score(row),
        wording.seconds(row.seconds_per_round),
        wording.size(row.bytes_up_per_round),
    )
    classes = ("", "", ' class="score"', "", "")
    kind = "" if row.epsilon is None else ' class="private"'
    words = f'<th scope="row">{escape(wording.label(row))}</th>' + "".join(
        f"<td{one}>{escape(cell)}</td>" for one, cell in zip(classes, cells, strict=True)
    )
    return f"<tr{kind}>{words}</tr>"


def _hospitals(hospitals: Iterable[HospitalSummary]) -> str:
    rows = [
        f'<tr><th scope="row">{escape(one.name)}</th><td>{one.train_size}</td>'
        f"<td>{one.test_size}</td><td>{one.positives:.0%}</td></tr>"
        for one in hospitals
    ]
    return _table(("Hospital", "Trains on", "Holds out", "Positive labels"), rows)


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<div class="card"><table><thead><tr>{names}</tr></thead>\n'
        "<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


def _meanings(rows: Iterable[Row]) -> str:
    present = {row.arm for row in rows}
    return _list(
        (words.label, words.meaning) for arm, words in wording.ARMS.items() if arm in present
    )


def _facts(result: Result) -> str:
    facts = [(result.measure.name, f"{result.measure.title}. {_SCORE}")]
    if wording.private(result):
        facts += [
            ("ε", f"At δ = {wording.delta(result)}, over the whole job, under the stated trust."),
            ("ε, worst case", "If all other hospitals collude with the coordinator."),
        ]
    facts.append(("Sent per round", "From all hospitals to the coordinator, in median."))
    facts = [(name, escape(text)) for name, text in facts]
    if result.model_sha256:
        digest = f"SHA-256 of the weights <code>{escape(result.model_sha256)}</code>"
        facts.append(("Last model", digest))
    return _list(facts, escaped=True)


def _list(pairs: Iterable[tuple[str, str]], *, escaped: bool = False) -> str:
    items = (
        f"<dt>{escape(name)}</dt><dd>{text if escaped else escape(text)}</dd>"
        for name, text in pairs
    )
    return "<dl>" + "\n".join(items) + "</dl>"
