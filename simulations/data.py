"""Public tables that simulations deal out: built-in ones, CSV files and archives of arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from client.data.source import read
from client.data.tabular import CsvSource
from protocol.errors import InputError
from simulations import public_tables
from simulations.arrays import Cells, load_npz
from simulations.config import DataConfig
from simulations.heart_beats import beats
from simulations.label_table import patients
from simulations.lesion_images import lesions
from simulations.note_table import notes
from simulations.ward_table import wards


@dataclass(frozen=True)
class Data:
    """A table as it would stand in files.

    Args:
        table: Texts or arrays by column, equally long; an empty text is a missing value.

    >>> len(Data({"age": ["60", "71"], "sepsis": ["no", "yes"]}))
    2
    """

    table: Cells

    def __len__(self) -> int:
        return len(next(iter(self.table.values())))


def load_data(config: DataConfig) -> Data:
    """The table that a simulation asks for.

    Args:
        config: A built-in name, or the path of a CSV file with a header or of an `.npz` archive.

    Raises:
        InputError: There is no such table, it holds no records, or a package is missing; or data
            that were not invented are asked for in another size.
    """
    drawn = {"each": config.each, "seed": config.seed}
    asked = {key: value for key, value in drawn.items() if value is not None}
    if config.name in INVENTED:
        return Data(INVENTED[config.name](**asked).table)
    if asked:
        raise InputError(
            f"data.{next(iter(asked))}",
            expected=f"none, but for invented data: {', '.join(sorted(INVENTED))}",
            found=str(next(iter(asked.values()))),
        )
    if config.path is not None:
        archive = config.path.suffix == ".npz"
        return _checked(config.path, load_npz(config.path) if archive else _csv(config.path))
    name = config.name or ""
    if name not in BUILT_IN:
        raise InputError(
            f"no built-in data {name!r}",
            expected=f"one of {', '.join(sorted((*BUILT_IN, *INVENTED)))}",
            remedy="or write 'path:' with a CSV file",
        )
    return BUILT_IN[name]()


def breast_cancer() -> Data:
    """Breast Cancer Wisconsin (Diagnostic): 569 tumours, 30 measurements of their nuclei.

    Source: Wolberg, Mangasarian, Street, Street 1995, UCI Machine Learning Repository,
    doi:10.24432/C5DW2B, as scikit-learn carries it.
    """
    try:
        from sklearn.datasets import load_breast_cancer  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InputError(
            "data 'breast_cancer' come with scikit-learn, which is not installed",
            remedy="pip install 'fedward[simulation]'",
        ) from error
    found = load_breast_cancer()
    table: Cells = {
        str(name).replace(" ", "_"): [repr(value) for value in column]
        for name, column in zip(found.feature_names, found.data.T.tolist(), strict=True)
    }
    classes = [str(name) for name in found.target_names]
    return Data({**table, "diagnosis": [classes[code] for code in found.target.tolist()]})


class Invented(Protocol):
    """Invented data."""

    @property
    def table(self) -> Cells:
        """Their records, as they would stand in files."""


BUILT_IN: dict[str, Callable[[], Data]] = {
    "breast_cancer": breast_cancer,
    "lung": lambda: Data(public_tables.lung()),
    "gbsg2": lambda: Data(public_tables.gbsg2()),
    "actg175": lambda: Data(public_tables.actg175()),
}

# Each takes `each` and `seed`.
INVENTED: dict[str, Callable[..., Invented]] = {
    "lesions": lesions,
    "beats": beats,
    "wards": wards,
    "notes": notes,
    "admissions": patients,
}


def _csv(path: Path) -> Cells:
    source = CsvSource(path)
    table = read(source, source.columns())
    return {name: [str(cell or "") for cell in cells] for name, cells in table.items()}


def _checked(path: Path, table: Cells) -> Data:
    data = Data(table)
    if not table or not len(data):
        raise InputError(f"{path}: no records", expected="at least one")
    return data
