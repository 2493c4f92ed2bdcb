"""An audit for people: a table and a picture; and for programs, JSON."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from simulations.audit import Audit
from simulations.audit_evidence import Check
from simulations.audit_picture import picture
from simulations.output import document, write


def table(audit: Audit) -> Table:
    """The checks as a table for the terminal, the verdict below."""
    shown = Table(
        title=Text(audit.config.name, style="bold"),
        title_justify="left",
        caption=_caption(audit),
        caption_justify="left",
    )
    shown.add_column("check", no_wrap=True)
    shown.add_column("", no_wrap=True)
    shown.add_column("p", justify="right", no_wrap=True)
    shown.add_column("finding")
    for check in audit.checks:
        shown.add_row(check.name, _outcome(check), p_text(check), check.finding)
    return shown


def save(audit: Audit, folder: Path) -> tuple[Path, ...]:
    """Write audit.json and audit.png, in place of older ones.

    Args:
        audit: What was found.
        folder: Where to write; made when it is missing.

    Raises:
        InputError: The folder cannot be written to.
    """
    return write(folder, {"audit.json": document(audit), "audit.png": picture(audit)})


def p_text(check: Check) -> str:
    """A p-value as people read it, empty where a check has none.

    >>> p_text(Check(name="noise", passed=True, p_value=0.0312, finding=""))
    '0.031'
    """
    if check.p_value is None:
        return ""
    if check.p_value < 1e-11:
        return "< 1e-11"
    return f"{check.p_value:.2g}"


def _outcome(check: Check) -> Text:
    return Text("ok", style="green") if check.passed else Text("ALARM", style="bold red")


def _caption(audit: Audit) -> Text:
    caption = Text(audit.verdict, style="bold green" if audit.passed else "bold red")
    for note in audit.notes:
        caption.append(f"\n{note}", style="bold red")
    return caption
