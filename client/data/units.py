"""From the units that a hospital has to those that a job's schema names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from learning.cell_values import as_numbers
from learning.schema import Column, Schema
from learning.task import Cells, FloatArray, Table
from protocol.errors import InputError

if TYPE_CHECKING:
    import pint

# Units come from jobs, too, and an expression such as 9^9^9 would never be computed to its end.
_TERM = r"(?:10(?:\^|\*\*)-?\d{1,2}|[A-Za-zµμΩ%°]+(?:(?:\^|\*\*)-?\d)?|1)"
_UNIT = re.compile(rf"{_TERM}(?: ?[/*] ?{_TERM}){{0,5}}")
# Milliequivalents are left out: how many make a millimole depends on the ion.
_INTERNATIONAL_UNIT = "IU = [biologic_amount] = international_unit"


@dataclass(frozen=True)
class Conversion:
    """From a number in the hospital's unit to one in the schema's: scale * x + offset.

    >>> Conversion(scale=2.0, offset=1.0).apply(["3", None, "?"])
    [7.0, None, '?']
    """

    scale: float
    offset: float

    def apply(self, cells: Cells) -> Cells:
        """Every number converted; a missing or unreadable cell stays as it stands."""
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu":
            converted: FloatArray = cells.astype(np.float64) * self.scale + self.offset
            return converted
        value_N = as_numbers(cells)
        usable_N = np.isfinite(value_N)
        value_N[usable_N] = value_N[usable_N] * self.scale + self.offset
        pairs = zip(value_N.tolist(), usable_N.tolist(), cells, strict=True)
        return [number if usable else cell for number, usable, cell in pairs]


def conversions(units: Mapping[str, str], schema: Schema) -> dict[str, Conversion]:
    """How to convert the columns for which a hospital names a unit, by their names.

    Args:
        units: From a schema's name of a column to the hospital's unit; columns that this schema
            does not read are passed over.
        schema: Names the units to convert to.

    Raises:
        InputError: A unit is not known, or the two do not measure the same.
    """
    return {
        column.name: conversion(column, units[column.name])
        for column in (*schema.columns, *schema.targets)
        if column.name in units
    }


def conversion(column: Column, theirs: str) -> Conversion:
    """From a hospital's unit to a column's.

    Raises:
        InputError: A unit is not known, or the two do not measure the same.

    >>> glucose = Column(
    ...     name="glucose", kind="number", unit="mmol/l", low=0, high=50, molar_mass=180.156
    ... )
    >>> round(conversion(glucose, "mg/dl").apply([90.0])[0], 2)
    5.0
    """
    if column.kind not in {"number", "array"} or not column.unit:
        raise InputError(
            f"units.{column.name}: the schema has no unit for this column",
            remedy="take the entry out, or ask for a unit in the schema",
        )
    if theirs == column.unit:
        return Conversion(scale=1.0, offset=0.0)
    zero, one = (_converted(value, theirs, column) for value in (0.0, 1.0))
    return Conversion(scale=one - zero, offset=zero)


def convert(table: Table, how: Mapping[str, Conversion]) -> Table:
    """A table with the named columns converted."""
    return {name: how[name].apply(cells) if name in how else cells for name, cells in table.items()}


def _converted(value: float, theirs: str, column: Column) -> float:
    import pint  # noqa: PLC0415 - half a second that only a conversion shall cost

    registry = _registry()
    source, target = _parsed(theirs, column.name), _parsed(column.unit, column.name)
    try:
        quantity = _amount(registry.Quantity(value, source.units), target.units, column)
        converted = quantity.to(target.units)
    except (pint.DimensionalityError, pint.OffsetUnitCalculusError):
        raise InputError(
            f"units.{column.name}: {theirs!r} cannot be converted",
            expected=f"a unit of what {column.unit!r} measures",
            remedy="between mass and amount a conversion needs molar_mass in the schema",
        ) from None
    return float(converted.magnitude) * source.factor / target.factor


def _amount(quantity: Any, target: Any, column: Column) -> Any:
    """A mass as an amount of substance, or the other way round, if that is what the target asks."""
    if column.molar_mass is None:
        return quantity
    mass = _registry().Quantity(column.molar_mass, "g/mol")
    ratio = (1 * quantity.units / target).dimensionality
    if ratio == mass.dimensionality:
        return quantity / mass
    return quantity * mass if ratio == (1 / mass).dimensionality else quantity


@dataclass(frozen=True)
class _Unit:
    """A unit, and the power of ten that was written in front of it."""

    units: Any
    factor: float


def _parsed(text: str, name: str) -> _Unit:
    """A unit from its text; powers of ten may stand in it, as in 10^9/l."""
    import pint  # noqa: PLC0415

    wrong = InputError(
        f"units.{name}: the unit {text[:40]!r} is not known",
        expected="a unit such as mg/dl, mmol/l, 10^9/l, mmHg, degC or kg/m^2",
    )
    if not _UNIT.fullmatch(text):
        raise wrong
    try:
        if text in _AFFINE:
            return _Unit(units=_registry().Unit(_AFFINE[text]), factor=1.0)
        quantity: Any = _registry().parse_expression(text.replace("%", "percent"))
    except (pint.UndefinedUnitError, pint.OffsetUnitCalculusError, pint.DefinitionSyntaxError):
        raise wrong from None
    if not isinstance(quantity, _registry().Quantity):
        return _Unit(units=_registry().Unit("dimensionless"), factor=float(quantity))
    return _Unit(units=quantity.units, factor=float(quantity.magnitude))


_AFFINE = {"°C": "degC", "degC": "degC", "celsius": "degC", "°F": "degF", "degF": "degF"}


@cache
def _registry() -> pint.UnitRegistry[Any]:
    import pint  # noqa: PLC0415

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry()
    registry.define(_INTERNATIONAL_UNIT)
    return registry
