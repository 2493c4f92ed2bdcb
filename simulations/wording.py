"""How results read, the same on the terminal, in the picture and on the page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from simulations.results import Result, Row

NOTHING = "-"
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Wording:
    """An arm in words.

    Args:
        label: Its name on a picture's axis.
        meaning: One sentence for who meets it for the first time.
    """

    label: str
    meaning: str


ARMS = {
    "local_only": Wording(
        "each hospital alone",
        "Every hospital trains on its own patients only; one model per hospital and seed.",
    ),
    "pooled": Wording(
        "all data in one place",
        "What could be learnt if all records were copied to one machine, without any protection.",
    ),
    "clear": Wording(
        "federated, in the clear",
        "Updates travel readable and without noise; the coordinator sees each of them.",
    ),
    "encrypted": Wording(
        "federated, encrypted",
        "Updates are encrypted and masked, so that only their sum is readable; without noise.",
    ),
    "distributed": Wording(
        "private, noise on the sum",
        "Encrypted, and the sum carries the noise: differential privacy under the stated trust.",
    ),
    "local": Wording(
        "private, noise at each hospital",
        "Encrypted, and every update is differentially private by itself, against everybody.",
    ),
}


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order in which they are read: baselines, federated, private; epsilon ascending.

    >>> rows = [Row(arm="local", scores=(1.0,), epsilon=1.0), Row(arm="pooled", scores=(1.0,))]
    >>> [row.arm for row in ordered(rows)]
    ['pooled', 'local']
    """
    places = {arm: place for place, arm in enumerate(ARMS)}
    return sorted(rows, key=lambda row: (places.get(row.arm, len(places)), row.epsilon or 0.0))


def label(row: Row) -> str:
    """An arm as a picture's axis says it, with its epsilon."""
    words = ARMS[row.arm].label if row.arm in ARMS else row.arm
    return words if row.epsilon is None else f"{words}, ε = {epsilon(row.epsilon)}"


def score(row: Row) -> str:
    """Mean and, of several models, standard deviation.

    >>> score(Row(arm="pooled", scores=(0.98, 1.0))), score(Row(arm="pooled", scores=(0.98,)))
    ('0.990 ± 0.014', '0.980')
    """
    mean = f"{row.mean:.3f}"
    return f"{mean} ± {row.sd:.3f}" if len(row.scores) > 1 else mean


def epsilon(value: float | None) -> str:
    """An epsilon, rounded up so that no guarantee reads better than it is.

    >>> epsilon(1.0), epsilon(2.154504), epsilon(0.0), epsilon(math.inf), epsilon(None)
    ('1', '2.16', '0', '∞', '-')
    """
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "∞"
    return f"{value if value == round(value, 2) else math.ceil(value * 100) / 100:.12g}"


def seconds(value: float | None) -> str:
    """A duration in milliseconds or seconds.

    >>> seconds(0.0421), seconds(2.5), seconds(None)
    ('42 ms', '2.50 s', '-')
    """
    if value is None:
        return NOTHING
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.2f} s"


def size(value: int | None) -> str:
    """An amount of data, in powers of 1000.

    >>> size(870), size(38_912), size(999_999), size(None)
    ('870 B', '38.9 kB', '1.0 MB', '-')
    """
    if value is None:
        return NOTHING
    amount, unit = float(value), 0
    while amount >= 999.95 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{value} B"


def seeds(result: Result) -> str:
    """How many seeds and which.

    >>> rows = (Row(arm="pooled", scores=(0.98, 1.0, 0.99)),)
    >>> seeds(Result(name="x", rows=rows, delta=1e-5, seeds=(0, 1, 2)))
    '3 seeds (0 to 2)'
    """
    if len(result.seeds) == 1:
        return f"seed {result.seeds[0]}"
    return f"{len(result.seeds)} seeds ({result.seeds[0]} to {result.seeds[-1]})"


def delta(result: Result) -> str:
    """Delta, as people write it.

    >>> rows = (Row(arm="pooled", scores=(0.98,)),)
    >>> delta(Result(name="x", rows=rows, delta=1e-5, seeds=(0,)))
    '1e-5'
    """
    mantissa, _, exponent = f"{result.delta:.12g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def private(result: Result) -> bool:
    """Whether any arm has a guarantee, so that delta means something."""
    return any(row.epsilon is not None for row in result.rows)


def tables(result: Result) -> list[str]:
    """What the tables cost by which features were scaled, beside what training cost.

    >>> both = {"epsilon_table": 1.0, "epsilon_both": 3.4, "epsilon_both_worst": 5.2}
    >>> row = Row(arm="distributed", scores=(1.0,), epsilon=3.0, **both)
    >>> (line,) = tables(Result(name="x", rows=(row,), delta=1e-5, seeds=(0,)))
    >>> line.split("; ")[1]
    '3.4 in ledgers, 5.2 if all others collude'
    """
    return [
        f"{row.arm}: ε {epsilon(row.epsilon)} for training and {epsilon(row.epsilon_table)} for"
        f" the table that scales its features; {epsilon(row.epsilon_both)} in ledgers,"
        f" {epsilon(row.epsilon_both_worst)} if all others collude"
        for row in ordered(result.rows)
        if row.epsilon_table is not None
    ]
