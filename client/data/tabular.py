"""Records from delimited text files, read strictly: a file that is not clear is an error."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from client.data.naming import listed
from client.data.source import BATCH_ROWS, DroppedError
from learning.task import Table
from protocol.errors import InputError


@dataclass(frozen=True)
class CsvSource:
    """A CSV file with one header line, in UTF-8 (with or without a byte order mark).

    Cells may be quoted with double quotes and then hold delimiters and line ends (RFC 4180). Blank
    lines are skipped, an empty cell is None, every other cell is kept as it stands.

    Args:
        path: The file, or a folder of such files with the same header, in the order of their names.
        delimiter: The character between two cells.
    """

    path: Path
    delimiter: str = ","

    def columns(self) -> tuple[str, ...]:
        """The header's names; no record is parsed."""
        with self._reader(self._files()[0]) as reader:
            return tuple(self._header(reader))

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """The named columns; see `client.data.source.Source`."""
        files = self._files()
        first = self.columns() if len(files) > 1 else None
        for path in files:
            with self._reader(path) as reader:
                header = self._header(reader)
                if first not in (None, tuple(header)):
                    raise InputError(f"{path}: another header than the folder's first file has")
                positions = {name: self._position(header, name) for name in columns}
                records = self._rows(reader, len(header))
                while batch := list(islice(records, rows)):
                    yield {
                        name: [row[position] or None for row in batch]
                        for name, position in positions.items()
                    }

    def _files(self) -> list[Path]:
        if not self.path.is_dir():
            return [self.path]
        files = sorted(self.path.glob("*.csv"))
        if not files:
            raise InputError(f"{self.path}: no file in this folder ends in .csv")
        return files

    @contextmanager
    def _reader(self, path: Path) -> Iterator[_Reader]:
        """A parser of the open file; what goes wrong in it names the file and the line."""
        try:
            with path.open("rb") as file:
                reader = _Reader(path, file, self.delimiter)
                try:
                    yield reader
                except csv.Error as error:
                    raise reader.problem("is no CSV", found=str(error)) from None
        except OSError as error:
            if isinstance(error, FileNotFoundError) and path != self.path:
                # A server that keeps rows for a while removes the oldest file at any time.
                raise DroppedError(f"{path}: removed while its folder was read") from None
            raise InputError(f"{path}: cannot be read", found=error.strerror) from error

    def _header(self, reader: _Reader) -> list[str]:
        header = next(reader, [])
        if not any(header):
            raise InputError(
                f"{reader.path}: no header", expected="a first line with columns' names"
            )
        for place, name in enumerate(header):
            first = header.index(name)
            if name and first == place:
                continue
            # By its place, as it may be a value.
            alike = f"{place + 1} like {first + 1}: is the first line a record?"
            told = alike if name else f"{place + 1} without a name"
            raise reader.problem(
                "header", expected="every column named once", found=f"column {told}"
            )
        return header

    def _position(self, header: list[str], name: str) -> int:
        if name not in header:
            raise InputError(f"{self.path}: no column {name!r}", expected=listed(header, [name]))
        return header.index(name)

    def _rows(self, reader: _Reader, width: int) -> Iterator[list[str]]:
        for row in reader:
            if row and len(row) != width:
                raise reader.problem(
                    "row", expected=f"{width} cells as in the header", found=str(len(row))
                )
            if row:
                yield row


class _Reader(Iterator[list[str]]):
    """The standard library's strict parser over lines that are checked one by one.

    It remembers on which line the row began, since a quoted cell may go over several.
    """

    def __init__(self, path: Path, file: BinaryIO, delimiter: str) -> None:
        self.path = path
        self._line = 0
        self._parser = csv.reader(self._text(file), delimiter=delimiter, strict=True)

    def __next__(self) -> list[str]:
        self._line = self._parser.line_num + 1
        return next(self._parser)

    def problem(self, what: str, *, expected: str | None = None, found: str) -> InputError:
        """An error at the line on which the present row began."""
        place = f"{self.path}, line {self._line}"
        return InputError(f"{place}: {what}", expected=expected, found=found)

    def _text(self, file: BinaryIO) -> Iterator[str]:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                self._line = number
                raise self.problem("bytes", expected="text in UTF-8", found="others") from None
            if "\0" in text:
                self._line = number
                raise self.problem("bytes", expected="text", found="a NUL byte")
            yield text
