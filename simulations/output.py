"""What `simulate`, `audit` and `attack` have in common: options, and where results go."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.table import Table

from protocol.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # slow to import

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


class Found(Protocol):
    """What a run found."""

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON's types."""


def folder_for(asked: Path | None, otherwise: Path) -> Path:
    """Where results will be written, found out before the work begins.

    Raises:
        InputError: A file stands in the way, or nothing may be written there.
    """
    folder = asked or otherwise
    check_folder(folder, "--out")
    return folder


def check_folder(folder: Path, option: str) -> None:
    """Refuse a folder that cannot be.

    Raises:
        InputError: A file stands in the way, or nothing may be written there.
    """
    place = next(one for one in (folder, *folder.parents) if one.exists())
    if not place.is_dir():
        raise InputError(f"{folder}: {place} is no folder", remedy=f"choose {option}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: nothing may be written here", remedy=f"choose {option}")


def write(folder: Path, contents: Mapping[str, bytes]) -> tuple[Path, ...]:
    """Write files, in place of older ones.

    Args:
        folder: Where to write; made when it is missing.
        contents: What, by the file's name.

    Returns:
        The files.

    Raises:
        InputError: The folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise InputError(
            f"{folder}: results cannot be written", found=error.strerror, remedy="choose --out"
        ) from error
    return tuple(folder / name for name in contents)


def document(found: Found) -> bytes:
    """What was found as a JSON file."""
    told = json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{told}\n".encode()


def png(figure: Figure, dpi: float) -> bytes:
    """A picture as the bytes of a PNG file; equal pictures give equal bytes."""
    file = io.BytesIO()
    # The library would write its version into the file.
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def tell(
    found: Found, tables: Iterable[Table], saved: Iterable[Path], console: Console, *, as_json: bool
) -> None:
    """Print what was found, and on the console of progress where it was saved."""
    if as_json:
        typer.echo(json.dumps(found.to_json()))
        return
    for table in tables:
        Console().print(table)
    console.print("Saved " + ", ".join(str(path) for path in saved), soft_wrap=True)
