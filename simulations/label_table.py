"""Invented patients with three diagnoses that share causes, whose law is known.

Each diagnosis is a yes or no with a chance that follows from the patient's numbers. Two of them are
not known of everybody, since nobody looked; whether somebody looked is chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from learning.task import FloatArray

Cells = dict[str, list[str]]

HOSPITALS = ("north", "south", "east", "west", "centre")
NUMBERS = ("age", "systolic", "lactate", "creatinine", "haemoglobin", "pulse")
# Middle and spread of each number, and how far hospitals' patients differ from each other in it.
MIDDLES = np.array([62.0, 128.0, 1.6, 95.0, 128.0, 84.0])
SPREADS = np.array([15.0, 20.0, 0.8, 30.0, 18.0, 16.0])
BETWEEN = 0.3

LABELS = ("sepsis", "kidney_failure", "transfusion")
# Log-odds of each diagnosis by number, in spreads; pulse and age count for all.
SLOPES = np.array(
    [
        [0.4, -0.7, 1.4, 0.2, 0.0, 0.7],
        [0.5, -0.2, 0.3, 1.6, -0.2, 0.2],
        [0.3, -0.4, 0.2, 0.1, -1.7, 0.4],
    ]
)
BASES = np.array([-1.0, -1.4, -1.6])
LOOKED = 0.8


@dataclass(frozen=True)
class Patients:
    """Invented patients.

    Args:
        table: As they would stand in a file; an empty cell says that nobody looked.
        chance_NL: Each patient's chance of each diagnosis.
    """

    table: Cells
    chance_NL: FloatArray  # noqa: N815 - the shape is part of the name


def patients(each: int = 200, seed: int = 20261121) -> Patients:
    """Patients of all hospitals.

    Args:
        each: At each hospital.
        seed: What they are drawn from.
    """
    rng = np.random.default_rng(seed)
    count = each * len(HOSPITALS)
    shift_KF = BETWEEN * rng.normal(size=(len(HOSPITALS), len(NUMBERS)))
    scaled_NF = rng.normal(size=(count, len(NUMBERS))) + np.repeat(shift_KF, each, axis=0)
    chance_NL = 1 / (1 + np.exp(-(scaled_NF @ SLOPES.T + BASES)))
    yes_NL = rng.random(chance_NL.shape) < chance_NL
    looked_NL = rng.random(chance_NL.shape) < LOOKED
    looked_NL[:, 0] = True
    table = {"hospital": [name for name in HOSPITALS for _ in range(each)]}
    for place, name in enumerate(NUMBERS):
        value_N = MIDDLES[place] + SPREADS[place] * scaled_NF[:, place]
        table[name] = [f"{max(value, 0.0):.2f}" for value in value_N]
    for place, name in enumerate(LABELS):
        states = zip(yes_NL[:, place], looked_NL[:, place], strict=True)
        table[name] = [("yes" if yes else "no") if looked else "" for yes, looked in states]
    return Patients(table, chance_NL)
