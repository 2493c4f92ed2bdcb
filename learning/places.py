"""Which features of a record are words of its notes, and which are numbers beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from learning.schema import Schema
from learning.tokens import ngrams
from protocol.errors import InputError


@dataclass(frozen=True)
class Places:
    """Where the parts of a record's F features stand.

    Args:
        texts: First feature of each text, and the one behind its last.
        rest: All other features, in order; indicators of missing notes are among them.
    """

    texts: tuple[tuple[int, int], ...]
    rest: tuple[int, ...]

    @classmethod
    def of(cls, schema: Schema) -> Places:
        """Those of a schema.

        Raises:
            InputError: It has no column of texts.
        """
        texts: list[tuple[int, int]] = []
        rest: list[int] = []
        place = 0
        for column in schema.columns:
            start, place = place, place + column.num_features
            if column.kind == "text":
                texts.append((start, start + (column.length or 0)))
                start += column.length or 0
            rest += range(start, place)
        if not texts:
            raise InputError("columns of task 'text'", expected="at least one of kind 'text'")
        return cls(tuple(texts), tuple(rest))

    @property
    def words(self) -> int:
        """L, the most words of a record."""
        return sum(stop - start for start, stop in self.texts)

    def runs(self, word_NF: Any, most: int) -> list[tuple[Any, Any]]:
        """Numbers of every run of 1 to `most` words of each text, and which of them are runs.

        Args:
            word_NF: The record's features as int64, a numpy array or a torch tensor.
            most: Words in the longest run; no run reaches from one text into another.
        """
        return [
            ngrams(word_NF[:, start:stop], order, index)
            for index, (start, stop) in enumerate(self.texts)
            for order in range(1, min(most, stop - start) + 1)
        ]
