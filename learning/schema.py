"""The schema: which columns a task reads, in which units and between which public bounds.

It stands in the job, so every hospital reads the same constants, and nothing about a column is
ever learnt from patients. Columns are a list, since their order is the order of the features.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product
from typing import Literal

from learning.numeric import Numbers
from protocol.errors import InputError

# Farther bounds would make features that one gradient step cannot survive.
MOST_SPREADS = 1_000_000

# Features of one array; a volume of 256 x 256 x 256 is as large as one may be.
MOST_CELLS = 1 << 24

# Values by which results are told apart; of more each would be too small to be told.
MOST_SUBGROUPS = 16

# Words of one text; a longer letter is cut off.
MOST_WORDS = 1 << 16

_DIGEST = re.compile(r"[0-9a-f]{64}")

Kind = Literal["number", "category", "flag", "array", "text"]


def as_text(value: str | float) -> str:
    """One spelling for a category or key whatever type a source gives it.

    >>> as_text(" 2 "), as_text(2), as_text(2.0), as_text(2.5)
    ('2', '2', '2', '2.5')
    """
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int):
        # Decimal digits of huge integers are refused by Python, hexadecimal ones never.
        return str(int(value)) if value.bit_length() < 1024 else hex(value)
    if math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def _distinct(names: tuple[str, ...], what: str, least: int) -> None:
    if len(names) < least:
        raise InputError(f"too few {what}", expected=f"at least {least}", found=str(len(names)))
    if len(set(names)) < len(names) or "" in names:
        raise InputError(f"{what} must be named and named once", found=", ".join(names))


@dataclass(frozen=True, kw_only=True)
class Column:
    """One input column and the public constants that turn it into features.

    Args:
        name: The column's name in the job; a hospital maps its own names to it.
        kind: `number`, `category` (one of a list), `flag` (yes or no), `array` (an image or a
            series: many numbers with one unit and the same bounds) or `text` (a note).
        unit: Unit of a number; a hospital that says which one it has is converted to this one.
        molar_mass: Of the substance that a number is a concentration of, in g/mol; with it mg/dl
            and mmol/l can be converted.
        shape: Sizes of an array's axes, channels or time first as the task says.
        length: Most words of a text that are read; what follows them is cut off.
        low: Smallest plausible value of a number; smaller ones count as `low`.
        high: Largest plausible value of a number; larger ones count as `high`.
        centre: What becomes 0; the middle of the bounds if not given.
        spread: What becomes 1 above the centre; a quarter of the bounds' width if not given.
        categories: The values a category may have.
        neutral: What stands in for a missing or unreadable value: a number (default: centre), of
            an array for every number of it, a category (default: none of them), 0 or 1 of a flag
            (default 0); a text has none, since no words stand for a missing one.
        may_be_missing: Whether an indicator feature says that the value was missing.
        subgroup: Whether results are told for each value, too: of a category or a flag, see
            docs/evaluation.md for what it costs.

    >>> age = Column(name="age", kind="number", unit="years", low=0, high=120, centre=60)
    >>> age.middle, age.width, age.feature_names
    (60.0, 30.0, ('age',))
    """

    name: str
    kind: Kind
    unit: str = ""
    molar_mass: float | None = None
    shape: tuple[int, ...] = ()
    length: int | None = None
    low: float | None = None
    high: float | None = None
    centre: float | None = None
    spread: float | None = None
    categories: tuple[str | int, ...] = ()
    neutral: str | float | None = None
    may_be_missing: bool = False
    subgroup: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("a column without a name")
        if self.kind != "category" and self.categories:
            raise InputError("categories belong to columns of kind 'category'", found=self.kind)
        scale = (self.low, self.high, self.centre, self.spread, self.molar_mass)
        if self.kind not in {"number", "array"} and any(value is not None for value in scale):
            raise InputError(
                "low, high, centre, spread and molar_mass belong to numbers", found=self.kind
            )
        self._check_shape()
        self._check_subgroup()
        if self.kind != "text" and self.length is not None:
            raise InputError("a length belongs to columns of kind 'text'", found=self.kind)
        checks = {
            "category": self._check_category,
            "flag": self._check_flag,
            "text": self._check_text,
        }
        checks.get(self.kind, self._check_number)()

    def _check_shape(self) -> None:
        if self.kind != "array":
            if self.shape:
                raise InputError("a shape belongs to columns of kind 'array'", found=self.kind)
            return
        if not self.shape or min(self.shape) < 1 or math.prod(self.shape) > MOST_CELLS:
            raise InputError(
                f"shape of the array {self.name!r}",
                expected=f"sizes of one or more axes, at most {MOST_CELLS} numbers together",
                found=" x ".join(map(str, self.shape)) or "none",
            )

    def _check_subgroup(self) -> None:
        if not self.subgroup:
            return
        if self.kind not in {"category", "flag"}:
            raise InputError(
                f"column {self.name!r} cannot tell subgroups apart",
                expected="a category or flag",
                found=self.kind,
                remedy="leave the mark out, or add a category such as age groups at the source",
            )
        if len(self.categories) > MOST_SUBGROUPS:
            raise InputError(
                f"column {self.name!r} has too many subgroups",
                expected=f"at most {MOST_SUBGROUPS} categories",
                found=str(len(self.categories)),
            )

    def _check_number(self) -> None:
        low, high = self.bounds
        if not (math.isfinite(high - low) and low < high):
            raise InputError("bounds of a number", expected="low < high", found=f"{low}, {high}")
        for name, value in (("centre", self.centre), ("neutral", self.neutral)):
            if value is None:
                continue
            if isinstance(value, str) or not low <= value <= high:
                raise InputError(f"{name} of a number", expected=f"within [{low}, {high}]")
        if self.molar_mass is not None and self.molar_mass <= 0:
            raise InputError("molar_mass", expected="above 0 g/mol", found=str(self.molar_mass))
        reach = max(high - self.middle, self.middle - low)
        if not (math.isfinite(self.width) and self.width * MOST_SPREADS >= reach > 0):
            raise InputError(
                "spread", expected=f"bounds within {MOST_SPREADS} spreads of the centre"
            )

    def _check_category(self) -> None:
        _distinct(self.labels, "categories", least=2)
        if self.neutral is not None and as_text(self.neutral) not in self.labels:
            raise InputError("neutral of a category", expected="one of " + ", ".join(self.labels))

    def _check_flag(self) -> None:
        if self.neutral not in (None, 0, 1):
            raise InputError("neutral of a flag", expected="0 or 1", found=str(self.neutral))

    def _check_text(self) -> None:
        if self.length is None or not 1 <= self.length <= MOST_WORDS:
            raise InputError(
                f"length of the text {self.name!r}",
                expected=f"1 to {MOST_WORDS} words",
                found=str(self.length),
            )
        if self.neutral is not None:
            raise InputError("neutral of a text", expected="none: a missing text has no words")

    @property
    def bounds(self) -> tuple[float, float]:
        """Public bounds of a number.

        Raises:
            InputError: The column is a number without bounds.
        """
        if self.low is None or self.high is None:
            raise InputError(
                f"number {self.name!r} has no bounds",
                expected="low and high",
                remedy="take them from the codebook, never from patients' data",
            )
        return float(self.low), float(self.high)

    @property
    def middle(self) -> float:
        """The value of a number that becomes 0."""
        low, high = self.bounds
        return low + (high - low) / 2 if self.centre is None else float(self.centre)

    @property
    def width(self) -> float:
        """The difference of a number that becomes 1."""
        low, high = self.bounds
        return (high - low) / 4 if self.spread is None else float(self.spread)

    @property
    def labels(self) -> tuple[str, ...]:
        """Categories as text."""
        return tuple(as_text(category) for category in self.categories)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features the column becomes, in order."""
        values: tuple[str, ...] = (self.name,)
        if self.kind == "category":
            values = tuple(f"{self.name}={label}" for label in self.labels)
        if self.kind == "array":
            places = product(*map(range, self.shape))
            values = tuple(f"{self.name}[{','.join(map(str, place))}]" for place in places)
        if self.kind == "text":
            values = tuple(f"{self.name}[{place}]" for place in range(self.length or 0))
        return (*values, f"{self.name} missing") if self.may_be_missing else values

    @property
    def num_features(self) -> int:
        """How many features the column becomes."""
        values = {
            "category": len(self.categories),
            "array": math.prod(self.shape),
            "text": self.length or 0,
        }
        return values.get(self.kind, 1) + int(self.may_be_missing)


