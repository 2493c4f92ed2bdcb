"""How one table's records are dealt out to virtual hospitals: evenly, skewed, or as they came.

Pure functions: equal arguments and an equal state of the generator give equal parts. They read
labels of public data only; in a real consortium nobody deals anything out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from protocol.errors import InputError

IntVector = npt.NDArray[np.int64]
FloatVector = npt.NDArray[np.float64]
Kind = Literal["iid", "dirichlet", "quantity", "natural"]

# Below, the law's shares are 0 or 1 in double precision; above, nobody can tell it from `iid`.
SMALLEST_ALPHA, LARGEST_ALPHA = 1e-3, 1e6


@dataclass(frozen=True, kw_only=True)
class Partition:
    """How records are dealt out.

    Args:
        kind: `iid` (evenly, at random), `dirichlet` (equal sizes, each hospital with its own mix
            of labels), `quantity` (equal mixes, sizes that fall by a power law) or `natural` (a
            column says where each record came from).
        alpha: Of `dirichlet`, the concentration: 100 is near even, 0.1 leaves most hospitals with
            one label. Of `quantity`, the exponent: 0 is even, 1 makes the first hospital twice as
            large as the second.
        column: Of `natural`, the column whose values are the hospitals.
        min_size: Fewest records (patients, where records name them) at a hospital.

    >>> Partition(kind="dirichlet", alpha=0.5).min_size
    10
    """

    kind: Kind
    alpha: float | None = None
    column: str | None = None
    min_size: int = 10

    def __post_init__(self) -> None:
        needs = {"dirichlet": "alpha", "quantity": "alpha", "natural": "column"}.get(self.kind)
        for name in ("alpha", "column"):
            given = getattr(self, name) is not None
            if given != (name == needs):
                raise InputError(
                    f"{name} of a partition of kind {self.kind!r}",
                    expected="none" if given else "a value",
                    found="one" if given else "none",
                )
        self._check_alpha()
        if self.min_size < 1:
            raise InputError("min_size", expected=">= 1", found=str(self.min_size))

    def _check_alpha(self) -> None:
        if self.alpha is None:
            return
        least = SMALLEST_ALPHA if self.kind == "dirichlet" else 0.0
        most = LARGEST_ALPHA if self.kind == "dirichlet" else 10.0
        if not least <= self.alpha <= most:
            raise InputError("alpha", expected=f"{least:g} to {most:g}", found=f"{self.alpha:g}")


def deal(
    partition: Partition,
    labels: Sequence[str],
    hospitals: int,
    rng: np.random.Generator,
    table: Mapping[str, Sequence[str]],
    *,
    patients: Sequence[str] | None = None,
) -> tuple[IntVector, ...]:
    """Deal out the N rows of a table.

    Args:
        partition: How.
        labels: Each row's label.
        hospitals: K, how many hospitals there are.
        rng: The only source of chance.
        table: All columns; kind `natural` reads one of them.
        patients: Whose each row is; a patient's rows stay together, and count as one with the
            label and the hospital of the first of them. Left out, every row is a patient.

    Returns:
        K vectors of ascending row numbers; each row is in one of them.

    Raises:
        InputError: A hospital would get less than `min_size`, or the column does not fit.

    >>> parts = deal(
    ...     Partition(kind="quantity", alpha=1.0, min_size=1),
    ...     labels=["ill", "well"] * 6, hospitals=3, rng=np.random.default_rng(0), table={},
    ... )
    >>> [len(part) for part in parts]
    [7, 3, 2]
    """
    if hospitals < 1:
        raise InputError("hospitals", expected=">= 1", found=str(hospitals))
    unit_N, first_U = _units(range(len(labels)) if patients is None else patients)
    if len(unit_N) != len(labels):
        raise InputError("labels and patients that differ in number")
    if len(first_U) < hospitals * partition.min_size:
        raise _too_few(partition, hospitals)
    if partition.kind == "natural":
        owner_U = _by_column(partition, hospitals, table)[first_U]
    else:
        label_U, _ = _units([labels[row] for row in first_U.tolist()])
        owner_U = _DEALERS[partition.kind](partition, label_U, hospitals, rng)
    if np.bincount(owner_U, minlength=hospitals).min() < partition.min_size:
        raise _too_few(partition, hospitals)
    return tuple(np.flatnonzero(owner_U[unit_N] == site) for site in range(hospitals))


def _units(keys: Sequence[Hashable]) -> tuple[IntVector, IntVector]:
    """Each row's unit, numbered by first appearance, and the first row of each unit."""
    number: dict[Hashable, int] = {}
    unit_N = np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)
    return unit_N, np.unique(unit_N, return_index=True)[1]


