"""Attacks for people: a table and two pictures; and for programs, JSON."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from simulations.attack_curves import curves
from simulations.attack_jobs import Defence
from simulations.attack_picture import picture
from simulations.attack_results import Attacks
from simulations.attack_score import Score, share_text
from simulations.output import document, write

HEADS = {"none": "none", "noise": "noise", "encryption": "encryp-\ntion", "both": "both"}
_MUCH = 0.5


def table(attacks: Attacks) -> Table:
    """The results as a table for the terminal, the verdict below."""
    shown = Table(
        title=Text(attacks.config.name, style="bold"),
        title_justify="left",
        caption=_caption(attacks),
        caption_justify="left",
        padding=(0, 1, 0, 0),
    )
    columns = _columns(attacks)
    for name in ("attack", "records", "read by"):
        shown.add_column(name, no_wrap=True)
    for defence in columns:
        shown.add_column(_head(defence), justify="right", no_wrap=True)
    for line in attacks.lines:
        cells = [coloured(line.scores[defence]) for defence in columns]
        shown.add_row(line.attack, line.amount, line.reader, *cells)
    if attacks.lines and attacks.told:
        shown.add_section()
    for told in attacks.told:
        numbers = [f"{told.guesses[defence].auroc:.2f}" for defence in columns]
        shown.add_row("membership", str(told.pool), told.reader, *numbers)
    return shown


def coloured(score: Score) -> Text:
    """A share of records, green where none came back and red where many did."""
    if not score.hits:
        return Text(share_text(score), style="green")
    return Text(share_text(score), style="bold red" if score.share >= _MUCH else "yellow")


def save(attacks: Attacks, folder: Path) -> tuple[Path, ...]:
    """Write attacks.json and the pictures of what was tried, in place of older ones.

    Args:
        attacks: What was found.
        folder: Where to write; made when it is missing.

    Raises:
        InputError: The folder cannot be written to.
    """
    contents = {"attacks.json": document(attacks)}
    if attacks.lines:
        contents["records.png"] = picture(attacks)
    if attacks.told:
        contents["membership.png"] = curves(attacks)
    return write(folder, contents)


def _columns(attacks: Attacks) -> tuple[Defence, ...]:
    every = [line.scores for line in attacks.lines] + [told.guesses for told in attacks.told]
    return tuple(every[0])


def _head(defence: Defence) -> str:
    head = HEADS[defence.kind]
    return head if defence.epsilon is None else f"{head}\nε {defence.epsilon:g}"


def _caption(attacks: Attacks) -> Text:
    parts = []
    if attacks.lines:
        parts.append("inversion, matching, imprint: records that came back")
    if attacks.told:
        parts.append("membership: AUROC of guessing who was in, 0.5 is chance")
    caption = Text("; ".join(parts) + f"; δ = {attacks.config.delta:g}")
    caption.append(f"\n{attacks.verdict}", style="bold green" if attacks.passed else "bold red")
    for note in attacks.notes:
        caption.append(f"\n{note}", style="yellow")
    return caption
