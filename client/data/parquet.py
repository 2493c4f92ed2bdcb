"""Records from Parquet files: typed columns, without a value ever going through text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from client.data.source import BATCH_ROWS, needs, plain
from learning.task import Cells, Table
from protocol.errors import InputError

if TYPE_CHECKING:
    import polars as pl

# Each may be an image or a series.
_ARRAY_ROWS = 1024


@dataclass(frozen=True)
class ParquetSource:
    """A Parquet file, or a folder of such files with the same columns, in the order of their names.

    Args:
        path: The file or folder.
    """

    path: Path

    def columns(self) -> tuple[str, ...]:
        """The file's columns; only its footer is read."""
        with self._readable():
            return tuple(self._scan().collect_schema().names())

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """The named columns; see `client.data.source.Source`."""
        with self._readable():
            scan = self._scan().select(columns)
            if any(dtype.is_nested() for dtype in scan.collect_schema().dtypes()):
                rows = min(rows, _ARRAY_ROWS)
            frames = scan.collect_batches(chunk_size=rows)
            for frame in frames:
                # The engine may hand over more than it was asked for.
                for part in frame.iter_slices(rows):
                    yield {name: _cells(self.path, part[name]) for name in columns}

    def _scan(self) -> pl.LazyFrame:
        with needs("parquet", "Parquet"):
            import polars as pl  # noqa: PLC0415 - its threads must begin in the process that reads
        files = sorted(self.path.glob("*.parquet")) if self.path.is_dir() else [self.path]
        if not files:
            raise InputError(f"{self.path}: no file in this folder ends in .parquet")
        return pl.scan_parquet(files)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """What the reader says may quote the file, so it is not passed on."""
        with needs("parquet", "Parquet"):
            from polars.exceptions import PolarsError  # noqa: PLC0415
        try:
            yield
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read", found=error.strerror) from None
        except PolarsError as error:
            raise InputError(
                f"{self.path}: no readable Parquet",
                expected="files with the same columns and types",
                found=type(error).__name__,
            ) from None


def _cells(path: Path, series: pl.Series) -> Cells:
    """A column as a table holds it; of numbers and lists of them, an array."""
    if series.dtype.is_nested():
        return _array(path, series)
    if series.dtype.is_float():
        # NaN is what a failed computation left, and not an empty cell.
        return series.to_list() if series.is_nan().any() else series.to_numpy()
    if series.dtype.is_integer() and not series.null_count():
        return series.to_numpy()
    return [plain(value) for value in series.to_list()]


def _array(path: Path, series: pl.Series) -> Cells:
    """Lists of equally many numbers as one array; NaN where there is none."""
    import polars as pl  # noqa: PLC0415

    wrong = InputError(
        f"{path}: lists of {series.name!r} differ in length or are no numbers",
        expected="as many numbers in each row",
        remedy="fill up the shorter ones with empty values",
    )
    if isinstance(series.dtype, pl.List):
        lengths = series.list.len().drop_nulls().unique()
        if len(lengths) > 1:
            raise wrong
        series = series.list.to_array(int(lengths[0]) if len(lengths) else 0)
    if not isinstance(series.dtype, pl.Array) or not _inmost(series.dtype).is_numeric():
        raise wrong
    array = np.full((len(series), *series.dtype.shape), np.nan)
    present_N = series.is_not_null().to_numpy()
    flat = series.drop_nulls().reshape((-1,)).cast(pl.Float64).to_numpy()
    array[present_N] = flat.reshape(-1, *array.shape[1:])
    return array


def _inmost(dtype: pl.DataType) -> pl.DataType:
    inner: pl.DataType | None = getattr(dtype, "inner", None)
    return dtype if inner is None else _inmost(inner)
