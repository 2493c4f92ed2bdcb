"""A source under the names that jobs use, instead of the hospital's own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from client.data.source import BATCH_ROWS, Source, listed
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
            self._theirs(name, theirs)
        shadowed = {*self.renamed, *self.renamed.values()}
        return (*self.renamed, *(name for name in theirs if name not in shadowed))

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """The named columns; see `client.data.source.Source`."""
        offered = self.source.columns()
        theirs = {name: self._theirs(name, offered) for name in columns}
        for table in self.source.batches(tuple(dict.fromkeys(theirs.values())), rows):
            yield {name: table[own] for name, own in theirs.items()}

    def _theirs(self, name: str, offered: Sequence[str]) -> str:
        """The source's name of a column."""
        own = self.renamed.get(name, name)
        if own in offered:
            return own
        close = nearest(own, offered)
        hint = f"did you mean {close!r}? " if close else ""
        raise InputError(
            f"{self.origin}: no column {own!r}",
            expected=f"one of {listed(offered)}",
            remedy=f"{hint}name the source's column under source.columns.{name}",
        )


def nearest(name: str, offered: Sequence[str]) -> str | None:
    """The offered name that most likely means the same, whatever its case, blanks and units.

    >>> nearest("heart_rate", ["Pulse", "Heart rate (1/min)"])
    'Heart rate (1/min)'
    """
    plain = {other: _plain(other) for other in offered}
    same = [other for other, text in plain.items() if text == _plain(name)]
    whole = [
        other for other, text in plain.items() if text.startswith(_plain(name)) and _plain(name)
    ]
    close = difflib.get_close_matches(_plain(name), plain.values(), n=1)
    alike = [other for other, text in plain.items() if text in close]
    return next(iter((*same, *alike, *sorted(whole, key=len))), None)


def _plain(name: str) -> str:
    """Letters and digits of a name, without a remark in brackets."""
    return re.sub(r"[\W_]", "", re.sub(r"[\[(].*[\])]", "", name)).casefold()
