"""What every benchmark prints: the machine, the versions, and a table or JSON of its rows."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from protocol.errors import InputError

Cell = str | int | float | None
Row = Mapping[str, Cell]

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 150


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks share; scripts add their own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        type=_target,
        help="print the rows as a JSON list; with FILE write machine, versions and rows there",
    )
    return parser


def from_on(least: int) -> Callable[[str], int]:
    """What reads a whole number of a command line, refused where it is less.

    >>> from_on(3)("4")
    4
    """

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            told = f"expected a whole number from {least} on; found {text!r}"
            raise argparse.ArgumentTypeError(told)
        return int(text)

    return read


how_many = from_on(1)
hospitals = from_on(3)
"""A sum of two hospitals tells each the other's part, and no job runs."""


def above_zero(text: str) -> float:
    """A finite number above 0, of a command line.

    Raises:
        ArgumentTypeError: It is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0; found {text!r}")
    return number


@contextmanager
def refusing(parser: argparse.ArgumentParser) -> Iterator[None]:
    """What is wrong with what a person asked for is one line, as with an option of a wrong form."""
    try:
        yield
    except InputError as error:
        parser.error(str(error))


def _target(text: str) -> str:
    """Where rows go, refused before hours of measurement where that cannot be."""
    path = Path(text).resolve()
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text}: nothing can be written into {path.parent}")
    if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
        raise argparse.ArgumentTypeError(f"{text}: no file that can be written")
    return text


def machine() -> dict[str, str | int | float]:
    """The day, the processor, cores that this process may use, memory, and how busy it all is."""
    facts = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":")[1].strip() for line in facts if "model name" in line), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": model or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "load": round(os.getloadavg()[0], 2),
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Python's version and those of distributions."""
    return {"Python": platform.python_version(), **{name: version(name) for name in packages}}


def publish(
    title: str,
    rows: Sequence[Row],
    *,
    target: str | None,
    packages: Sequence[str] | None = None,
    headings: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print the rows, or write them.

    Args:
        title: What the table shows, with its unit if there is one for all.
        rows: The rows; the first one's keys are the columns.
        target: What `--json` was given: None, "-" or a file.
        packages: Distributions whose versions matter; None for a further table of the same run.
        headings: Keys in the order of the columns, and what stands above them.
        notes: Lines below the table.
    """
    if target == "-":
        print(json.dumps(list(rows), indent=2))
        return
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    columns = dict(headings) if headings else {key: key for key in rows[0]}
    for key, heading in columns.items():
        words = any(isinstance(row.get(key), str) for row in rows)
        table.add_column(heading, justify="left" if words else "right")
    for row in rows:
        table.add_row(*(cell(row.get(key)) for key in columns))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    where, used = machine(), versions(packages or ())
    if packages is not None:
        facts = [f"{where['date']}; {where['cpu']}"]
        facts += [f"{where['cores']} cores, {where['memory_gib']} GiB"]
        facts += [f"load {where['load']}", *(f"{name} {number}" for name, number in used.items())]
        console.print("; ".join(facts), highlight=False)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    if target:
        whole = {"machine": where, "versions": used, "rows": list(rows)}
        Path(target).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def cell(value: Cell) -> str:
    """A number to three digits, or to the unit from 100 on.

    >>> [cell(value) for value in (0.012345, 1.5, 1234567.8, 7, "x", None)]
    ['0.0123', '1.50', '1,234,568', '7', 'x', '']
    """
    if isinstance(value, float):
        if value and not 1e-4 <= abs(value) < 1e9:
            return f"{value:.2e}"
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}" if value else "0"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else value


def own_environment(name: str, packages: Sequence[str], *, install: bool) -> Path | None:
    """The interpreter of an environment that only one benchmark uses, never the project's own.

    Args:
        name: The environment's folder inside .venv.
        packages: What pip is to install there.
        install: Whether to make it when it is missing.

    Returns:
        The interpreter, None where there is no such environment and none was asked for.
    """
    folder = ROOT / ".venv" / "benchmarks" / name
    interpreter, done = folder / "bin" / "python", folder / "installed"
    if install and not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *packages], check=True)
        done.touch()
    return interpreter if done.exists() else None
