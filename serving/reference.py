"""What inputs are compared with: the released table of a statistics job, out of the model store.

Its counts are those of the training patients of all hospitals, with the noise that was paid for, so
that whoever may see the table may see them here.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learning.artefact import CARD, Model, load, models, versions
from learning.card import ModelCard
from learning.pooled_statistics import Statistics
from learning.schema import Column, Schema
from learning.stability import Histogram
from learning.table_histograms import Counted, Shape, check_alike, counted_as, edges, shapes
from learning.task import FloatVector
from protocol.errors import FedwardError, InputError

log = logging.getLogger("fedward.serving")


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """Counts of a column, those without a value last.

    Args:
        histogram: By the table's bins, or by the model's own order of levels.
        edge_K: Of a number, where bins but the first begin on the scale of the model's feature.
    """

    histogram: Histogram
    edge_K: FloatVector  # noqa: N815 - the shape is part of the name


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A table beside a model.

    Args:
        label: Name and version of the table.
        digest: SHA-256 of its sums.
        columns: What is expected of those of the model's columns that it counted.
    """

    label: str
    digest: str
    columns: Mapping[str, Expected]


def reference_of(table: Model, schema: Schema) -> Reference:
    """A table as the reference of a model's inputs.

    A column is left out that the table has no histogram of, or so few patients that the noise hides
    them, or that is the table's label: patients who lack it were not counted.

    Args:
        table: A finished statistics job's table.
        schema: The model's schema.

    Raises:
        InputError: It is no table, does not state its noise, counted a column in another way, or
            says nothing of any column.
    """
    card, task = table.card, table.task
    if not isinstance(task, Statistics) or card.noise is None:
        raise InputError(
            f"reference {card.label}",
            expected="the table of a statistics job that states its noise",
            found=f"task {card.task.name!r}",
        )
    found = shapes(task, table.weights_P, card.noise)
    columns = {}
    for column in schema.columns:
        shape = found.get(column.name)
        if shape is not None and shape.counted.optional and shape.histogram.clear:
            try:
                columns[column.name] = _expected(column, shape)
            except InputError as error:
                raise error.at(f"reference {card.label}") from None
    if not columns:
        raise InputError(
            f"reference {card.label} says nothing of the model's inputs",
            expected="histograms of " + ", ".join(map(repr, schema.names)),
            found=", ".join(map(repr, found)) or "none: the job had no bins",
        )
    return Reference(label=card.label, digest=card.digests.weights, columns=columns)


def _expected(column: Column, shape: Shape) -> Expected:
    """What is expected of a column by what a table counted."""
    counted = shape.counted
    if column.kind not in {"number", "category", "flag"}:
        raise InputError(f"{column.name!r}", expected=str(counted), found=f"kind {column.kind!r}")
    own = counted_as(column, counted.bins)
    if counted.bounds is not None and own == counted:
        edge_K = edges(counted.bounds, counted.bins)
        scaled_K = (edge_K - column.middle) / column.width
        return Expected(histogram=shape.histogram, edge_K=scaled_K)
    check_alike(column.name, expected=_sorted(own), found=_sorted(counted))
    places = [*map(counted.levels.index, own.levels), len(counted.levels)]
    count_B, noise = shape.histogram.count_B[places], shape.histogram.noise
    return Expected(histogram=Histogram(count_B=count_B, noise=noise), edge_K=np.zeros(0))


def _sorted(counted: Counted) -> Counted:
    """Whatever order the levels have."""
    return Counted(
        unit=counted.unit,
        bounds=counted.bounds,
        bins=counted.bins,
        levels=tuple(sorted(counted.levels)),
        optional=counted.optional,
    )


def find_reference(
    store: Path, signers: Collection[str], model: Model, named: str | None
) -> Reference | None:
    """The table that a model's inputs are compared with, verified like any model.

    Args:
        store: Folder of finished models and tables.
        signers: Fingerprints of the keys that may have signed it.
        model: The model.
        named: NAME of a table, whose last version it is, or NAME/VERSION. None for the one that the
            model's numbers are scaled by; where that cannot be used the log says why.

    Returns:
        None where no table is named and the model is scaled by none that is here.

    Raises:
        InputError: The table that is named is not there, or does not fit the model.
        IntegrityError: It was changed, or another key signed it.
    """
    schema = model.task.schema
    if named is not None:
        return reference_of(load(_place(store, named), signers), schema)
    if schema.scaled_by is None:
        return None
    place = _made_by(store, schema.scaled_by)
    try:
        return None if place is None else reference_of(load(place, signers), schema)
    except FedwardError as error:
        log.warning("model %s is compared with its first rows: %s", model.card.label, error)
        return None


def _place(store: Path, named: str) -> Path:
    name, _, version = named.partition("/")
    found = versions(store, name)
    if not found:
        raise InputError(f"reference {named}", expected="a table in the store", found="none")
    return store / name / (version or str(found[-1]))


def _made_by(store: Path, job: str) -> Path | None:
    """The folder of what a job made; nothing is believed of it before it is verified."""
    for name, version in reversed(models(store)):
        place = store / name / str(version)
        with suppress(FedwardError, OSError):
            if ModelCard.from_bytes((place / CARD).read_bytes()).digests.job == job:
                return place
    return None
