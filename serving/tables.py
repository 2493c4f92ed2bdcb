"""Tables of a prediction: CSV and Parquet files, batch after batch.

Cells of a CSV file are text as they stand; those of a Parquet file keep their type. No message
holds a cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from learning.task import Cells
from protocol.errors import InputError

SUFFIXES = (".csv", ".parquet")
Columns = Mapping[str, Sequence[Any]]


def check_suffix(path: Path) -> None:
    """Refuse a file whose name does not say what it is.

    Raises:
        InputError: Its name ends otherwise.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}", expected="a name that ends with .csv or .parquet")


def header_of(path: Path) -> tuple[str, ...]:
    """The columns' names.

    Raises:
        InputError: The file cannot be read, has no header, or a name occurs twice.
    """
    check_suffix(path)
    if path.suffix == ".csv":
        with _opened(path) as file:
            names = tuple(name.strip() for name in next(csv.reader(file), ()))
    else:
        names = tuple(_scanned(path).collect_schema().names())
    if not names or len(set(names)) < len(names):
        raise InputError(f"{path}: header", expected="columns that are named, each once")
    return names


def batches_of(path: Path, names: Sequence[str], rows: int, skipped: int) -> Iterator[Columns]:
    """The named columns, `rows` rows at a time.

    Args:
        path: The file.
        names: Columns of it.
        rows: Rows of a batch.
        skipped: Rows to leave out at the beginning.

    Raises:
        InputError: The file cannot be read, or a row has more or fewer cells than the header.
    """
    if path.suffix == ".csv":
        yield from _of_csv(path, names, rows, skipped)
    else:
        yield from _of_parquet(path, names, rows, skipped)


def cells_of(kind: str, values: Sequence[Any]) -> Cells:
    """A column's values as preprocessing takes them."""
    if kind == "number" and values and not any(isinstance(one, str) for one in values):
        return np.array([np.nan if one is None else one for one in values], dtype=np.float64)
    return values


def write_part(path: Path, columns: Columns, *, header: bool) -> None:
    """Write columns into a new file; of Parquet every part stands for itself.

    Args:
        path: The file, `.csv` or `.parquet`.
        columns: Equally long columns.
        header: Whether a CSV file begins with the names.
    """
    if path.suffix == ".parquet":
        _polars().DataFrame(dict(columns), strict=False).write_parquet(path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if header:
            writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def join_parts(parts: Sequence[Path], target: Path) -> None:
    """Put parts together in their order."""
    if target.suffix == ".parquet":
        polars = _polars()
        # A part in which a column has no value does not know the column's type.
        frames = [polars.scan_parquet(part) for part in parts]
        polars.concat(frames, how="vertical_relaxed").sink_parquet(target)
        return
    with target.open("wb") as whole:
        for part in parts:
            with part.open("rb") as file:
                while block := file.read(io.DEFAULT_BUFFER_SIZE * 16):
                    whole.write(block)


def _of_csv(path: Path, names: Sequence[str], rows: int, skipped: int) -> Iterator[Columns]:
    header = header_of(path)
    places, row = [header.index(name) for name in names], skipped
    with _opened(path) as file:
        reader = csv.reader(file)
        try:
            for _ in islice(reader, skipped + 1):
                pass
            while lines := list(islice(reader, rows)):
                for line in lines:
                    row += 1
                    if len(line) != len(header):
                        raise InputError(
                            f"{path}: row {row}",
                            expected=f"{len(header)} cells, as the header has",
                            found=str(len(line)),
                        )
                yield {
                    name: [line[place] for line in lines]
                    for name, place in zip(names, places, strict=True)
                }
        except (csv.Error, UnicodeDecodeError):
            raise InputError(f"{path}: near row {row + 1}", expected="CSV in UTF-8") from None


def _of_parquet(path: Path, names: Sequence[str], rows: int, skipped: int) -> Iterator[Columns]:
    frame = _scanned(path).select(names)
    start = skipped
    while True:
        batch = frame.slice(start, rows).collect()
        if not len(batch):
            return
        yield {name: _plain(path, name, batch[name].to_list()) for name in names}
        start += len(batch)


def _plain(path: Path, name: str, values: list[Any]) -> list[Any]:
    if all(isinstance(one, str | int | float | None) for one in values):
        return values
    raise InputError(f"{path}: column {name!r}", expected="numbers, text or flags")


def _opened(path: Path) -> io.TextIOWrapper:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise InputError(f"{path}: cannot be read", found=error.strerror) from None


def _scanned(path: Path) -> Any:
    polars = _polars()
    if not path.is_file():
        raise InputError(f"{path}: cannot be read", found="no such file")
    try:
        frame = polars.scan_parquet(path)
        frame.collect_schema()
    except (polars.exceptions.PolarsError, OSError):
        raise InputError(f"{path}: cannot be read", expected="a Parquet file") from None
    return frame


def _polars() -> Any:
    try:
        import polars  # noqa: PLC0415 - a large package, for who has such files
    except ModuleNotFoundError:
        raise InputError(
            "Parquet files need the package polars", remedy="install fedward[parquet], or use CSV"
        ) from None
    return polars
