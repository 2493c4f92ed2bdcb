"""Records from DICOM files: pixels and named tags, and nothing else of a header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from client.data.arrays import IndexedSource
from client.data.config import DicomConfig
from client.data.deidentify import dropped, objections
from client.data.source import BATCH_ROWS, needs, plain
from client.data.tabular import CsvSource
from learning.task import Table
from protocol.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DicomSource:
    """Images of a folder; see `client.data.config.DicomConfig`.

    Guarantee: an image whose header says that its pixels may show who it is of is refused, by the
    name of its file; of a header nothing is kept but the tags that the configuration names.

    Args:
        base: Folder that relative paths start from.
        config: Which images, what size they are brought to, and which tags become columns.
    """

    base: Path
    config: DicomConfig

    def columns(self) -> tuple[str, ...]:
        """The index' columns, the named tags and the image."""
        names = self._files().columns()
        twice = {*names} & {*self.config.tags}
        if twice:
            raise InputError(f"tags.{min(twice)}: the index has a column of this name")
        return (*names, *self.config.tags)

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """The named columns; see `client.data.source.Source`."""
        self.columns()
        tags = {name: self.config.tags[name] for name in columns if name in self.config.tags}
        rest = [name for name in columns if name not in tags]
        asked = tuple(dict.fromkeys((*rest, self.config.file)))
        for table in self._files().batches(asked, rows):
            found = {name: table[name] for name in rest}
            if tags:
                headers = [self.headers(str(file))[0] for file in table[self.config.file]]
                found |= {
                    name: [_value(header, keyword) for header in headers]
                    for name, keyword in tags.items()
                }
            yield found

    def headers(self, file: str) -> list[Dataset]:
        """The headers of a record's files, without pixels."""
        return [_read(path, pixels=False) for path in _slices(self._files().inside(file))]

    def identifying(self) -> tuple[str, ...]:
        """Keywords of identifying tags that any of the files has, and that no record keeps.

        Raises:
            InputError: An image's pixels may show who it is of.
        """
        names: set[str] = set()
        for table in self._files().batches([self.config.file]):
            for file in table[self.config.file]:
                for header in self.headers(str(file)):
                    _refuse(self.base / self.config.path / str(file), header)
                    names.update(dropped(header))
        return tuple(sorted(names - {*self.config.tags.values()}))

    def _files(self) -> IndexedSource:
        index = CsvSource(self.base / self.config.index)
        folder = self.base / self.config.path
        return IndexedSource(folder, index, self.config.file, "image", self._load)

    def _load(self, path: Path) -> Array:
        """A record's pixels: slice x height x width, or 1 x height x width of a single image."""
        read = [(file, _read(file, pixels=True)) for file in _slices(path)]
        for file, dataset in read:
            _refuse(file, dataset)
        images = [(_place(dataset), _pixels(file, dataset)) for file, dataset in read]
        images.sort(key=lambda image: image[0])
        volume_DHW = np.concatenate([pixels for _, pixels in images])
        if not self.config.slices and len(volume_DHW) != 1:
            raise InputError(f"{path}: several slices", remedy="say how many under slices")
        return _resized(volume_DHW, (self.config.slices or 1, *self.config.size))


def _slices(path: Path) -> list[Path]:
    """The files of a record: one, or all of a folder."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file())
    if not files:
        raise InputError(f"{path}: an empty folder", expected="slices of one series")
    return files


def _read(path: Path, *, pixels: bool) -> Dataset:
    with needs("dicom", "DICOM"):
        from pydicom import dcmread  # noqa: PLC0415 - the extra is optional
        from pydicom.errors import InvalidDicomError  # noqa: PLC0415
    try:
        return dcmread(path, stop_before_pixels=not pixels)
    except (OSError, EOFError, ValueError, KeyError, InvalidDicomError) as error:
        raise InputError(f"{path}: no readable DICOM", found=type(error).__name__) from None


def _refuse(path: Path, header: Dataset) -> None:
    found = objections(header)
    if found:
        raise InputError(
            f"{path}: its pixels may show who it is of",
            expected="images without identifiers in their pixels",
            found=" and ".join(found),
            remedy="take it out of the index, or have it de-identified and marked so",
        )


def _pixels(path: Path, dataset: Dataset) -> Array:
    """Frames x height x width of one file, rescaled to the modality's unit."""
    try:
        array = np.asarray(dataset.pixel_array, dtype=np.float64)
    except Exception as error:  # noqa: BLE001 - decoders raise whatever they like
        raise InputError(f"{path}: pixels cannot be decoded", found=type(error).__name__) from None
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        array = array.mean(axis=-1)
    slope, intercept = dataset.get("RescaleSlope", 1), dataset.get("RescaleIntercept", 0)
    array = array * float(slope) + float(intercept)
    return array if array.ndim == 3 else array[None]


def _place(dataset: Dataset) -> tuple[float, float]:
    """Where a slice lies in its series: along the axis if that is told, else by its number."""
    number = float(dataset.get("InstanceNumber") or 0)
    position, orientation = (
        dataset.get(name) for name in ("ImagePositionPatient", "ImageOrientationPatient")
    )
    if not position or not orientation:
        return number, 0.0
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    return float(np.cross(row, column) @ np.array(position, float)), number


def _resized(volume_DHW: Array, shape: tuple[int, ...]) -> Array:
    """Linear interpolation along each axis, so that corners stay where they are."""
    for axis, size in enumerate(shape):
        old = volume_DHW.shape[axis]
        if old == size:
            continue
        at_S = np.linspace(0, old - 1, size) if size > 1 else np.array([(old - 1) / 2])
        low_S = np.floor(at_S).astype(np.int64)
        high_S = np.minimum(low_S + 1, old - 1)
        weight_S = (at_S - low_S).reshape([-1 if a == axis else 1 for a in range(3)])
        low, high = volume_DHW.take(low_S, axis), volume_DHW.take(high_S, axis)
        volume_DHW = low * (1 - weight_S) + high * weight_S
    return volume_DHW


def _value(header: Dataset, keyword: str) -> str | float | None:
    """A tag's value; an age such as 064Y as years, a date as YYYY-MM-DD."""
    value = header.get(keyword)
    if value is None or value == "":
        return None
    text = str(value)
    if keyword == "PatientAge" and text[:-1].isdigit():
        return int(text[:-1]) / {"Y": 1, "M": 12, "W": 52.18, "D": 365.25}.get(text[-1], 1)
    number = getattr(value, "real", None)
    return float(number) if isinstance(number, int | float) else plain(text)
