"""Tables with images and series: archives that hospitals read, and public ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.data.arrays import NpzSource
from client.data.source import read

Column = list[str] | npt.NDArray[Any]
Cells = Mapping[str, Column]
"""Equally long columns: texts, or an array whose first axis is the record."""


def rows_of(columns: Cells, rows: Sequence[int]) -> Cells:
    """Some rows of a table.

    >>> rows_of({"age": ["60", "71"], "x": np.array([[1], [2]])}, [1])
    {'age': ['71'], 'x': array([[2]])}
    """
    return {
        name: cells[list(rows)] if isinstance(cells, np.ndarray) else [cells[row] for row in rows]
        for name, cells in columns.items()
    }


def texts_of(cells: Column) -> list[str]:
    """A column's cells as text.

    >>> texts_of(np.array([0, 1]))
    ['0', '1']
    """
    return [str(cell) for cell in (cells.tolist() if isinstance(cells, np.ndarray) else cells)]


def load_npz(path: Path) -> Cells:
    """A public archive, such as MedMNIST's, as a hospital would read it.

    Raises:
        InputError: There is no such archive, or it is no such.
    """
    source = NpzSource(path)
    table = read(source, source.columns())
    return {
        name: cells
        if isinstance(cells, np.ndarray)
        else ["" if c is None else str(c) for c in cells]
        for name, cells in table.items()
    }


def save_npz(path: Path, columns: Cells) -> None:
    """An archive that `NpzSource` reads back as these columns."""
    arrays: dict[str, Any] = {name: np.asarray(cells) for name, cells in columns.items()}
    if "image" in arrays:
        # The source moves channels from the end, where such archives have them, to the front.
        arrays["image"] = np.moveaxis(arrays["image"], 1, -1)
    with path.open("wb") as file:
        np.savez(file, **arrays)
