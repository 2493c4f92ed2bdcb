"""Jobs and hospitals as aligned tables: what a person at the coordinator sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from learning.result_names import GAP, headline
from server.history import Record
from server.launch import Event

_UNITS = ("B", "kB", "MB", "GB", "TB")
_STYLES = {"completed": "green", "failed": "red", "stopped": "yellow", "running": "cyan"}


def progress_table(record: Record, events: Sequence[Event], *, last: int = 12) -> Table:
    """One job under way: a line for each exchange, the newest last.

    Args:
        record: The job's figures.
        events: What happened so far.
        last: How many lines at most.
    """
    table = plain_table(f"{record.name} {record.digest[:8]}", _caption(record))
    table.add_column("what")
    for column in ("round", "hospitals", "seconds", "up", "down"):
        table.add_column(column, justify="right")
    table.add_column("detail", overflow="fold")
    for event in events[-last:]:
        table.add_row(
            event.kind,
            f"{event.round}/{record.rounds}" if event.round else "",
            str(len(event.sites)),
            f"{event.seconds:.1f}",
            size(event.bytes_up),
            size(event.bytes_down),
            _detail(event),
        )
    return table


def event_line(event: Event) -> str:
    """One event for a log or a pipe."""
    parts = [f"{event.kind:<10}", f"round {event.round:>3}", f"{len(event.sites)} hospitals"]
    parts += [f"{event.seconds:7.1f} s", f"up {size(event.bytes_up):>8}"]
    parts += [f"down {size(event.bytes_down):>8}", _detail(event)]
    return "  ".join(parts).rstrip()


def jobs_table(records: Iterable[Record], title: str) -> Table:
    """One line for each job, below them all why it failed and its gaps; fits 80 columns."""
    records = tuple(records)
    remarks = [f"{one.name} {one.digest[:8]}: {one.reason}" for one in records if one.reason]
    for one in records:
        gaps = {name: told for name, told in one.metrics.items() if name.startswith(GAP)}
        remarks += [f"{one.name} {one.digest[:8]}: {metrics_line(gaps)}"] if gaps else []
    table = plain_table(title, "\n".join(remarks))
    table.add_column("job", overflow="fold")
    table.add_column("digest", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for column in ("round", "sites", "epsilon", "worst", "time", "moved"):
        table.add_column(column, justify="right", no_wrap=True)
    for record in records:
        table.add_row(
            record.name,
            record.digest[:8],
            painted(record.status),
            f"{record.round}/{record.rounds}",
            str(len(record.sites)),
            number(record.epsilon),
            number(record.epsilon_worst),
            duration(record.seconds),
            size(record.bytes_up + record.bytes_down),
        )
    return table


def hospitals_table(hospitals: Mapping[str, bool]) -> Table:
    """One line for each hospital of the roster."""
    table = plain_table("Hospitals")
    table.add_column("hospital")
    table.add_column("node")
    for name, online in hospitals.items():
        table.add_row(name, "[green]connected[/]" if online else "[red]away[/]")
    return table


def metrics_line(metrics: Mapping[str, Sequence[float]]) -> str:
    """Pooled metrics with their 95 % intervals, gaps among them but no single subgroup.

    >>> metrics_line({"auroc": (0.912, 0.88, 0.94), "auroc@sex=male": (0.9, 0.8, 1.0)})
    'auroc 0.912 (0.880 to 0.940)'
    """
    return ", ".join(
        f"{name} {value:.3f} ({low:.3f} to {high:.3f})"
        for name, (value, low, high) in headline(metrics).items()
    )


def painted(status: str) -> str:
    """A status in its colour, as rich's markup.

    >>> painted("failed"), painted("waiting")
    ('[red]failed[/]', 'waiting')
    """
    style = _STYLES.get(status)
    return f"[{style}]{status}[/]" if style else status


def size(count: float) -> str:
    """Bytes for people.

    >>> size(0), size(999), size(12_345_678)
    ('0 B', '999 B', '12.3 MB')
    """
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(42), duration(63), duration(7260)
    ('42 s', '1:03 min', '2:01 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    large, small, unit = (whole // 60, whole % 60, "min")
    if whole >= 3600:
        large, small, unit = (whole // 3600, whole % 3600 // 60, "h")
    return f"{large}:{small:02} {unit}"


def number(value: float | None) -> str:
    """A figure with four digits, or that there is none.

    >>> number(1.0), number(2.34567), number(None)
    ('1', '2.346', 'none')
    """
    return "none" if value is None else f"{value:.4g}"


def plain_table(title: str, caption: str = "") -> Table:
    """A table without lines between its columns: it fits 80 columns, and pipes well."""
    return Table(
        title=title,
        caption=Text(caption) if caption else None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _detail(event: Event) -> str:
    return "; ".join(part for part in (event.detail, metrics_line(event.metrics)) if part)


def _caption(record: Record) -> str:
    parts = [record.status, record.reason, f"{record.seconds:.0f} s"]
    parts += [f"{size(record.bytes_up)} up, {size(record.bytes_down)} down"]
    parts += [metrics_line(record.metrics)]
    return "; ".join(part for part in parts if part)
