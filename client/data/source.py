"""What a source of records is, and the one that a hospital's configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from client.data.tabular import CsvSource
from learning.task import Table
from protocol.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where records are and what their columns are called there.

    Args:
        kind: `csv`, a text file with a header.
        path: The file; a relative path starts at the configuration's folder.
        columns: From a schema's name to the file's name of the column; columns that are called
            alike need no entry.
        delimiter: The character between two cells.
    """

    kind: Literal["csv"]
    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ","

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n\0 ':
            raise InputError(
                "delimiter", expected="one character other than a quote, a blank or a line's end"
            )


class Source(Protocol):
    """Records of one data set, by column, under the schema's names."""

    def columns(self) -> tuple[str, ...]:
        """Names of all columns, without reading a record.

        Raises:
            InputError: The source cannot be read or does not say clearly what its columns are.
        """

    def read(self, columns: Sequence[str]) -> Table:
        """The named columns of all records, in the source's order.

        Returns:
            From each name to as many values as there are records; None where there is none.

        Raises:
            InputError: A column is missing or the source is damaged. Messages name the file and
                the line, never a value.
        """


def open_source(config: SourceConfig, base: Path) -> Source:
    """The source of a configuration whose relative paths start at the folder `base`."""
    return CsvSource(base / config.path, config.columns, config.delimiter)