@dataclass(frozen=True, kw_only=True)
class Label:
    """The column to predict: one of several classes, or a number between public bounds.

    Args:
        name: The column's name in the job.
        classes: Its classes; of two the second is the positive one. None for a number.
        low: Smallest plausible number; smaller ones count as `low`.
        high: Largest plausible number; larger ones count as `high`.
    """

    name: str
    classes: tuple[str | int, ...] = ()
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            _distinct(self.texts, "classes", least=2)
        elif self.classes:
            raise InputError("a label", expected="either classes, or low and high")
        elif self.low is None or self.high is None or not self.low < self.high < math.inf:
            raise InputError("bounds of a label", expected="low < high")

    @property
    def texts(self) -> tuple[str, ...]:
        """Classes as text."""
        return tuple(as_text(one) for one in self.classes)


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Everything a task reads from a table.

    Args:
        columns: Inputs, in the order of the features.
        label: What is predicted.
        targets: Further columns that a task learns from and never sees as features: how long a
            patient was followed, which treatment was given. Their bounds hold as for inputs.
        patient: Column whose equal values are one patient; without it every record is one.
        time: Column with the time of a record, for splits and forecasts.
        site: Column that names a record's site where one table holds several.
        scaled_by: Digest of the statistics job whose means and deviations the numbers' centre and
            spread are; None where they were guessed.
    """

    columns: tuple[Column, ...]
    label: Label
    targets: tuple[Column, ...] = ()
    patient: str | None = None
    time: str | None = None
    site: str | None = None
    scaled_by: str | None = None

    def __post_init__(self) -> None:
        _distinct(tuple(column.name for column in self.columns), "columns", least=1)
        _distinct(self.column_names, "columns, label, targets, patient, time and site", least=2)
        marked = [column.name for column in self.targets if column.subgroup]
        if marked:
            raise InputError(
                f"target {marked[0]!r} cannot tell subgroups apart",
                expected="the mark on one of the columns, which are known before the outcome",
            )
        if self.scaled_by is not None and not _DIGEST.fullmatch(self.scaled_by):
            raise InputError("scaled_by", expected="the 64 hexadecimal digits of a job's digest")

    @property
    def column_names(self) -> tuple[str, ...]:
        """Every column that a source must offer."""
        keys = (self.patient, self.time, self.site)
        return (
            *(column.name for column in self.columns),
            self.label.name,
            *(column.name for column in self.targets),
            *(key for key in keys if key is not None),
        )

    @property
    def unit(self) -> Literal["patient", "record"]:
        """Whom the privacy guarantee protects."""
        return "record" if self.patient is None else "patient"

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of all F features, in order."""
        return tuple(name for column in self.columns for name in column.feature_names)

    @cached_property
    def num_features(self) -> int:
        """F, the number of features."""
        return sum(column.num_features for column in self.columns)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the input columns, in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first feature of each column."""
        return tuple(accumulate((one.num_features for one in self.columns[:-1]), initial=0))

    @cached_property
    def others(self) -> tuple[tuple[Column, int], ...]:
        """The columns that are no numbers, each with its first feature."""
        pairs = zip(self.columns, self.starts, strict=True)
        return tuple((column, start) for column, start in pairs if column.kind != "number")

    @cached_property
    def numbers(self) -> Numbers:
        """The constants of all columns of kind `number`."""
        return Numbers.of(self.columns, self.starts)
