"""Images and series: one array a record, read from an archive or from a file each."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.data.config import ImagesConfig
from client.data.naming import listed
from client.data.source import BATCH_ROWS, Source, rows_of
from client.data.tabular import CsvSource
from learning.task import Cells, Table
from protocol.errors import InputError

Array = npt.NDArray[Any]

# What a batch of arrays may weigh as float64: 64 MB.
BATCH_CELLS = 1 << 23
PARTS = ("train", "val", "test")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})


@dataclass(frozen=True)
class NpzSource:
    """Arrays of one archive; see `client.data.config.NpzConfig`. It is decompressed at once.

    Args:
        path: The archive.
    """

    path: Path

    def columns(self) -> tuple[str, ...]:
        """Names of the archive's arrays, those of MedMNIST's parts taken together."""
        with self._archive() as archive:
            parts = _columns(archive.files)
            named = {name: [name] for name in parts}
            if "label" in parts:
                first = self._column("label", [archive[parts["label"][0]]])
                named["label"] = [*_apart("label", first)]
        return tuple(own for names in named.values() for own in names)

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """The named columns; see `client.data.source.Source`."""
        with self._archive() as archive:
            parts = _columns(archive.files)
            whole = {name: self._column(name, [archive[p] for p in parts[name]]) for name in parts}
        table = {own: part for name in whole for own, part in _apart(name, whole[name]).items()}
        lengths = {len(array) for array in table.values()}
        if len(lengths) > 1:
            raise InputError(f"{self.path}: arrays differ in length")
        size = max((array[:1].size for array in table.values()), default=1)
        step = min(rows, max(1, BATCH_CELLS // max(size, 1)))
        for start in range(0, max(lengths, default=0), step):
            yield {name: _cells(table[name][start : start + step]) for name in columns}

    def _column(self, name: str, parts: list[Array]) -> Array:
        """The parts of a column, with channels first and labels in one row."""
        if len({part.shape[1:] for part in parts}) > 1 or not all(part.ndim for part in parts):
            raise InputError(f"{self.path}: parts of {name!r} differ in shape")
        array = np.concatenate(parts)
        if array.ndim == 2 and array.shape[1] == 1:
            return array[:, 0]
        if name != "image":
            return array
        return array[:, None] if array.ndim == 3 else np.moveaxis(array, -1, 1)

    @contextmanager
    def _archive(self) -> Iterator[np.lib.npyio.NpzFile]:
        """The open archive; nothing in it is ever unpickled."""
        wrong = InputError(f"{self.path}: no readable NumPy archive", expected="an .npz file")
        try:
            with self.path.open("rb") as file:
                archive = np.load(file, allow_pickle=False)
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise wrong
                with archive:
                    yield archive
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            raise wrong from None


def _columns(files: Sequence[str]) -> dict[str, list[str]]:
    """From each column to the arrays that it is made of."""
    columns: dict[str, list[str]] = {}
    for what, column in (("images", "image"), ("labels", "label")):
        parts = [f"{part}_{what}" for part in PARTS if f"{part}_{what}" in files]
        if parts:
            columns[column] = parts
    taken = {part for parts in columns.values() for part in parts}
    return columns | {name: [name] for name in files if name not in {*taken, *columns}}


def _apart(name: str, array: Array) -> dict[str, Array]:
    """Several labels a record as a column each, everything else as it is."""
    if name != "label" or array.ndim != 2:
        return {name: array}
    return {f"label_{place}": array[:, place] for place in range(array.shape[1])}


def _cells(array: Array) -> Cells:
    """Text and flags as a list, numbers as they are."""
    return array if array.dtype.kind in "fiu" else [str(value) for value in array.tolist()]


@dataclass(frozen=True)
class IndexedSource:
    """A table, and for each of its records a file with an array.

    Args:
        folder: Where the files are.
        index: The table.
        file: Its column with a file's path inside the folder.
        name: The array's column.
        load: The array of a file; every record's may be of another length along the first axis.
    """

    folder: Path
    index: Source
    file: str
    name: str
    load: Callable[[Path], Array]

    def columns(self) -> tuple[str, ...]:
        """The table's columns and the array's."""
        names = self.index.columns()
        if self.file not in names or self.name in names:
            raise InputError(
                "index",
                expected=f"a column {self.file!r} with paths, and none called {self.name!r}",
                found=listed(names, [self.file]),
            )
        return (*names, self.name)

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """The named columns; see `client.data.source.Source`."""
        self.columns()
        scalars = [name for name in columns if name != self.name]
        asked = tuple(dict.fromkeys((*scalars, self.file)))
        if self.name not in columns:
            yield from self.index.batches(scalars, rows)
            return
        for table in self.index.batches(asked, min(rows, _files_at_once(self))):
            arrays = [self.load(self.inside(name)) for name in table[self.file]]
            yield {name: table[name] for name in scalars} | {self.name: stacked(arrays)}

    def inside(self, name: object) -> Path:
        """A file of the folder, and none outside it."""
        path = (self.folder / str(name)).resolve()
        if name is None or not path.is_relative_to(self.folder.resolve()):
            raise InputError(f"index column {self.file!r}: a path that is not inside the folder")
        return path


def _files_at_once(source: IndexedSource) -> int:
    """So many files that their arrays fit into a batch, if all are like the first."""
    for table in source.index.batches([source.file], 1):
        first = source.load(source.inside(table[source.file][0]))
        return max(1, BATCH_CELLS // max(first.size, 1))
    return 1


def stacked(arrays: Sequence[Array]) -> Array:
    """N arrays T x ... as one N x T x ..., shorter ones filled up with NaN along their first axis.

    Args:
        arrays: Each T x ..., T maybe another one, all other sizes alike: shapes of one kind.

    >>> stacked([np.array([[1.0], [2.0]]), np.array([[3.0]])]).tolist()
    [[[1.0], [2.0]], [[3.0], [nan]]]
    """
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    if len({array.shape[1:] for array in arrays}) > 1:
        raise InputError("arrays of one data set differ in more than their length")
    full = np.full((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), np.nan)
    for place, array in enumerate(arrays):
        full[place, : len(array)] = array
    return full


def load_series(path: Path) -> Array:
    """The series T x C of an `.npy` file, time first; one without channels has one."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        array = None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.ndim > 2:
        raise InputError(f"{path}: no readable series", expected=".npy with axes time and channel")
    return array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)


