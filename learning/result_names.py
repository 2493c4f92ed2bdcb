"""How results are named beside a model's main metrics, and which are for one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

GAP = "gap:"
OBSERVED, PREDICTED = "observed ", "predicted "

Told = TypeVar("Told")


def of_subgroup(measure: str, column: str, level: str) -> str:
    """What a subgroup's result is called.

    >>> of_subgroup("auroc", "sex", "male")
    'auroc@sex=male'
    """
    return f"{measure}@{column}={level}"


def of_gap(measure: str, column: str) -> str:
    """What the largest difference between subgroups is called.

    >>> of_gap("auroc", "sex")
    'gap:auroc@sex'
    """
    return f"{GAP}{measure}@{column}"


def is_of_subgroup(name: str) -> bool:
    """Whether a result is a subgroup's; a class may have an @ in its name.

    >>> is_of_subgroup("recall:a@home@sex=male"), is_of_subgroup("recall:a@home")
    (True, False)
    """
    return not name.startswith(GAP) and "=" in name.partition("@")[2]


def headline(metrics: Mapping[str, Told]) -> dict[str, Told]:
    """The metrics for one line: without single subgroups and without the calibration curve.

    >>> names = ("auroc", "auroc@sex=male", "gap:auroc@sex", "observed 0.04-0.16")
    >>> list(headline(dict.fromkeys(names, 1)))
    ['auroc', 'gap:auroc@sex']
    """
    return {
        name: metric
        for name, metric in metrics.items()
        if not (is_of_subgroup(name) or name.startswith((OBSERVED, PREDICTED)))
    }
