"""Which records go through the model together: selection, whole patients, bounded batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from protocol.errors import InputError

Rows = npt.NDArray[np.int64]
"""Row numbers of records."""


def check_arrays(**arrays: npt.NDArray[Any] | None) -> None:
    """Insist on plain arrays of one length; the engine draws no batches from anything else.

    Raises:
        InputError: Names the argument. A data loader or sampler (a weighted one changes the
            sampling rate that is paid for) is refused, as is an array of objects.
    """
    lengths = set()
    for name, array in arrays.items():
        if array is None:
            continue
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or not array.ndim:
            raise InputError(
                f"'{name}' is not an array of numbers",
                expected="a numpy array, records first",
                found=type(array).__name__,
                remedy="pass all records and a mask; loaders and samplers choose records unpaid",
            )
        lengths.add(len(array))
    if len(lengths) > 1:
        raise InputError(f"{', '.join(arrays)} differ in length", expected="one entry per record")


def select(mask: npt.NDArray[np.bool_] | None, size: int) -> Rows:
    """The rows that were sampled.

    >>> select(np.array([True, False, True]), 3).tolist()
    [0, 2]
    """
    if mask is None:
        return np.arange(size)
    if mask.dtype != np.bool_ or mask.ndim != 1:
        raise InputError("'mask' is not a mask", expected="one bool per record")
    return np.flatnonzero(mask)


def batches(rows: Rows, most: int) -> Iterator[Rows]:
    """Cut rows into runs of at most `most`.

    >>> [part.tolist() for part in batches(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    return (rows[start : start + most] for start in range(0, len(rows), most))


def whole_patients(patient: Rows, mask: npt.NDArray[np.bool_] | None, most: int) -> Iterator[Rows]:
    """Cut the sampled rows into runs of whole patients, of at most `most` rows where they fit.

    Args:
        patient: The patient of each record, (N,).
        mask: Which records were sampled, None for all.
        most: Rows in a run; a patient with more has a run of their own.

    Raises:
        InputError: A patient is sampled in part: sampling goes by patients.

    >>> [run.tolist() for run in whole_patients(np.array([7, 5, 7, 7, 5, 6]), None, 3)]
    [[1, 4, 5], [0, 2, 3]]
    """
    if patient.dtype.kind not in "iu" or patient.ndim != 1:
        raise InputError("'patient' is not a patient column", expected="one integer per record")
    rows = select(mask, len(patient))
    if mask is not None and np.isin(patient[~mask], patient[rows]).any():
        raise InputError("a patient is sampled in part", remedy="sample patients, not their rows")
    rows = rows[np.argsort(patient[rows], kind="stable")]
    ends = np.append(np.flatnonzero(np.diff(patient[rows])) + 1, len(rows))
    start = 0
    while start < len(rows):
        fitting = ends[(ends > start) & (ends <= start + most)]
        end = int(fitting[-1] if len(fitting) else ends[ends > start][0])
        yield rows[start:end]
        start = end


def as_tensor(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Integers as int64 (indices, classes), everything else as float64."""
    wanted = np.int64 if array.dtype.kind in "iu" else np.float64
    return torch.from_numpy(array.astype(wanted)).to(device)