@dataclass(frozen=True)
class ImageFolder:
    """Images of a folder; see `client.data.config.ImagesConfig`.

    Args:
        base: Folder that relative paths start from.
        config: Which images, and what size they are brought to.
    """

    base: Path
    config: ImagesConfig

    def columns(self) -> tuple[str, ...]:
        """The index' columns, or file, label and patient; and the image."""
        return self._files().columns()

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """The named columns; see `client.data.source.Source`."""
        return self._files().batches(columns, rows)

    def _files(self) -> IndexedSource:
        folder = self.base / self.config.path
        index: Source = (
            _Classes(folder, self.config.file, self.config.patient)
            if self.config.index is None
            else CsvSource(self.base / self.config.index)
        )
        return IndexedSource(folder, index, self.config.file, "image", self._load)

    def _load(self, path: Path) -> Array:
        return load_image(path, self.config.size, colour=self.config.colour)


@dataclass(frozen=True)
class _Classes:
    """The table of a folder whose folders are classes."""

    folder: Path
    file: str
    patient: str | None

    def columns(self) -> tuple[str, ...]:
        """File, label, and the patient where a pattern says how to find it."""
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder")
        return (self.file, "label", *(("patient",) if self.patient else ()))

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """All images, by class and name."""
        self.columns()
        files = sorted(path for path in self.folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
        for start in range(0, len(files), rows):
            records = [self._record(path) for path in files[start : start + rows]]
            yield rows_of(columns, [[record[name] for name in columns] for record in records])

    def _record(self, path: Path) -> Mapping[str, str | None]:
        found = re.search(self.patient, path.name) if self.patient else None
        return {
            self.file: str(path.relative_to(self.folder)),
            "label": path.parent.name,
            "patient": found[1] if found else None,
        }


def load_image(path: Path, size: tuple[int, int], *, colour: bool) -> Array:
    """An image, channel x height x width, from 0 to 255 (to 65535 if it has 16 bits)."""
    from PIL import Image  # noqa: PLC0415 - only image sources need it

    try:
        with Image.open(path) as image:
            deep = image.mode.startswith("I") and not colour
            plain = image if deep else image.convert("RGB" if colour else "L")
            array = np.asarray(plain.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: no readable image", found=type(error).__name__) from None
    return np.moveaxis(array, -1, 0) if colour else array[None]
