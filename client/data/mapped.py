"""A source under the names that jobs use, instead of the hospital's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from client.data.naming import are_names, listed, nearest
from client.data.source import BATCH_ROWS, Source
from learning.task import Table
from protocol.errors import InputError


@dataclass(frozen=True)
class Mapped:
    """A source whose columns are found by a schema's names.

    Args:
        source: What is read, under its own names.
        origin: What messages call it: a file, or a database without its user.
        renamed: From a schema's name to the source's name of a column; the others are called
            alike.
    """

    source: Source
    origin: str
    renamed: Mapping[str, str]

    def columns(self) -> tuple[str, ...]:
        """The schema's names where there are any, then what else the source has."""
        theirs = self.source.columns()
        for name in self.renamed:
            self._theirs(name, theirs, self.renamed)
        shadowed = {*self.renamed, *self.renamed.values()}
        return (*self.renamed, *(name for name in theirs if name not in shadowed))

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """The named columns; see `client.data.source.Source`."""
        offered = self.source.columns()
        theirs = {name: self._theirs(name, offered, columns) for name in columns}
        for table in self.source.batches(tuple(dict.fromkeys(theirs.values())), rows):
            yield {name: table[own] for name, own in theirs.items()}

    def _theirs(self, name: str, offered: Sequence[str], asked: Iterable[str]) -> str:
        """The source's name of a column, one of those that are asked for together."""
        own = self.renamed.get(name, name)
        if own in offered:
            return own
        wanted = [self.renamed.get(other, other) for other in asked]
        close = nearest(own, offered) if are_names(offered, wanted) else None
        hint = f"did you mean {close!r}? " if close else ""
        raise InputError(
            f"{self.origin}: no column {own!r}",
            expected=f"one of {listed(offered, wanted)}",
            remedy=f"{hint}name the source's column under source.columns.{name}",
        )