def _evenly(size: int, hospitals: int) -> IntVector:
    """Sizes that differ by one at most, larger ones first."""
    return size // hospitals + (np.arange(hospitals) < size % hospitals)


def _shuffled(size_K: IntVector, rng: np.random.Generator) -> IntVector:
    """Owners of all units in random order, `size_K` of each."""
    return rng.permutation(np.repeat(np.arange(len(size_K)), size_K))


def _iid(
    partition: Partition, label_U: IntVector, hospitals: int, rng: np.random.Generator
) -> IntVector:
    del partition
    return _shuffled(_evenly(len(label_U), hospitals), rng)


def _quantity(
    partition: Partition, label_U: IntVector, hospitals: int, rng: np.random.Generator
) -> IntVector:
    """Sizes proportional to rank^-alpha, but none below `min_size`."""
    share_K = np.arange(1, hospitals + 1, dtype=np.float64) ** -(partition.alpha or 0.0)
    size_K = np.full(hospitals, partition.min_size)
    for _ in range(len(label_U) - int(size_K.sum())):
        size_K[np.argmin((size_K + 0.5) / share_K)] += 1
    return _shuffled(size_K, rng)


def _dirichlet(
    partition: Partition, label_U: IntVector, hospitals: int, rng: np.random.Generator
) -> IntVector:
    """Equal sizes; each hospital's labels follow a mix drawn around the table's own.

    Hospitals draw in turn, one unit each, so that the labels that run out towards the end run out
    for all of them; a hospital whose labels are gone draws from what is left.

    Source: Hsu, Qi, Brown 2019, Measuring the Effects of Non-Identical Data Distribution for
    Federated Visual Classification, section 3.
    """
    left_C = np.bincount(label_U)
    prior_C = (partition.alpha or 0.0) * left_C / left_C.sum()
    mix_KC = rng.dirichlet(prior_C, size=hospitals)
    stock = [rng.permutation(np.flatnonzero(label_U == label)) for label in range(len(left_C))]
    owner_U = np.empty(len(label_U), dtype=np.int64)
    for turn, chance in enumerate(rng.random(len(label_U)).tolist()):
        site = turn % hospitals
        label = _draw(mix_KC[site], left_C, chance)
        left_C[label] -= 1
        owner_U[stock[label][left_C[label]]] = site
    return owner_U


def _draw(mix_C: FloatVector, left_C: IntVector, chance: float) -> int:
    """A label of those left, by the mix, or by what is left where the mix has none of them."""
    weight_C = np.where(left_C > 0, mix_C, 0.0)
    if not weight_C.sum() > 0:
        weight_C = left_C.astype(np.float64)
    reach_C = np.cumsum(weight_C)
    return int(np.searchsorted(reach_C, chance * reach_C[-1], side="right"))


_DEALERS: dict[Kind, Callable[[Partition, IntVector, int, np.random.Generator], IntVector]] = {
    "iid": _iid,
    "quantity": _quantity,
    "dirichlet": _dirichlet,
}


def _by_column(
    partition: Partition, hospitals: int, table: Mapping[str, Sequence[str]]
) -> IntVector:
    """Each row's hospital, hospitals in the order of their first rows."""
    name = partition.column or ""
    if name not in table:
        raise InputError(
            f"no column {name!r} to partition by", expected=f"one of {', '.join(table)}"
        )
    owner_N, first_K = _units(table[name])
    if len(first_K) != hospitals:
        raise InputError(
            f"hospitals in column {name!r}",
            expected=str(hospitals),
            found=str(len(first_K)),
            remedy=f"write 'hospitals: {len(first_K)}'",
        )
    return owner_N


def _too_few(partition: Partition, hospitals: int) -> InputError:
    return InputError(
        f"{hospitals} hospitals of kind {partition.kind!r}",
        expected=f"at least {partition.min_size} patients at each",
        remedy="lower 'min_size' or 'hospitals'",
    )
