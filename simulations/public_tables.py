"""Public tables of clinical studies that come inside the package lifelines (MIT), read as files.

The package is an extra and is not imported: its data are plain CSV files beside its code.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import compress
from pathlib import Path

from protocol.errors import InputError

Cells = dict[str, list[str]]

EVERY_ARM = {"0": "zidovudine", "1": "with_didanosine", "2": "with_zalcitabine", "3": "didanosine"}


def lung() -> Cells:
    """Advanced lung cancer: 227 patients whose institution is known, of 18, days until death.

    Source: Loprinzi et al. 1994, Prospective Evaluation of Prognostic Variables from
    Patient-Completed Questionnaires, Journal of Clinical Oncology 12.
    """
    raw = _read("lung.csv")
    known = [bool(cell) for cell in raw["inst"]]
    raw = {name: list(compress(cells, known)) for name, cells in raw.items()}
    names = {
        "time": "days", "age": "age", "ph.ecog": "ecog", "ph.karno": "karnofsky_physician",
        "pat.karno": "karnofsky_patient", "meal.cal": "calories", "wt.loss": "weight_loss",
    }  # fmt: skip
    return {
        **_renamed(raw, names),
        "sex": _coded(raw["sex"], {"1": "male", "2": "female"}),
        "died": _coded(raw["status"], {"0": "no", "1": "yes", "2": "yes"}),
        "institution": [f"institution-{_whole(cell)}" for cell in raw["inst"]],
    }


def gbsg2() -> Cells:
    """Node-positive breast cancer: 686 patients, days until relapse or death.

    Source: Schumacher et al. 1994, Randomized 2 x 2 Trial Evaluating Hormonal Treatment and the
    Duration of Chemotherapy in Node-Positive Breast Cancer Patients, Journal of Clinical
    Oncology 12 (German Breast Cancer Study Group 2).
    """
    raw = _read("gbsg2.csv")
    names = {
        "time": "days", "age": "age", "tsize": "tumour_size", "pnodes": "nodes",
        "progrec": "progesterone", "estrec": "estrogen", "tgrade": "grade",
    }  # fmt: skip
    return {
        **_renamed(raw, names),
        "hormones": _coded(raw["horTh"], {"no": "no", "yes": "yes"}),
        "postmenopausal": _coded(raw["menostat"], {"Pre": "no", "Post": "yes"}),
        "relapsed": _coded(raw["cens"], {"0": "no", "1": "yes"}),
    }


def actg175() -> Cells:
    """HIV: 2,139 patients, randomised evenly to four treatments.

    The outcome is whether the CD4 count after 20 weeks was at least what it was at the start.

    Source: Hammer et al. 1996, A Trial Comparing Nucleoside Monotherapy with Combination Therapy in
    HIV-Infected Adults, New England Journal of Medicine 335.
    """
    raw = _read("ACTG175.csv")
    names = {
        "age": "age", "wtkg": "weight", "karnof": "karnofsky", "cd40": "cd4", "cd80": "cd8",
        "preanti": "days_treated_before",
    }  # fmt: skip
    flags = {
        "hemo": "haemophilia", "homo": "homosexual", "drugs": "drugs", "race": "non_white",
        "gender": "male", "str2": "treated_before", "symptom": "symptoms",
    }  # fmt: skip
    kept = [
        "yes" if float(after) >= float(before) else "no"
        for before, after in zip(raw["cd40"], raw["cd420"], strict=True)
    ]
    return {
        **_renamed(raw, names),
        **_renamed(raw, flags),
        "treatment": _coded(raw["arms"], EVERY_ARM),
        "cd4_kept": kept,
    }


def _read(name: str) -> Cells:
    """The columns of a CSV file beside lifelines' code.

    Raises:
        InputError: The package is not installed.
    """
    found = find_spec("lifelines")
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"{name} comes with lifelines, which is not installed",
            remedy="pip install 'fedward[studies]'",
        )
    path = Path(next(iter(found.submodule_search_locations))) / "datasets" / name
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {column: [row[column] for row in rows] for column in rows[0]}


def _renamed(raw: Mapping[str, Sequence[str]], names: Mapping[str, str]) -> Cells:
    return {ours: [_empty(cell) for cell in raw[theirs]] for theirs, ours in names.items()}


def _empty(cell: str) -> str:
    return "" if cell in {"", "NA"} else cell


def _coded(cells: Sequence[str], words: Mapping[str, str]) -> list[str]:
    return [words.get(cell if cell in words else _whole(cell), "") for cell in cells]


def _whole(cell: str) -> str:
    """A whole number without its decimal point, anything else as it is."""
    try:
        number = float(cell)
    except ValueError:
        return cell
    return str(int(number)) if math.isfinite(number) else cell
