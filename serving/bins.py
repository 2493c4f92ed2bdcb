"""How inputs are counted: in a released table's bins, or else by the schema's own constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from learning.schema import Schema
from learning.task import FloatArray, FloatVector
from serving.flags import Flag, FlagArray
from serving.reference import Reference

# Of a number, in spreads from its centre: ten bins, the outer ones open.
EDGES = np.linspace(-2.0, 2.0, 9)

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bins:
    """Where each column's counts stand in one row of counts, missing values last.

    Args:
        schema: The model's schema; arrays and texts are not watched.
        names: Columns that are.
        starts: The first count of each, and the end.
        watched: Of each its place in the schema, first feature and number of values.
        edges: Of each number where its bins but the first begin; of others nothing is looked up.
    """

    schema: Schema
    names: tuple[str, ...]
    starts: tuple[int, ...]
    watched: tuple[tuple[int, int, int], ...]
    edges: tuple[FloatVector, ...]

    @classmethod
    def of(cls, schema: Schema, reference: Reference | None = None) -> Bins:
        """The bins of a schema, and of the table that it is compared with."""
        known = {} if reference is None else reference.columns
        names: list[str] = []
        starts, watched, edges = [0], [], []
        for place, column in enumerate(schema.columns):
            edge_K = known[column.name].edge_K if column.name in known else EDGES
            sizes = {"number": len(edge_K) + 1, "flag": 2, "category": len(column.labels)}
            if column.kind in sizes:
                names.append(column.name)
                watched.append((place, schema.starts[place], sizes[column.kind]))
                edges.append(edge_K)
                starts.append(starts[-1] + sizes[column.kind] + 1)
        return cls(
            schema=schema,
            names=(*names,),
            starts=(*starts,),
            watched=(*watched,),
            edges=(*edges,),
        )

    @property
    def length(self) -> int:
        """How many counts there are."""
        return self.starts[-1]

    def place(self, name: str) -> slice:
        """Where a column's counts stand."""
        at = self.names.index(name)
        return slice(self.starts[at], self.starts[at + 1])

    def count(self, x_NF: FloatArray, flag_NC: FlagArray) -> Counts:
        """Counts of rows.

        Args:
            x_NF: Their features.
            flag_NC: What happened to each value.
        """
        found: Counts = np.zeros(self.length, dtype=np.int64)
        absent_NC = (flag_NC == Flag.MISSING) | (flag_NC == Flag.UNREADABLE)
        for start, edge_K, (place, feature, size) in zip(
            self.starts, self.edges, self.watched, strict=False
        ):
            value_NS = x_NF[~absent_NC[:, place], feature : feature + size]
            kind = self.schema.columns[place].kind
            if kind == "category":
                bin_N = value_NS.argmax(axis=1)
            elif kind == "flag":
                bin_N = (value_NS[:, 0] > 0.5).astype(np.int64)
            else:
                bin_N = np.searchsorted(edge_K, value_NS[:, 0], side="right")
            found[start : start + size] = np.bincount(bin_N, minlength=size)
            found[start + size] = len(x_NF) - len(bin_N)
        return found
